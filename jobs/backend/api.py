"""Where Django's task interface comes from: `django.tasks` since Django 6.0, the package `django-tasks` before.

Both have the same names for the same things, but for two exceptions and one function. Nothing here imports a model, so
a task may be declared before any model is loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

MISSING = (
    "JobsBackend needs Django 6.0 or later, or the package django-tasks on Django 5.2:"
    ' pip install "django-outbox-jobs[tasks]", and add "django_tasks" to INSTALLED_APPS.'
)


def _package() -> str:
    for name in ("django.tasks", "django_tasks"):
        try:
            import_module(name)
        except ModuleNotFoundError:
            continue
        return name
    raise ImportError(MISSING)


PACKAGE = _package()

# Two sources of one interface: nothing a type checker can know without either of them.
tasks: Any = import_module(PACKAGE)
base: Any = import_module(f"{PACKAGE}.base")
signals: Any = import_module(f"{PACKAGE}.signals")
exceptions: Any = import_module(f"{PACKAGE}.exceptions")
backends: Any = import_module(f"{PACKAGE}.backends.base")
InvalidTask: Any = getattr(exceptions, "InvalidTask", None) or exceptions.InvalidTaskError
normalize_json: Any = import_module(
    "django.utils.json" if PACKAGE == "django.tasks" else "django_tasks.utils"
).normalize_json
