"""Events are given to their consumers again: the past to one that came later, or once more, and never by accident."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from jobs import publish, replay
from jobs.conf import JobsSettings
from jobs.consume import consumers
from jobs.declare import task
from jobs.errors import InvalidOption, UnknownEvent
from jobs.ids import id_for_key, new_id
from jobs.intake import accept
from jobs.models import Event, FinishedJob, Job, Key
from jobs.prune import BATCH, prune
from jobs.replay import Replay
from outbox.models import Message
from outbox.relay import step as relay_step
from outbox.session import Session
from tests.factories import EventFactory
from tests.support.committing import _django_db_helper, on_default  # noqa: F401
from tests.support.observer import at_once
from tests.support.processes import Program
from tests.support.sql import a_cursor
from tests.support.wait import wait_until

pytestmark = on_default

MANY = """INSERT INTO jobs_event (id, type, payload, published_at)
SELECT gen_random_uuid(), 'tests.placed', '{}', now() - n * interval '1 second' FROM generate_series(1, 20000) AS n"""
THEIR_KEYS = """INSERT INTO jobs_key (id, task, key, accepted_at) SELECT gen_random_uuid(), %s,
'event:' || id || ':tests.placed', now() FROM jobs_event"""

NOTE, REMIND, AUDIT = (f"tests.tasks.{name}" for name in ("note_placed", "remind_placed", "audit_placed"))


def on_placed(payload: dict[str, Any]) -> None:
    pass


@pytest.fixture
def latecomer(monkeypatch: pytest.MonkeyPatch) -> str:
    """A consumer that is added after the events."""
    made = task(name="tests.latecomer")(on_placed)
    monkeypatch.setitem(consumers, "tests.placed", {**consumers["tests.placed"], made.name: made})
    return made.name


def relay(session: Session) -> int:
    return relay_step(session, accept, 10_000).delivered


def give(wanted: Replay, **options: Any) -> int:
    return sum(done.written for done in replay.steps(wanted, database="default", **options))


def jobs_of(event_id: UUID) -> dict[str, int]:
    """How many jobs each consumer has for an event."""
    found: dict[str, int] = {}
    for name in Job.objects.filter(idempotency_key__startswith=f"event:{event_id}:").values_list("task", flat=True):
        found[name] = found.get(name, 0) + 1
    return found


# The past -------------------------------------------------------------------------------------------------------------


def test_a_consumer_that_came_later_is_given_the_past(session: Session, latecomer: str) -> None:
    """H22: consumers read the log at any time; P81: re-broadcast."""
    past = EventFactory.create_batch(5)
    EventFactory(type="tests.undone")

    assert give(Replay(consumer=latecomer)) == 5
    relay(session)

    assert [jobs_of(one.id) for one in past] == [{latecomer: 1}] * 5
    job = Job.objects.filter(task=latecomer).first()
    assert job is not None and job.origin == "given to it later"
    assert json.loads(job.arguments) == {"args": [{"order": 1}], "kwargs": {}}


def test_what_was_given_is_not_given_again(session: Session) -> None:
    """O9: asked as often as you like, it is one job for each event and consumer."""
    published = publish("tests.placed", {"order": 1})
    EventFactory()
    relay(session)

    assert replay.count(Replay(type="tests.placed"), database="default") == (2, 6, 3)
    assert give(Replay(type="tests.placed")) == 3
    relay(session)
    assert give(Replay(type="tests.placed")) == 0
    assert jobs_of(published.id) == {NOTE: 1, REMIND: 1, AUDIT: 1}


def test_what_ended_and_left_the_history_is_not_given_again(session: Session) -> None:
    publish("tests.placed", {"order": 1})
    relay(session)
    Job.objects.all().delete()

    assert give(Replay(type="tests.placed")) == 0


def test_asked_twice_before_a_relay_came_it_is_one_job(session: Session) -> None:
    publish("tests.placed", {"order": 1})

    assert give(Replay(type="tests.placed")) == 3
    assert Message.objects.count() == 6
    relay(session)
    assert (Job.objects.count(), Key.objects.count()) == (3, 3)


def test_two_people_at_once_make_one_job_each(session: Session, latecomer: str) -> None:
    EventFactory.create_batch(300)

    written = at_once(*[lambda: give(Replay(consumer=latecomer), batch=20)] * 3)
    relay(session)

    assert sum(written) >= 300
    assert Job.objects.filter(task=latecomer).count() == Job.objects.count() == 300


def test_stopped_half_way_it_goes_on_from_there(session: Session, latecomer: str) -> None:
    EventFactory.create_batch(7)
    steps = replay.steps(Replay(consumer=latecomer), database="default", batch=3)
    assert [next(steps).written, next(steps).written] == [3, 3]
    del steps
    relay(session)

    assert give(Replay(consumer=latecomer), batch=3) == 1


def test_each_batch_is_one_transaction(latecomer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    EventFactory.create_batch(4)
    steps = replay.steps(Replay(consumer=latecomer), database="default", batch=2)
    next(steps)
    monkeypatch.setattr("jobs.replay.dumps", lambda value: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(steps)

    assert Message.objects.count() == 2


def test_a_delay_counts_from_the_event(session: Session) -> None:
    old, fresh = EventFactory(published_at=timezone.now() - timedelta(days=3)), EventFactory()

    give(Replay(consumer=REMIND))
    relay(session)

    states = {job.idempotency_key.split(":")[1]: job for job in Job.objects.all()}
    assert states[str(old.id)].state == "ready"
    assert states[str(fresh.id)].state == "scheduled"
    assert states[str(fresh.id)].run_after == fresh.published_at + timedelta(seconds=30)


# Once more ------------------------------------------------------------------------------------------------------------


def test_a_repetition_is_a_new_job_and_says_so(session: Session) -> None:
    published = publish("tests.placed", {"order": 1})
    relay(session)

    again = Replay(ids=[published.id], consumer=NOTE, again="fix-4711", by="anna", reason="the mail was wrong")
    assert replay.count(again, database="default") == (1, 1, 1)
    assert give(again) == 1
    relay(session)

    assert jobs_of(published.id) == {NOTE: 2, REMIND: 1, AUDIT: 1}
    job = Job.objects.get(pk=id_for_key(NOTE, f"event:{published.id}:tests.placed#fix-4711"))
    assert job.origin == "repetition fix-4711 of the event, by anna: the mail was wrong"
    assert (job.priority, job.max_attempts) == (50, 2)


def test_a_repetition_happens_once_for_each_name(session: Session) -> None:
    published = publish("tests.placed", {"order": 1})
    relay(session)

    for name, written in (("one", 3), ("one", 0), ("two", 3)):
        assert give(Replay(ids=[published.id], again=name)) == written
        relay(session)

    assert jobs_of(published.id) == {NOTE: 3, REMIND: 3, AUDIT: 3}


def test_a_repetition_by_two_people_under_one_name_is_one(session: Session) -> None:
    EventFactory.create_batch(50)

    at_once(*[lambda: give(Replay(type="tests.placed", again="same"), batch=7)] * 2)
    relay(session)

    assert Job.objects.count() == 150


def test_the_past_and_a_repetition_do_not_stand_for_each_other(session: Session) -> None:
    one = EventFactory()
    give(Replay(ids=[one.id], consumer=NOTE, again="x"))
    relay(session)

    assert give(Replay(ids=[one.id], consumer=NOTE)) == 1


# Which ----------------------------------------------------------------------------------------------------------------


def test_a_range_of_time_and_type() -> None:
    now = timezone.now()
    for hours, kind in ((5, "tests.placed"), (3, "tests.placed"), (3, "tests.undone"), (1, "tests.placed")):
        EventFactory(type=kind, published_at=now - timedelta(hours=hours))

    def counted(**given: Any) -> tuple[int, int, int]:
        return replay.count(Replay(**given), database="default")

    hour = timedelta(hours=1)
    assert counted(type="tests.placed", since=now - 4 * hour) == (2, 6, 6)
    assert counted(since=now - 4 * hour, until=now - 2 * hour) == (2, 4, 4)
    assert counted(since=now - 3 * hour, until=now - 3 * hour) == (0, 0, 0)
    assert counted(until=now - hour) == (3, 7, 7)  # not including it
    assert counted(consumer=AUDIT) == (4, 4, 4)


def test_events_of_one_moment_are_each_given_once(session: Session, latecomer: str) -> None:
    moment = timezone.now()
    EventFactory.create_batch(10, published_at=moment)

    assert give(Replay(consumer=latecomer), batch=3) == 10


def test_an_event_nobody_consumes_any_more_is_passed_over() -> None:
    EventFactory(type="tests.forgotten")

    assert replay.count(Replay(), database="default") == (1, 0, 0)
    assert give(Replay()) == 0


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"type": "tests.plced"}, UnknownEvent, "did you mean 'tests.placed'"),
        ({"consumer": "tests.tasks.note_plced"}, UnknownEvent, "did you mean 'tests.tasks.note_placed'"),
        ({"again": "a b"}, InvalidOption, "name it with 1 to 40 letters"),
        ({"again": "x" * 41}, InvalidOption, "name it with 1 to 40 letters"),
        ({"since": timezone.now().replace(tzinfo=None)}, InvalidOption, "has no time zone"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], kind: Any, said: str) -> None:
    with pytest.raises(kind, match=said):
        Replay(**given)


# The command ----------------------------------------------------------------------------------------------------------


def said_by(*arguments: str) -> str:
    out = StringIO()
    call_command("replayevents", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_a_dry_run_counts_and_writes_nothing() -> None:
    EventFactory.create_batch(2)

    assert json.loads(said_by("--type", "tests.placed", "--dry-run", "--json")) == {
        "events": 2, "jobs": 6, "missing": 6, "written": 0, "again": "", "dry_run": True,
    }  # fmt: skip
    assert "2 events, 6 jobs of their consumers, 6 to be made (dry run)" in said_by("--since", "1h", "--dry-run")
    assert not Message.objects.exists()


def test_the_command_gives_and_does_not_give_again(session: Session) -> None:
    one, other = EventFactory.create_batch(2)

    said = said_by(str(one.id), "--consumer", NOTE, "--no-input")
    assert said == "1 events, 1 jobs written\n"
    relay(session)
    assert "0 to be made" in said_by(str(one.id), "--consumer", NOTE, "--missing-only", "--no-input")
    assert json.loads(said_by("--consumer", NOTE, "--json"))["written"] == 1
    relay(session)
    assert (jobs_of(one.id), jobs_of(other.id)) == ({NOTE: 1}, {NOTE: 1})


def test_again_is_named_by_itself_or_by_you(session: Session) -> None:
    one = EventFactory()

    first = json.loads(said_by(str(one.id), "--again", "--json", "--by", "anna", "--reason", "a test"))
    assert (first["written"], first["again"][:2]) == (3, "r-")
    relay(session)
    assert json.loads(said_by(str(one.id), "--again", first["again"], "--json"))["written"] == 0
    assert json.loads(said_by(str(one.id), "--again", "--json"))["written"] == 3
    assert Job.objects.filter(origin=f"repetition {first['again']} of the event, by anna: a test").count() == 3


def test_it_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    EventFactory()
    asked = []
    monkeypatch.setattr("builtins.input", lambda words: asked.append(words) or "n")

    with pytest.raises(CommandError, match="Nothing was done"):
        said_by("--type", "tests.placed")
    assert asked == ["1 events, 3 jobs of their consumers, 3 to be made. Go on? [y/N] "]
    assert not Message.objects.exists()
    monkeypatch.setattr("builtins.input", lambda words: "y")
    said_by("--type", "tests.placed")
    assert Message.objects.count() == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Say which events"),
        (("--until", "1h"), "Say which events"),
        (("--type", "tests.plced"), "did you mean 'tests.placed'"),
        (("--consumer", "x"), "There is no consumer 'x'"),
        ((str(new_id()),), "0 are in the log"),
        (("--type", "tests.placed", "--batch", "0"), "1 to 10000"),
        (("--type", "tests.placed", "--again", "a b"), "name it with"),
        (("--type", "tests.placed", "--database", "nowhere"), "database='nowhere'"),
        (("--type", "tests.placed", "--since", "yesterday"), "is neither"),
        (("not-an-id",), "is no event's id"),
        (("--type", "tests.placed", "--again", "x", "--missing-only"), "not allowed with"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        said_by(*arguments)


@pytest.mark.kills
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_how_to_go_on(
    transactional_db: None, tmp_path: Any, session: Session, number: signal.Signals
) -> None:
    """A real Ctrl-C in the middle: whole batches stand, and the same command does the rest."""
    with a_cursor() as cursor:
        cursor.execute(MANY.replace("20000", "3000"))
    program = Program(
        "replayevents", "--consumer", NOTE, "--again", "fix", "--batch", "1", "--no-input", folder=tmp_path
    )  # fmt: skip
    try:
        wait_until(lambda: Message.objects.count() > 20, within=60, what="it has begun")
        program.signal(number)
        assert program.ended() == 1, program.said()
    finally:
        program.kill()

    done = Message.objects.count()
    assert f"of 3,000 events, {done:,} jobs. Repeat the command with --again fix" in program.said()
    relay(session)
    assert json.loads(said_by("--consumer", NOTE, "--again", "fix", "--json"))["written"] == 3000 - done
    relay(session)
    assert Job.objects.count() == 3000


# Plans and retention --------------------------------------------------------------------------------------------------


def nodes(plan: dict[str, Any]) -> list[str]:
    return [plan["Node Type"], *(name for below in plan.get("Plans", ()) for name in nodes(below))]


@pytest.mark.postgresql("settings of a transaction")
def test_the_transaction_gets_its_settings_back(latecomer: str) -> None:
    EventFactory()
    with transaction.atomic(), a_cursor() as cursor:
        replay.step(Replay(consumer=latecomer), None, database="default")
        cursor.execute("SHOW enable_sort")
        assert cursor.fetchone() == ("on",)
    assert Message.objects.count() == 1


@pytest.mark.postgresql("plans of its planner")
@pytest.mark.parametrize("what", ["a batch", "a count"])
@pytest.mark.parametrize("analysed", [True, False])
def test_a_batch_reads_its_events_by_indexes(analysed: bool, what: str) -> None:
    wanted = Replay(consumer=NOTE, type="tests.placed")
    where, params = wanted.conditions(replay.Cursor(timezone.now() - timedelta(hours=2), new_id()))
    with a_cursor() as cursor:
        cursor.execute(MANY)
        cursor.execute(THEIR_KEYS, (NOTE,))
        if analysed:
            cursor.execute("ANALYZE jobs_event, jobs_key")
        cursor.execute(replay.WALK.replace("true", "false") if what == "a batch" else "SELECT 1")
        sql = (replay.PAIRS if what == "a batch" else replay.COUNT).format(where=where)
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", [*params, 100, *wanted.pairs(), ""])
        ((plan,),) = cursor.fetchall()
        cursor.execute("RESET enable_sort; RESET enable_bitmapscan")

    said = json.dumps(plan)
    assert "jobs_key_event" in said, said
    assert what == "a count" or not {"Seq Scan", "Sort", "Bitmap Heap Scan"} & set(nodes(plan[0]["Plan"])), said
    assert plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"] < 2000


@pytest.mark.parametrize(("days", "goes"), [(89.9, False), (90.1, True)])
def test_an_event_is_kept_for_its_time(session: Session, days: float, goes: bool) -> None:
    EventFactory(published_at=timezone.now() - timedelta(days=days))

    assert prune(session, JobsSettings()) == int(goes)
    assert Event.objects.exists() is not goes


def test_events_go_in_bounded_steps(session: Session) -> None:
    with a_cursor() as cursor:
        cursor.execute(MANY)
    settings = JobsSettings(KEEP_EVENTS=timedelta(0))

    assert prune(session, settings) == BATCH
    assert Event.objects.count() == 20_000 - BATCH
    assert prune(session, JobsSettings(KEEP_EVENTS=None)) == 0


def test_keys_must_be_kept_as_long_as_events() -> None:
    """Else what a consumer had would look as if it never had it."""
    day = timedelta(days=1)
    fine, short, for_ever = (
        JobsSettings(KEEP_EVENTS=events, KEEP_KEYS=keys)
        for events, keys in ((9 * day, 9 * day), (10 * day, 9 * day), (None, 9 * day))
    )

    assert fine.problems() == [] == JobsSettings(KEEP_EVENTS=None, KEEP_KEYS=None).problems()
    assert all('JOBS["KEEP_EVENTS"] is longer' in settings.problems()[0] for settings in (short, for_ever))


# The whole way --------------------------------------------------------------------------------------------------------


def test_consumers_run_retry_and_die_each_for_itself(
    runworkers: Callable[..., Program], side_file: Any, session: Session
) -> None:
    """P82: a failing consumer hurts no other; P83: each has its own attempts. Through a real worker."""
    good, unlucky = publish("tests.placed", {"order": 7}), publish("tests.placed", {"order": 13})

    runworkers("--slots", "2")
    wait_until(lambda: FinishedJob.objects.count() == 4, within=30, what="all but the delayed ones have ended")

    ended = {(job.task, job.idempotency_key): job for job in FinishedJob.objects.all()}
    audit, dead = (ended[AUDIT, f"event:{each.id}:tests.placed"] for each in (good, unlucky))
    assert (audit.state, dead.state, dead.attempts) == ("succeeded", "dead", 2)
    assert json.loads(audit.result or "") == [str(good.id), "tests.placed", str(audit.id)]
    assert ended[NOTE, f"event:{unlucky.id}:tests.placed"].state == "succeeded"
    assert sorted(side_file.lines()) == [
        "audited 13 attempt 1", "audited 13 attempt 2", "audited 7 attempt 1", "noted 13", "noted 7",
    ]  # fmt: skip
    assert set(Job.objects.values_list("task", "state")) == {(REMIND, "scheduled")}
