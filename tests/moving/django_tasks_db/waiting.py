from django_tasks_db.models import DBTaskResult


def waiting() -> int:
    return DBTaskResult.objects.filter(status__in=["READY", "RUNNING"]).count()
