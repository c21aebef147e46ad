from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from shop.letters import send_letter

from jobs import task


@task(max_attempts=3, timeout=60)
def send_welcome(user_id: int) -> str:
    return send_letter("welcome", user_id)


@task
def remind(user_id: int) -> None:
    send_letter("remind", user_id)


def sign_up(name: str) -> User:
    with transaction.atomic():
        user = User.objects.create_user(name)
        send_welcome.enqueue(user.pk)
        remind.using(delay=timedelta(seconds=1)).enqueue(user.pk)
    return user
