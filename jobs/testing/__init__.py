"""What the tests of an application use. Nothing here is imported by a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.lazy import lazily

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
    "Enqueued": "jobs.testing.looks",
    "Ran": "jobs.testing.inline",
    "assert_enqueued": "jobs.testing.looks",
    "assert_idempotent": "jobs.testing.idempotency",
    "assert_not_enqueued": "jobs.testing.looks",
    "enqueued": "jobs.testing.looks",
    "run_jobs": "jobs.testing.inline",
}

__getattr__ = lazily(__name__, _HOMES)
