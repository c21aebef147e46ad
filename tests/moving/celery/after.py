from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from shop.letters import send_letter

from jobs import every, task


@task(retry_on=OSError, max_attempts=4, backoff=[5, 10, 20], timeout=60)
def send_welcome(user_id: int) -> str:
    return send_letter("welcome", user_id)


def never_came(user_id: int) -> bool:
    return User.objects.filter(pk=user_id, last_login=None).exists()


@task(only_if=never_came)
def remind(user_id: int) -> None:
    send_letter("remind", user_id)


@every("0 2 * * *", tick_as="at")
@task
def nightly_report(at: str) -> None:
    send_letter("report", timezone.localdate(datetime.fromisoformat(at)))


def sign_up(name: str) -> User:
    with transaction.atomic():
        user = User.objects.create_user(name)
        send_welcome.enqueue(user.pk)
        remind.using(delay=timedelta(seconds=1)).enqueue(user.pk)
    return user
