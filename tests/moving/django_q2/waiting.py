from django_q.models import OrmQ, Schedule


def waiting() -> int:
    return OrmQ.objects.count() + Schedule.objects.count()
