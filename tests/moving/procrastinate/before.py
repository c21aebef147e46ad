from django.contrib.auth.models import User
from django.db import transaction
from procrastinate import RetryStrategy
from procrastinate.contrib.django import app
from shop.letters import send_letter


@app.task(priority=10, retry=RetryStrategy(max_attempts=3, wait=5, retry_exceptions={OSError}))
def send_welcome(user_id):
    return send_letter("welcome", user_id)


@app.task(pass_context=True, queueing_lock="remind")
def remind(context, user_id):
    send_letter("remind", user_id)


def sign_up(name):
    with transaction.atomic():
        user = User.objects.create_user(name)
        send_welcome.defer(user_id=user.pk)
        remind.configure(schedule_in={"seconds": 1}, queueing_lock=f"remind-{user.pk}").defer(user_id=user.pk)
    return user
