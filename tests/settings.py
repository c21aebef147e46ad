"""The demo project's settings with the tests' own app and a second database beside it.

`TEST_JOBS` and `TEST_OUTBOX` in the environment (JSON objects) change JOBS and OUTBOX for the processes a test starts.
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec

from project.settings import *  # noqa: F403
from project.settings import DATABASES, INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = [*INSTALLED_APPS, "tests"]
MIDDLEWARE = ["tests.support.policy.strict", *MIDDLEWARE]
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # Two files that the processes of a test open as well; nobody there is behind a lock for long.
    OPTIONS = {"transaction_mode": "IMMEDIATE", "timeout": 5, "init_command": "PRAGMA journal_mode=WAL"}
    FILE = str(DATABASES["default"]["NAME"])
    DATABASES["default"] |= {"OPTIONS": OPTIONS, "TEST": {"NAME": f"{FILE}.test"}}
    DATABASES["other"] = {**DATABASES["default"], "NAME": f"{FILE}.other", "TEST": {"NAME": f"{FILE}.other.test"}}
else:
    DATABASES = {**DATABASES, "other": {**DATABASES["default"], "TEST": {"NAME": "test_other"}}}
if os.environ.get("TEST_POOL"):
    DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {"min_size": 1, "max_size": 4}
DEBUG = False
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
OUTBOX: dict[str, object] = json.loads(os.environ.get("TEST_OUTBOX", "{}"))
JOBS: dict[str, object] = {
    "QUEUES": ["default", "mail", "reports"],
    "MAX_ATTEMPTS_LIMIT": 10,
    "TRACING": "off",  # a test that wants spans says so
    "SCHEDULES": False,  # a test that wants the demo shop's to run says so
    **json.loads(os.environ.get("TEST_JOBS", "{}")),
}
if os.environ.get("TEST_SPANS"):
    INSTALLED_APPS += ["tests.telemetry.Telemetry"]
LOGGING = {"version": 1, "disable_existing_loggers": False}

SERVED = JOBS["QUEUES"]
# Only queues that this process's JOBS has: a benchmark has fewer, and the check refuses one that no worker serves.
OURS = {
    "BACKEND": "jobs.backend.JobsBackend",
    "QUEUES": [name for name in ("default", "mail") if isinstance(SERVED, list) and name in SERVED],
}
TASKS: dict[str, dict[str, object]] = {}
if find_spec("django.tasks") or find_spec("django_tasks"):
    package = "django.tasks" if find_spec("django.tasks") else "django_tasks"
    TASKS = {
        "default": {**OURS, "OPTIONS": {"MODULES": os.environ.get("TEST_MODULES", "").split()}},
        "eager": {**OURS, "MAX_ATTEMPTS": 3, "BACKOFF": 0, "OPTIONS": {"TIMEOUT": 30}},
        "immediate": {"BACKEND": f"{package}.backends.immediate.ImmediateBackend", "QUEUES": ["default", "mail"]},
        "dummy": {"BACKEND": f"{package}.backends.dummy.DummyBackend", "QUEUES": ["default", "mail"]},
    }
    if another := os.environ.get("TEST_DEFAULT_BACKEND"):  # for a comparison of backends
        TASKS["default"] = {"BACKEND": another, "QUEUES": ["default", "mail"]}
    if find_spec("django_tasks_db"):
        INSTALLED_APPS += ["django_tasks_db"]
    if package == "django_tasks":
        INSTALLED_APPS += ["django_tasks"]
