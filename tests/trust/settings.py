"""Settings of the scorecard: the two apps and nothing else, so that a worker is there at once.

`TEST_JOBS` and `TEST_OUTBOX` (JSON objects) change JOBS and OUTBOX, `TEST_DATABASE` the database's own settings,
`TEST_OPTIONS` its options.
"""

from __future__ import annotations

import json
import os

import environ

SECRET_KEY = "not a secret: this project proves something and is gone"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "outbox", "jobs", "tests", "tests.trust"]
DATABASES = {
    "default": {
        **environ.Env.db_url_config(os.environ["DATABASE_URL"]),
        **json.loads(os.environ.get("TEST_DATABASE", "{}")),
    }
}
# Beside the options that the URL may have.
DATABASES["default"].setdefault("OPTIONS", {}).update(json.loads(os.environ.get("TEST_OPTIONS", "{}")))
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
OUTBOX: dict[str, object] = json.loads(os.environ.get("TEST_OUTBOX", "{}"))
JOBS: dict[str, object] = {
    "QUEUES": ["default", "mail", "reports"],
    "MAX_ATTEMPTS_LIMIT": 10,
    **json.loads(os.environ.get("TEST_JOBS", "{}")),
}
LOGGING = {"version": 1, "disable_existing_loggers": False}
