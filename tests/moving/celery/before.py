from celery import shared_task
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from shop.letters import send_letter


@shared_task(acks_late=True, autoretry_for=(OSError,), max_retries=3, retry_backoff=5, time_limit=60)
def send_welcome(user_id):
    return send_letter("welcome", user_id)


@shared_task
def remind(user_id):
    if User.objects.filter(pk=user_id, last_login=None).exists():
        send_letter("remind", user_id)


@shared_task  # CELERY_BEAT_SCHEDULE: {"task": "shop.tasks.nightly_report", "schedule": crontab(hour=2, minute=0)}
def nightly_report():
    send_letter("report", timezone.localdate())


def sign_up(name):
    with transaction.atomic():
        user = User.objects.create_user(name)
        transaction.on_commit(lambda: send_welcome.delay(user.pk))
        transaction.on_commit(lambda: remind.apply_async((user.pk,), countdown=1))
    return user
