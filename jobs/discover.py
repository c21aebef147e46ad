"""Find every task a worker must know, before it starts.

Tasks are known by being declared in a module that somebody imports: `tasks.py` of each app at start-up, and for Django
tasks what `TASKS` names besides. Only settings say what is imported, never a row.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

from django.conf import settings
from django.utils.module_loading import import_string


def for_workers() -> None:
    """In a process that runs jobs or judges them: the modules that TASKS names, and the tasks of other backends."""
    if not (aliases := our_aliases()):
        return
    from jobs.backend.adopt import adopt_loaded
    from jobs.backend.api import tasks

    for alias in aliases:
        for name in tasks.task_backends[alias].settings.modules:
            import_module(name)
    adopt_loaded(tasks.task_backends[aliases[0]])


def our_aliases() -> list[str]:
    """The aliases of TASKS that are this system's; none where Django has no tasks."""
    found: list[str] = []
    given = getattr(settings, "TASKS", None) or {}
    with suppress(ImportError):
        from jobs.backend import JobsBackend

        for alias, params in given.items():
            # Another backend may need what is not installed here; that is its own affair.
            with suppress(ImportError):
                backend = import_string(params.get("BACKEND", ""))
                if isinstance(backend, type) and issubclass(backend, JobsBackend):
                    found.append(alias)
    return found
