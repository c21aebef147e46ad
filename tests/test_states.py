"""The table state x verb: what may move moves, everything else refuses, and the database guards the shapes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError
from django.utils import timezone

from jobs.conf import JobsSettings
from jobs.models import ENDED, LIVE, Attempt, FinishedJob, Job, State
from jobs.outcome import Happened
from jobs.promote import promote
from jobs.prune import prune
from jobs.rescue import Watch, carry_out, hand_back_left_over
from jobs.verdict import Fated
from outbox import faults, relay
from outbox.models import Message, SetAsideMessage
from outbox.relay import destination, replay
from outbox.session import Query, Session
from tests.factories import AttemptFactory, FinishedJobFactory, JobFactory, MessageFactory, SetAsideMessageFactory
from tests.support.database import on_sqlite
from tests.support.floor import a_claimed, claim, conclude, everything, outcome

pytest_plugins = ["tests.support.ours"]

SETTINGS = JobsSettings(KEEP_SUCCEEDED=timedelta(0), KEEP_DEAD=timedelta(0))
WORKER, CLAIMER, LEASE = 9, 99, 4
PAST = timezone.now() - timedelta(hours=1)


# Every state a job can be in, all with the same past: claimed four times, one attempt spent of three, one crash.
def stand(state: str) -> Any:
    past = {"lease": LEASE, "attempts": 1, "crashes": 1, "max_attempts": 3, "enqueued_at": PAST, "ready_at": PAST}
    match state:
        case "written":
            return MessageFactory().uid
        case "set_aside":
            return SetAsideMessageFactory().uid
        case "running":
            return JobFactory(state=state, worker=WORKER, claimer=CLAIMER, claimed_at=PAST, **past).id
        case "ready" | "scheduled" | "retrying":
            return JobFactory(state=state, run_after=PAST, **past).id
        case _:
            return FinishedJobFactory(state=state, ended_at=PAST, started_at=PAST, **past).id


def where(job: Any) -> str:
    """The state the job is in now; "gone" when it is nowhere."""
    if Message.objects.filter(uid=job).exists():
        return "written"
    if SetAsideMessage.objects.filter(uid=job).exists():
        return "set_aside"
    found = Job.objects.filter(pk=job).first() or FinishedJob.objects.filter(pk=job).first()
    return found.state if found else "gone"


def ended(happened: str, **details: Any) -> Callable[[Session, Any], object]:
    """Write that outcome as the one who has claimed the job."""

    def write(session: Session, job: Any) -> object:
        mine = a_claimed(id=job, lease=LEASE, claimer=CLAIMER, attempts=1, crashes=1, max_attempts=3)
        return conclude(session, [outcome(mine, happened, **details)], WORKER)

    return write


def verdict(happened: str) -> Callable[[Session, Any], object]:
    return lambda session, job: carry_out(session, [Fated(str(job), LEASE, CLAIMER, happened, 1.0)], WORKER, SETTINGS)


VERBS: dict[str, Callable[[Session, Any], object]] = {
    "relay": lambda session, job: relay.step(session, destination(), 10),
    "replay": lambda session, job: session.run(replay([row.id for row in SetAsideMessage.objects.all()])),
    "promote": lambda session, job: session.run_all(promote(10)),
    "claim": lambda session, job: claim(session, 1, worker=WORKER, claimer=CLAIMER),
    "succeed": ended("succeeded"),
    "fail": ended("failed", retry_in=5.0),
    "fail for good": ended("failed", retry_in=None),
    "time out": verdict("timed_out"),
    "crash": verdict("crashed"),
    "hand back": ended("handed_back"),
    "not know": ended("unknown"),
    "not read": ended("unreadable"),
    "sweep": lambda session, job: hand_back_left_over(session, [], [], WORKER, SETTINGS),
    "rescue": lambda session, job: Watch().look(session, 1, SETTINGS),
    "prune": lambda session, job: prune(session, SETTINGS),
}

# Where a verb leads from a state; what is not here stays as it is, to the last column.
MOVES: dict[tuple[str, str], str] = {
    ("written", "relay"): "ready",
    ("set_aside", "replay"): "written",
    ("scheduled", "promote"): "ready",
    ("retrying", "promote"): "ready",
    ("ready", "claim"): "running",
    ("running", "succeed"): "succeeded",
    ("running", "fail"): "retrying",
    ("running", "fail for good"): "dead",
    ("running", "time out"): "retrying",
    ("running", "crash"): "ready",
    ("running", "hand back"): "ready",
    ("running", "not know"): "scheduled",
    ("running", "not read"): "dead",
    ("running", "sweep"): "ready",
    ("running", "rescue"): "ready",
    ("succeeded", "prune"): "gone",
    ("dead", "prune"): "gone",
    ("cancelled", "prune"): "gone",
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", [state.value for state in State])
def test_a_verb_moves_what_it_may_move_and_nothing_else(ours: Session, state: str, verb: str) -> None:
    job = stand(state)
    before = everything(ours)

    VERBS[verb](ours, job)

    assert where(job) == MOVES.get((state, verb), state)
    if (state, verb) not in MOVES:
        assert everything(ours) == before


@pytest.mark.parametrize(("state", "verb"), MOVES)
def test_a_move_that_is_repeated_changes_nothing_more(ours: Session, state: str, verb: str) -> None:
    job = stand(state)
    VERBS[verb](ours, job)
    before = everything(ours)

    VERBS[verb](ours, job)

    assert everything(ours) == before


@pytest.mark.parametrize(("state", "verb"), [move for move in MOVES if move[0] != "set_aside" and move[1] != "prune"])
def test_no_move_but_the_claim_changes_the_lease_and_none_lowers_it(ours: Session, state: str, verb: str) -> None:
    job = stand(state)

    VERBS[verb](ours, job)

    row = Job.objects.filter(pk=job).first() or FinishedJob.objects.get(pk=job)
    assert row.lease == {"relay": 0, "claim": LEASE + 1}.get(verb, LEASE)


def test_the_table_names_every_state_and_verb() -> None:
    assert {state for state, _ in MOVES} == {state.value for state in State}
    assert {verb for _, verb in MOVES} == set(VERBS)
    assert {state.value for state in (*LIVE, *ENDED)} == {state.value for state in State} - {"written", "set_aside"}


@pytest.mark.parametrize("happened", [each for each in Happened if each not in ("succeeded", "result_lost")])
def test_a_job_ends_at_its_last_attempt_or_its_third_crash(ours: Session, happened: Happened) -> None:
    job = JobFactory(state="running", worker=WORKER, claimer=CLAIMER, lease=1, attempts=2, crashes=2, max_attempts=3)
    mine = a_claimed(id=job.id, lease=1, claimer=CLAIMER, attempts=2, crashes=2, max_attempts=3)

    conclude(ours, [outcome(mine, happened)], WORKER)

    spends_nothing = happened in ("handed_back", "unknown", "cancelled", "unwanted", "result_lost")
    assert (where(job.id) == "dead") is not spends_nothing


# The shapes the database refuses ------------------------------------------------------------------------------------

NOBODY = {"worker": None, "claimer": None}

WRONG_JOBS: list[tuple[str, dict[str, Any]]] = [
    ("jobs_job_live", {"state": "succeeded"}),
    ("jobs_job_live", {"state": "dead"}),
    ("jobs_job_live", {"state": "cancelled"}),
    ("jobs_job_live", {"state": "written"}),
    ("jobs_job_live", {"state": ""}),
    ("jobs_job_live", {"state": "READY"}),
    ("jobs_job_running_iff_claimed", {"state": "running", **NOBODY}),
    ("jobs_job_running_iff_claimed", {"state": "running", "worker": 1}),
    ("jobs_job_running_iff_claimed", {"state": "running", "claimer": 1}),
    ("jobs_job_running_iff_claimed", {"state": "ready", "worker": 1, "claimer": 1}),
    ("jobs_job_running_iff_claimed", {"state": "ready", "worker": 1}),
    ("jobs_job_running_iff_claimed", {"state": "ready", "claimer": 1}),
    ("jobs_job_running_iff_claimed", {"state": "retrying", "run_after": PAST, "claimer": 1}),
    ("jobs_job_running_iff_claimed", {"state": "scheduled", "run_after": PAST, "worker": 1}),
    ("jobs_job_counts", {"lease": -1}),
    ("jobs_job_counts", {"attempts": -1}),
    ("jobs_job_counts", {"crashes": -1}),
    ("jobs_job_counts", {"max_attempts": 0}),
    ("jobs_job_priority", {"priority": 101}),
    ("jobs_job_priority", {"priority": -101}),
    ("jobs_job_due_later", {"state": "scheduled", "run_after": None}),
    ("jobs_job_due_later", {"state": "retrying", "run_after": None}),
    ("jobs_job_ready_at", {"state": "ready", "ready_at": None}),
    ("jobs_job_pkey", {"id": "the same"}),
]


def refused(make: Callable[[], object]) -> str:
    """Which constraint refuses it; empty when none does."""
    try:
        make()
    except IntegrityError as error:
        cause: Any = error.__cause__
        if on_sqlite():  # what is unique is named by its columns there
            said = str(error).partition(": ")[2]
            return {"jobs_attempt.job, jobs_attempt.lease": "jobs_attempt_once"}.get(said, said.replace(".id", "_pkey"))
        return str(cause.diag.constraint_name)
    return ""


@pytest.mark.parametrize(("constraint", "wrong"), WRONG_JOBS)
def test_a_job_of_a_wrong_shape_is_refused(ours: Session, constraint: str, wrong: dict[str, Any]) -> None:
    if wrong.get("id"):
        wrong = {"id": JobFactory().id}

    assert refused(lambda: JobFactory(**wrong)) == constraint


@pytest.mark.parametrize(("constraint", "wrong"), [pair for pair in WRONG_JOBS if "id" not in pair[1]])
def test_a_job_is_not_changed_into_a_wrong_shape(ours: Session, constraint: str, wrong: dict[str, Any]) -> None:
    job = JobFactory(**{name: PAST for name in ("run_after", "ready_at") if name not in wrong})

    assert refused(lambda: Job.objects.filter(pk=job.pk).update(**wrong)) == constraint


@pytest.mark.parametrize("state", ["scheduled", "ready", "running", "retrying", "written", ""])
def test_the_history_holds_only_what_has_ended(ours: Session, state: str) -> None:
    assert refused(lambda: FinishedJobFactory(state=state)) == "jobs_finished_ended"


def test_the_history_holds_a_job_once(ours: Session) -> None:
    job = FinishedJobFactory()

    assert refused(lambda: FinishedJobFactory(id=job.id)) == "jobs_finishedjob_pkey"


def test_an_attempt_is_kept_once_for_each_lease(ours: Session) -> None:
    attempt = AttemptFactory(lease=3)

    assert refused(lambda: AttemptFactory(job=attempt.job, lease=3)) == "jobs_attempt_once"
    assert refused(lambda: AttemptFactory(job=attempt.job, lease=4)) == ""
    assert Attempt.objects.count() == 2


@pytest.mark.parametrize("table", ["jobs_job", "jobs_finishedjob"])
@pytest.mark.parametrize(
    "column", ["task", "queue", "state", "arguments", "lease", "attempts", "crashes", "max_attempts", "enqueued_at"]
)
def test_what_a_job_always_has_may_not_be_empty(ours: Session, table: str, column: str) -> None:
    JobFactory()
    FinishedJobFactory()

    with pytest.raises(faults.REFUSED, match=r"(?i)not.null"):
        ours.run(Query(f"UPDATE {table} SET {column} = NULL"))


@pytest.mark.parametrize("state", ["ready", "running", "scheduled", "retrying"])
def test_every_right_shape_is_taken(ours: Session, state: str) -> None:
    stand(state)

    assert Job.objects.get().state == state
