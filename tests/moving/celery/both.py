from datetime import datetime, timedelta

from celery import shared_task
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from shop.letters import send_letter

from jobs import every, task


# New calls come here.
@task(retry_on=OSError, max_attempts=4, backoff=[5, 10, 20], timeout=60)
def send_welcome(user_id: int) -> str:
    return send_letter("welcome", user_id)


def never_came(user_id: int) -> bool:
    return User.objects.filter(pk=user_id, last_login=None).exists()


@task(only_if=never_came)
def remind(user_id: int) -> None:
    send_letter("remind", user_id)


def sign_up(name: str) -> User:
    with transaction.atomic():
        user = User.objects.create_user(name)
        send_welcome.enqueue(user.pk)
        remind.using(delay=timedelta(seconds=1)).enqueue(user.pk)
    return user


# Messages that wait have these names. Old workers run them as ever ...
@shared_task(
    name="shop.tasks.send_welcome",
    acks_late=True,
    autoretry_for=(OSError,),
    max_retries=3,
    retry_backoff=5,
    time_limit=60,
)
def old_send_welcome(user_id):
    return send_welcome.call(user_id)


# ... or hand them over: the message's own id is the key, so that one that is delivered twice is one job.
@shared_task(name="shop.tasks.remind", bind=True, acks_late=True)
def old_remind(self, user_id):
    remind.using(idempotency_key=self.request.id).enqueue(user_id)


# A schedule that both of them have: whoever is first makes the job of that day.
@task
def report(day: str) -> None:
    send_letter("report", day)


def report_once(day: str) -> None:
    report.using(idempotency_key=f"report-{day}").enqueue(day)


@every("0 2 * * *", tick_as="at")
@task
def nightly_report(at: str) -> None:
    report_once(str(timezone.localdate(datetime.fromisoformat(at))))


@shared_task(name="shop.tasks.nightly_report", acks_late=True)
def old_nightly_report():
    report_once(str(timezone.localdate()))
