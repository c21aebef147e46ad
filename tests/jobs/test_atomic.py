"""An atomic task: what it wrote, what it enqueued, its result and its completion are there together or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from jobs.atomic import execute_atomic
from jobs.claim import Claimed
from jobs.errors import TimeLimit
from jobs.models import FinishedJob, Job
from jobs.outcome import Outcome
from outbox.models import Message
from outbox.session import Query, Session
from tests import tasks
from tests.factories import in_home
from tests.models import Effect
from tests.support.floor import DEFAULTS, a_task, broken, claim, conclude, fill, outcome
from tests.support.sql import a_cursor

pytest_plugins = ["tests.support.ours"]


@pytest.fixture(autouse=True)
def no_effects(ours: Session) -> Any:
    yield
    Effect.objects.all().delete()


def claimed(ours: Session, *, worker: int = 1, claimer: int = 11) -> Claimed:
    fill(ours, 1)
    (job,) = claim(ours, 1, worker=worker, claimer=claimer)
    return job


def run(job: Claimed, func: Callable[[], Any], **options: Any) -> Outcome | None:
    return execute_atomic(job, a_task(func, atomic=True, **options), DEFAULTS, time.monotonic(), 1)


def effect(note: str = "done") -> None:
    Effect.objects.create(note=note)


def lose_lease(ours: Session, job: Claimed) -> None:
    conclude(ours, [outcome(job, "handed_back")])
    claim(ours, 1, worker=2, claimer=22)


def test_all_of_it_commits_together(ours: Session) -> None:
    job = claimed(ours)

    def work() -> dict[str, int]:
        effect()
        tasks.noop.enqueue(1)
        assert ours.glance(Query("SELECT 1 FROM tests_effect")) == []
        return {"a": 1}

    assert run(job, work) is None

    done = FinishedJob.objects.get()
    assert (done.id, done.state, done.attempts, done.result) == (job.id, "succeeded", 1, '{"a":1}')
    assert (Effect.objects.count(), Message.objects.count(), Job.objects.count()) == (1, 1, 0)
    assert broken(ours) == []


def test_a_task_that_never_uses_the_database_succeeds_too(ours: Session) -> None:
    job = claimed(ours)

    assert run(job, lambda: 7) is None

    assert FinishedJob.objects.get().result == "7"


def test_an_error_undoes_all_of_it_and_is_an_outcome(ours: Session) -> None:
    job = claimed(ours)

    def work() -> None:
        effect()
        tasks.noop.enqueue(1)
        raise ValueError("no")

    ended = run(job, work)

    assert ended is not None and (ended.state, ended.error) == ("retrying", "ValueError: no")
    assert (Effect.objects.count(), Message.objects.count()) == (0, 0)
    assert in_home(job.id) == ["jobs_job"]


@pytest.mark.postgresql("somebody else writes while the task's transaction is open")
def test_who_has_lost_the_lease_commits_nothing(ours: Session) -> None:
    job = claimed(ours)

    def work() -> None:
        effect()
        tasks.noop.enqueue(1)
        lose_lease(ours, job)

    assert run(job, work) is None

    assert (Effect.objects.count(), Message.objects.count(), FinishedJob.objects.count()) == (0, 0, 0)
    assert (Job.objects.get().worker, Job.objects.get().lease) == (2, 2)


def test_a_savepoint_that_is_rolled_back_takes_its_own_part_with_it(ours: Session) -> None:
    job = claimed(ours)

    def work() -> None:
        effect("kept")
        try:
            with transaction.atomic():
                effect("dropped")
                tasks.noop.enqueue(1)
                raise ValueError
        except ValueError:
            effect("after")

    assert run(job, work) is None

    assert set(Effect.objects.values_list("note", flat=True)) == {"kept", "after"}
    assert not Message.objects.exists()
    assert in_home(job.id) == ["jobs_finishedjob"]


def test_the_time_limit_undoes_all_of_it(ours: Session) -> None:
    job = claimed(ours)

    def work() -> None:
        effect()
        raise TimeLimit

    with pytest.raises(TimeLimit):
        run(job, work)

    assert not Effect.objects.exists()
    assert in_home(job.id) == ["jobs_job"]
    assert not connection.in_atomic_block


def ends_it() -> None:
    effect()
    with a_cursor() as cursor:
        cursor.execute("COMMIT")


def marks_it() -> None:
    effect()
    transaction.set_rollback(True)


def breaks_it() -> None:
    effect()
    with suppress(IntegrityError):
        Effect.objects.create(pk=Effect.objects.get().pk, note="twice")


def breaks_it_by_hand() -> None:
    with a_cursor() as cursor, suppress(psycopg.DataError):
        cursor.cursor.execute("SELECT 1 / 0")


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (ends_it, "has ended the transaction"),
        (marks_it, "for rollback"),
        (breaks_it, "for rollback"),
        pytest.param(
            breaks_it_by_hand,
            "has ended the transaction",
            marks=pytest.mark.postgresql("a statement that spoils its transaction: on SQLite it fails alone"),
        ),
    ],
)
def test_a_task_that_spoils_its_transaction_has_failed(ours: Session, work: Callable[[], None], said: str) -> None:
    job = claimed(ours)

    ended = run(job, work)

    assert ended is not None and ended.state == "retrying"
    assert said in ended.error
    assert in_home(job.id) == ["jobs_job"]
    assert not FinishedJob.objects.exists()


@pytest.mark.postgresql("a constraint that is checked at the commit")
def test_an_error_at_the_commit_is_the_tasks(ours: Session) -> None:
    ours.glance(Query("ALTER TABLE tests_effect ADD CONSTRAINT late UNIQUE (note) DEFERRABLE INITIALLY DEFERRED"))
    try:
        job = claimed(ours)

        ended = run(job, effect_twice)
    finally:
        connection.close()
        ours.glance(Query("ALTER TABLE tests_effect DROP CONSTRAINT late"))

    assert ended is not None and (ended.state, ended.kind) == ("retrying", "failed")
    assert "late" in ended.error
    assert (Effect.objects.count(), in_home(job.id)) == (0, ["jobs_job"])


def effect_twice() -> None:
    effect("same")
    effect("same")


def end_session_of_django(ours: Session) -> None:
    raw: Any = connection.connection
    ours.glance(Query("SELECT pg_terminate_backend(%s, 5000)", (raw.info.backend_pid,)))


@pytest.mark.postgresql("a connection that can be lost")
def test_a_connection_that_is_lost_while_the_task_runs_is_a_failure(ours: Session) -> None:
    job = claimed(ours)

    def work() -> None:
        effect()
        end_session_of_django(ours)
        effect("more")

    ended = run(job, work)

    assert ended is not None and (ended.state, ended.kind, ended.attempts) == ("retrying", "failed", 1)
    connection.close()
    assert (Effect.objects.count(), in_home(job.id)) == (0, ["jobs_job"])


Commit = Callable[[Any], None]


@pytest.fixture
def at_commit(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any, Commit], None]], None]:
    """Have Django's commit do something else: it is given the connection and the real commit."""
    commit = BaseDatabaseWrapper._commit

    def instead(do: Callable[[Any, Commit], None]) -> None:
        def patched(self: Any) -> None:
            with self.wrap_database_errors:
                do(self, commit)

        monkeypatch.setattr(BaseDatabaseWrapper, "_commit", patched)

    return instead


