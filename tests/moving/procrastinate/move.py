from django.db import transaction
from django.utils.module_loading import import_string
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob


def move_what_waits() -> int:
    """Enqueue here what no Procrastinate worker has begun, and delete it there: one transaction, so each is one job."""
    with transaction.atomic():
        waiting = list(ProcrastinateJob.objects.select_for_update(skip_locked=True).filter(status="todo"))
        for row in waiting:
            task = import_string(row.task_name)
            if row.scheduled_at is not None:
                task = task.using(run_after=row.scheduled_at)
            task.enqueue(**row.args)
            app.job_manager.cancel_job_by_id(row.pk, delete_job=True)
    return len(waiting)
