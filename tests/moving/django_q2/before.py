from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django_q.models import Schedule
from django_q.tasks import async_task, schedule
from shop.letters import send_letter


def send_welcome(user_id):
    return send_letter("welcome", user_id)


def remind(user_id):
    send_letter("remind", user_id)


def sign_up(name):
    with transaction.atomic():
        user = User.objects.create_user(name)
        async_task("shop.tasks.send_welcome", user.pk, timeout=60)
        schedule(
            "shop.tasks.remind",
            user.pk,
            schedule_type=Schedule.ONCE,
            next_run=timezone.now() + timedelta(seconds=1),
        )
    return user
