from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from shop.letters import send_letter

from jobs import task


# Rows of django-q2 name these functions: they stay functions until its queue is empty.
def send_welcome(user_id: int) -> str:
    return send_letter("welcome", user_id)


def remind(user_id: int) -> None:
    send_letter("remind", user_id)


# New calls go to these.
welcome_job = task(max_attempts=3, timeout=60)(send_welcome)
remind_job = task(remind)


def sign_up(name: str) -> User:
    with transaction.atomic():
        user = User.objects.create_user(name)
        welcome_job.enqueue(user.pk)
        remind_job.using(delay=timedelta(seconds=1)).enqueue(user.pk)
    return user
