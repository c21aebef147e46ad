from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.tasks import task
from django.utils import timezone
from shop.letters import send_letter


@task(priority=10)
def send_welcome(user_id):
    return send_letter("welcome", user_id)


@task
def remind(user_id):
    send_letter("remind", user_id)


def sign_up(name):
    with transaction.atomic():
        user = User.objects.create_user(name)
        send_welcome.enqueue(user.pk)
        remind.using(run_after=timezone.now() + timedelta(seconds=1)).enqueue(user.pk)
    return user
