"""The demo project's settings with the tests' own app beside it."""

from __future__ import annotations

from project.settings import *  # noqa: F403
from project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests"]
DEBUG = False
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
JOBS: dict[str, object] = {"QUEUES": ["default", "mail", "reports"], "MAX_ATTEMPTS_LIMIT": 10}
