from django.db import transaction
from django.utils.module_loading import import_string
from django_tasks_db.models import DBTaskResult, get_date_max


def move_what_waits() -> int:
    """Enqueue again, on the new backend, what no old worker has begun: one transaction, so each is one job."""
    with transaction.atomic():
        waiting = list(DBTaskResult.objects.select_for_update(skip_locked=True).filter(status="READY"))
        for row in waiting:
            task = import_string(row.task_path).using(priority=row.priority, queue_name=row.queue_name)
            if row.run_after != get_date_max():
                task = task.using(run_after=row.run_after)
            task.enqueue(*row.args_kwargs["args"], **row.args_kwargs["kwargs"])
            row.delete()
    return len(waiting)
