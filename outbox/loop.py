"""The one loop. Everything that runs for ever is a `step` in it, and tests call the step.

It takes a step that does one bounded piece of work and answers how long to wait before the next; it leaves nothing.
No error ends it: a lost database is logged and tried again with growing, random pauses.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from django.db import Error as DjangoDatabaseError

from outbox import faults
from outbox.session import backoff

logger = logging.getLogger("outbox")

Step = Callable[[], float]
"""Does one piece of work; answers the seconds to wait before the next (0: there is more)."""


def run(
    name: str,
    step: Step,
    *,
    wait: Callable[[float], None],
    stopping: Callable[[], bool],
    on_error: Callable[[], None] = lambda: None,
) -> None:
    """Step until `stopping()`. `wait(seconds)` may end early; `on_error` drops what an error made doubtful."""
    failures = 0
    while not stopping():
        try:
            pause = step()
            failures = 0
            if pause > 0 and not stopping():
                wait(pause)
        except Exception as error:
            failures += 1
            _tell(name, error, failures)
            on_error()
            _pause(backoff(failures), stopping)


def _tell(name: str, error: Exception, failures: int) -> None:
    if isinstance(error, (*faults.OPERATIONAL, DjangoDatabaseError)):
        logger.warning("%s: the database said %s; trying again (%d)", name, str(error).strip(), failures)
    else:
        logger.error("%s: an unexpected error; trying again (%d)", name, failures, exc_info=error)


def _pause(seconds: float, stopping: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not stopping() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
