from procrastinate.contrib.django.models import ProcrastinateJob


def waiting() -> int:
    return ProcrastinateJob.objects.filter(status__in=["todo", "doing"]).count()
