"""What the tests of an application use. Nothing here is imported by a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.testing.idempotency import assert_idempotent as assert_idempotent
    from jobs.testing.inline import Ran as Ran
    from jobs.testing.inline import run_jobs as run_jobs
    from jobs.testing.looks import Enqueued as Enqueued
    from jobs.testing.looks import assert_enqueued as assert_enqueued
    from jobs.testing.looks import assert_not_enqueued as assert_not_enqueued
    from jobs.testing.looks import enqueued as enqueued

__all__ = ["Enqueued", "Ran", "assert_enqueued", "assert_idempotent", "assert_not_enqueued", "enqueued", "run_jobs"]

_HOMES = {
    "Enqueued": "looks",
    "Ran": "inline",
    "assert_enqueued": "looks",
    "assert_idempotent": "idempotency",
    "assert_not_enqueued": "looks",
    "enqueued": "looks",
    "run_jobs": "inline",
}


def __getattr__(name: str) -> Any:
    # The pytest plugin lives in this package and is loaded before Django is set up; what the names stand on is not.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"jobs.testing.{_HOMES[name]}"), name)
