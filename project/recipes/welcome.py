"""A welcome e-mail: it is sent if and only if the account was made."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction

from jobs import task
from project.recipes.letters import send_letter


@task(max_attempts=3)
def send_welcome(user_id: int) -> None:
    user = User.objects.get(pk=user_id)
    send_letter(user.email, "Welcome to the shop", f"Dear {user.username},\n\nit is good to have you here.\n")


@transaction.atomic
def sign_up(username: str, email: str) -> User:
    user = User.objects.create_user(username, email)
    send_welcome.enqueue(user.pk)
    return user