@pytest.mark.postgresql("a connection that can be lost")
@pytest.mark.parametrize("landed", [True, False])
def test_a_connection_that_is_lost_at_the_commit_leaves_it_to_the_fence(
    ours: Session, at_commit: Any, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    job = claimed(ours)

    def losing(self: Any, commit: Commit) -> None:
        if landed:
            commit(self)
        end_session_of_django(ours)
        self.connection.execute("SELECT 1")  # whatever is said next finds the connection gone

    at_commit(losing)
    ended = run(job, effect)
    monkeypatch.undo()
    connection.close()

    assert ended is not None and ended.state == "ready" and "while it committed" in ended.error
    assert conclude(ours, [ended]) == (set() if landed else {job.id})
    assert Effect.objects.count() == int(landed)
    assert in_home(job.id) == (["jobs_finishedjob"] if landed else ["jobs_job"])
    assert broken(ours) == []


def test_a_hook_that_raises_after_the_commit_changes_nothing(ours: Session, caplog: pytest.LogCaptureFixture) -> None:
    job = claimed(ours)

    def work() -> None:
        effect()
        transaction.on_commit(lambda: 1 / 0)

    assert run(job, work) is None

    assert in_home(job.id) == ["jobs_finishedjob"]
    assert "a hook after its commit raised" in caplog.text


@pytest.mark.postgresql("transactions that cannot be serialized")
def test_what_could_not_be_serialized_is_called_again_in_the_same_attempt(ours: Session, at_commit: Any) -> None:
    job = claimed(ours)
    calls: list[int] = []

    def conflict(self: Any, commit: Commit) -> None:
        if len(calls) < 3:
            raise psycopg.errors.SerializationFailure("could not serialize access")
        commit(self)

    def work() -> None:
        calls.append(1)
        effect()

    at_commit(conflict)

    assert run(job, work) is None
    assert len(calls) == 3
    assert Effect.objects.count() == 1
    assert (FinishedJob.objects.get().attempts, in_home(job.id)) == (1, ["jobs_finishedjob"])


@pytest.mark.postgresql("transactions that cannot be serialized")
def test_what_can_never_be_serialized_has_failed_in_the_end(
    ours: Session, at_commit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = claimed(ours)

    def conflict(self: Any, commit: Commit) -> None:
        raise psycopg.errors.DeadlockDetected("deadlock detected")

    at_commit(conflict)
    ended = run(job, effect)
    monkeypatch.undo()

    assert ended is not None and (ended.state, ended.attempts) == ("retrying", 1)
    assert not Effect.objects.exists()


@pytest.mark.postgresql("synchronous_commit")
def test_its_commit_waits_for_the_disk_whatever_the_role_says(ours: Session, at_commit: Any) -> None:
    job = claimed(ours)
    seen: list[str] = []

    def looking(self: Any, commit: Commit) -> None:
        seen.append(self.connection.execute("SHOW synchronous_commit").fetchone()[0])
        commit(self)

    def work() -> None:
        with a_cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit = off")

    at_commit(looking)

    assert run(job, work) is None
    assert seen == ["on"]
