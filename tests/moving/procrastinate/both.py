from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from procrastinate import RetryStrategy
from procrastinate.contrib.django import app
from shop.letters import send_letter

from jobs import JobContext, task


# New calls come here.
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


# Jobs that wait in Procrastinate have these names.
@app.task(name="shop.tasks.send_welcome", retry=RetryStrategy(max_attempts=3, wait=5, retry_exceptions={OSError}))
def old_send_welcome(user_id):
    return send_welcome.call(user_id)


@app.task(name="shop.tasks.remind")
def old_remind(user_id):
    remind.call(user_id)
