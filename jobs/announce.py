"""Send the signals about outcomes that are committed, in a thread of their own.

It takes what `finish` has written; it leaves it with the receivers, which are the application's code: one that raises
is logged, one that hangs keeps later signals waiting and nothing else, no claim, no outcome and no heartbeat. The
process that has written an outcome sends: the slot that ran the job, or the keeper of the worker that found it lost or
timed out. A crash loses what was not sent yet. Without a receiver there is no thread.
"""

from __future__ import annotations

import logging
import queue
import signal as signals_of_the_system
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections
from django.dispatch import Signal

from jobs.declare import registry
from jobs.outcome import Outcome
from jobs.signals import ALL, job_cancelled, job_died, job_retried, job_succeeded, process_started

logger = logging.getLogger("jobs")

MOST_WAITING = 10_000

OF_STATE = {"succeeded": job_succeeded, "dead": job_died, "cancelled": job_cancelled, "retrying": job_retried}


class News(NamedTuple):
    """One signal to be sent."""

    signal: Signal
    task: str
    told: dict[str, Any]

    def send(self) -> None:
        # send_robust logs what a receiver raises and goes on with the next one.
        self.signal.send_robust(registry.get(self.task), task=self.task, **self.told)


_waiting: queue.Queue[News] = queue.Queue(MOST_WAITING)
_starting = threading.Lock()
_thread: threading.Thread | None = None


def announce(outcomes: Sequence[Outcome], ids: set[UUID] | None) -> None:
    """Have the signals sent for the outcomes that were written, by their `ids`; None is all of them."""
    if not any(each.receivers for each in ALL):
        return
    now = time.monotonic()
    for o in outcomes:
        # A crash that is not the last one goes straight back to ready; what was only handed back is no news.
        signal = OF_STATE.get(o.state) or (job_retried if o.state == "ready" and o.kind else None)
        if signal is not None and signal.receivers and (ids is None or o.id in ids):
            _put(
                News(
                    signal,
                    o.task,
                    {
                        "job_id": o.id,
                        "queue": o.queue,
                        "attempt": o.number,
                        "outcome": o.state,
                        "error": o.error,
                        "duration": None if o.started is None else max(0.0, now - o.started),
                    },
                )
            )


def cancelled(rows: Sequence[tuple[Any, ...]], reason: str, *, here: bool = False) -> None:
    """The same for jobs that were cancelled while they waited: rows of (id, task, queue, attempts). `here` sends at
    once, in the calling thread."""
    for job_id, task, queue_name, attempts in rows if job_cancelled.receivers else ():
        told = {"attempt": attempts, "outcome": "cancelled", "error": reason, "duration": None}
        news = News(job_cancelled, task, {"job_id": job_id, "queue": queue_name, **told})
        if here:
            news.send()
        else:
            _put(news)


def begun(kind: str) -> None:
    """Say that this process has just started; what a receiver raises is logged."""
    process_started.send_robust(None, process=kind)


def drain(seconds: float = 1.0) -> bool:
    """Wait until everything is sent, but not longer; whether it is."""
    with _waiting.all_tasks_done:
        return _waiting.all_tasks_done.wait_for(lambda: not _waiting.unfinished_tasks, seconds)


def _put(news: News) -> None:
    global _thread
    try:
        _waiting.put_nowait(news)
    except queue.Full:
        logger.warning("a receiver of signals is too slow: that job %s is %s is not sent", *_named(news))
        return
    with _starting:
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_run, name="jobs-signals", daemon=True)
            _thread.start()


def _run() -> None:
    # SIGTERM is for the main thread, where it can interrupt a job.
    signals_of_the_system.pthread_sigmask(signals_of_the_system.SIG_BLOCK, {signals_of_the_system.SIGTERM})
    while True:
        news = _waiting.get()
        try:
            news.send()
        except BaseException:
            logger.exception("a receiver ended the signal that job %s is %s", *_named(news))
        finally:
            if _waiting.empty():
                connections.close_all()  # this thread's own: nobody else would
            _waiting.task_done()


def _named(news: News) -> tuple[Any, Any]:
    return news.told["job_id"], news.told["outcome"]
