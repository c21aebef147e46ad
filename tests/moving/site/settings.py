"""A site that moves: PEER is the queue it comes from, STAGE how far it is (before, both, after)."""

import os
from urllib.parse import parse_qsl, urlsplit

PEER, STAGE = os.environ["PEER"], os.environ["STAGE"]
OLD, NEW = STAGE in ("before", "both"), STAGE in ("both", "after")

THEIRS = {
    "celery": [],
    "django_tasks_db": ["django_tasks_db"],
    "django_q2": ["django_q"],
    "procrastinate": ["procrastinate.contrib.django"],
}

SECRET_KEY = "of nobody"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    *(THEIRS[PEER] if OLD else []),
    *(["outbox", "jobs"] if NEW else []),
    "shop",
]

url = urlsplit(os.environ["DATABASE_URL"])
query = dict(parse_qsl(url.query))
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path[1:],
        "USER": url.username or "",
        "PASSWORD": url.password or "",
        "HOST": query.get("host", url.hostname or ""),
        "PORT": str(url.port or ""),
    }
}

# django-tasks-db: the same tasks, another line of settings. The old worker keeps the old one until its table is empty.
if PEER == "django_tasks_db":
    ours = NEW and not os.environ.get("DRAIN")
    TASKS = {
        "default": {"BACKEND": "jobs.backend.JobsBackend" if ours else "django_tasks_db.DatabaseBackend"},
    }

Q_CLUSTER = {
    "name": "shop", "orm": "default", "workers": 1, "timeout": 60, "retry": 120, "poll": 0.1, "catch_up": False,
}  # fmt: skip

if PEER == "celery":
    folder = os.environ["BROKER"]
    CELERY_BROKER_URL = "filesystem://"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": f"{folder}/messages",
        "data_folder_out": f"{folder}/messages",
        "control_folder": f"{folder}/control",
    }
    CELERY_TASK_IGNORE_RESULT = True
