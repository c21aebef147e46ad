"""What the tests of an application use. Nothing here is imported by a worker."""

from jobs.testing.idempotency import assert_idempotent as assert_idempotent

__all__ = ["assert_idempotent"]
