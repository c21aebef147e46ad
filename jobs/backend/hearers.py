"""Whether anybody hears a signal of Django's tasks: where nobody does, nothing is made for it.

Django connects one receiver to each of them, its own log; it counts only where its logger would write.
"""

from __future__ import annotations

import logging
from typing import Any

from jobs.backend.api import signals

logger: logging.Logger = signals.logger

LOGS = {id(signals.log_task_enqueued), id(signals.log_task_started), id(signals.log_task_finished)}


def hears(signal: Any, level: int) -> bool:
    """Whether a receiver is connected, or Django's log would write a line of this level."""
    for receiver in signal.receivers:
        if receiver[0][0] not in LOGS:
            return True
    return bool(signal.receivers) and logger.isEnabledFor(level)
