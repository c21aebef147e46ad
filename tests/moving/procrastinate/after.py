from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from shop.letters import send_letter

from jobs import JobContext, task


@task(priority=10, retry_on=OSError, max_attempts=4, backoff=5)
def send_welcome(user_id: int) -> str:
    return send_letter("welcome", user_id)


@task(takes_context=True)
def remind(context: JobContext, user_id: int) -> None:
    send_letter("remind", user_id)


def sign_up(name: str) -> User:
    with transaction.atomic():
        user = User.objects.create_user(name)
        send_welcome.enqueue(user.pk)
        remind.using(delay=timedelta(seconds=1), idempotency_key=f"remind-{user.pk}", until="finished").enqueue(user.pk)
    return user
