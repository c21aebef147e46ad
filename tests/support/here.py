"""Run jobs in this very process, with the real verbs: relay, claim, execute, finish, and what is said afterwards."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections

from jobs.atomic import execute_atomic
from jobs.claim import Claimed
from jobs.conf import jobs_settings
from jobs.declare import registry
from jobs.execute import execute, execute_async
from jobs.finish import finish, tell, written
from jobs.intake import accept
from jobs.outcome import Outcome
from jobs.tasks import Task
from outbox import relay
from outbox.session import Query, Session
from tests.support.floor import claim

DUE = "UPDATE jobs_job SET state = 'ready', ready_at = clock_timestamp() WHERE state = 'retrying'"


def run_all(session: Session, *, retry: bool = True) -> list[UUID]:
    """Run everything that waits, retries at once; the ids in the order they ran."""
    ran: list[UUID] = []
    settings = jobs_settings()
    while relay.step(session, accept, 100).total or (retry and session.run(Query(f"{DUE} RETURNING id"))) or not ran:
        if not (jobs := claim(session, lanes=[(queue, -100, 100) for queue in settings.QUEUES])):
            break
        for job in jobs:
            ran.append(job.id)
            task, started = registry[job.task], time.monotonic()
            if task.is_async:
                outcome = asyncio.run(_await(job, task, started))
            elif task.atomic:
                if (outcome_or_none := execute_atomic(job, task, settings, started, 1)) is None:
                    continue
                outcome = outcome_or_none
            else:
                outcome = execute(job, task, settings, started)
            tell([outcome], written(session.run_all(finish([outcome], 1), durable=False)))
    return ran


async def _await(job: Claimed, task: Task[Any, Any], started: float) -> Outcome:
    outcome = await execute_async(job, task, jobs_settings(), started, lambda: False)
    await sync_to_async(connections.close_all)()  # those of the thread where it may have looked something up
    return outcome
