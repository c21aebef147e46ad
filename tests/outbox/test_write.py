"""The one INSERT lives and dies with the caller's transaction, whatever kind of transaction that is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import InternalError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.test import Client
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from outbox.errors import OutboxMissing, TransactionRequired
from outbox.models import Message
from outbox.session import Row
from outbox.write import Draft, alias_for, write, write_many
from tests.support.committing import BOTH, _django_db_helper, on_both  # noqa: F401
from tests.support.examples import many
from tests.support.observer import beside, committed, observer
from tests.support.sql import a_cursor

rolled_back = pytest.mark.django_db(databases=BOTH)


class Boom(Exception):
    pass


def a_draft(body: str = "x") -> Draft:
    return Draft(uuid4(), "{}", body)


def write_one(body: str, database: str | None = None) -> str:
    return write(a_draft(body), database=database)


def write_copied(body: str, database: str | None = None) -> str:
    return write_many([a_draft(body)], database=database)


@pytest.fixture(params=[write_one, write_copied], ids=["write", "write_many"])
def put(request: pytest.FixtureRequest) -> Callable[..., str]:
    """One message, written in each of the two ways."""
    return request.param


@contextmanager
def by_hand(alias: str = "default") -> Iterator[None]:
    """A transaction driven by set_autocommit, commit and rollback."""
    transaction.set_autocommit(False, using=alias)
    try:
        yield
    finally:
        transaction.rollback(using=alias)
        transaction.set_autocommit(True, using=alias)


@on_both
def test_a_message_is_seen_after_the_commit_and_not_before(put: Callable[..., str]) -> None:
    with transaction.atomic():
        put("paid")
        before = committed()

    assert before == []
    assert committed() == ["paid"]


@on_both
def test_a_rolled_back_message_was_never_there(put: Callable[..., str]) -> None:
    with suppress(Boom), transaction.atomic():
        put("never")
        raise Boom

    assert committed() == []


@on_both
def test_a_message_goes_with_the_savepoint_it_was_written_in(put: Callable[..., str]) -> None:
    with transaction.atomic():
        put("outer")
        with suppress(Boom), transaction.atomic():
            put("inner")
            raise Boom
        with transaction.atomic():
            put("kept")

    assert committed() == ["outer", "kept"]


@on_both
def test_an_inner_block_that_ended_well_goes_with_the_outer_one(put: Callable[..., str]) -> None:
    with suppress(Boom), transaction.atomic():
        with transaction.atomic():
            put("inner")
        raise Boom

    assert committed() == []


@on_both
def test_an_inner_block_without_savepoint_takes_the_whole_transaction_along(put: Callable[..., str]) -> None:
    with transaction.atomic():
        put("outer")
        with suppress(Boom), transaction.atomic(savepoint=False):
            put("inner")
            raise Boom
        with pytest.raises(TransactionManagementError):
            put("after")

    assert committed() == []


@on_both
def test_savepoints_by_hand(put: Callable[..., str]) -> None:
    savepoint = getattr(transaction, "savepoint_create", None) or transaction.savepoint  # its name before Django 6.1
    with transaction.atomic():
        kept = savepoint()
        put("kept")
        transaction.savepoint_commit(kept)
        dropped = savepoint()
        put("dropped")
        transaction.savepoint_rollback(dropped)

    assert committed() == ["kept"]


@on_both
def test_set_rollback_takes_the_message_along(put: Callable[..., str]) -> None:
    with transaction.atomic():
        put("never")
        transaction.set_rollback(True)

    assert committed() == []


@on_both
def test_outside_a_transaction_it_commits_by_itself(put: Callable[..., str]) -> None:
    put("alone")

    assert committed() == ["alone"]


@on_both
def test_a_transaction_by_hand_that_is_committed(put: Callable[..., str]) -> None:
    with by_hand():
        put("paid")
        before = committed()
        transaction.commit()

    assert before == []
    assert committed() == ["paid"]


@on_both
def test_a_transaction_by_hand_that_is_rolled_back(put: Callable[..., str]) -> None:
    with by_hand():
        put("never")
        transaction.rollback()
        put("again")
        transaction.commit()
        put("never either")

    assert committed() == ["again"]


@pytest.mark.postgresql("savepoints in a transaction by hand: Django's own commit at once on SQLite")
@on_both
def test_an_atomic_block_inside_a_transaction_by_hand(put: Callable[..., str]) -> None:
    with by_hand():
        with transaction.atomic():
            put("kept")
        with suppress(Boom), transaction.atomic():
            put("dropped")
            raise Boom
        before = committed()
        transaction.commit()

    assert before == []
    assert committed() == ["kept"]


@on_both
@pytest.mark.parametrize("ends_well", [True, False])
def test_each_alias_keeps_its_own_transaction(put: Callable[..., str], ends_well: bool) -> None:
    with ExitStack() as stack:
        if not ends_well:
            stack.enter_context(pytest.raises(Boom))
        with transaction.atomic(using="other"):
            put("here", database="default")
            put("there", database="other")
            put("there too")
            if not ends_well:
                raise Boom

    assert committed("default") == ["here"]
    assert committed("other") == (["there", "there too"] if ends_well else [])


@on_both
@pytest.mark.parametrize(
    ("url", "status", "written"),
    [("/order", 200, 1), ("/crash", 500, 0), ("/500", 500, 0), ("/outside", 500, 1), ("/stream", 200, 2)],
)
def test_atomic_requests(settings: Any, monkeypatch: pytest.MonkeyPatch, url: str, status: int, written: int) -> None:
    settings.ROOT_URLCONF = "tests.support.site"
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)

    answer = Client(raise_request_exception=False).get(url)

    assert answer.status_code == status
    if answer.streaming:
        assert b"".join(answer.streaming_content)  # type: ignore[attr-defined]
    assert len(committed()) == written


@rolled_back
@pytest.mark.parametrize("database", BOTH)
def test_the_alias_that_was_named_is_taken(database: str) -> None:
    assert alias_for(database) == database


@on_both
@pytest.mark.parametrize(
    ("opened", "routed", "expected"),
    [
        ([], "default", "default"),
        ([], "other", "other"),
        (["other"], "default", "other"),
        (["default"], "other", "default"),
        (["default", "other"], "default", "default"),
        (["default", "other"], "other", "other"),
    ],
)
@pytest.mark.parametrize("opener", [transaction.atomic, by_hand], ids=["atomic", "by hand"])
def test_the_only_open_alias_is_taken_else_the_routers(
    settings: Any, opener: Callable[[str], Any], opened: list[str], routed: str, expected: str
) -> None:
    class Router:
        def db_for_write(self, model: object, **_: object) -> str:
            return routed

    settings.DATABASE_ROUTERS = [Router()]

    with ExitStack() as stack:
        for alias in opened:
            stack.enter_context(opener(alias))

        assert alias_for(None) == expected


@on_both
def test_without_a_transaction_it_is_refused_where_one_is_required(settings: Any, put: Callable[..., str]) -> None:
    settings.OUTBOX = {"REQUIRE_TRANSACTION": True}

    with pytest.raises(TransactionRequired, match=r"transaction\.atomic\(using='other'\)"):
        put("never", database="other")

    assert committed("other") == []


@on_both
def test_a_transaction_on_another_alias_is_not_enough_where_one_is_required(
    settings: Any, put: Callable[..., str]
) -> None:
    settings.OUTBOX = {"REQUIRE_TRANSACTION": True}

    with transaction.atomic(using="other"), pytest.raises(TransactionRequired, match="'default'"):
        put("never", database="default")

    assert committed() == committed("other") == []


@on_both
@pytest.mark.parametrize("opener", [transaction.atomic, by_hand], ids=["atomic", "by hand"])
def test_any_kind_of_transaction_will_do_where_one_is_required(
    settings: Any, put: Callable[..., str], opener: Callable[[str], Any]
) -> None:
    settings.OUTBOX = {"REQUIRE_TRANSACTION": True}

    with opener("default"):
        put("paid")

        assert Message.objects.count() == 1


@rolled_back
def test_a_database_without_the_table_is_an_error_that_says_what_to_run(put: Callable[..., str]) -> None:
    with a_cursor("other") as cursor:
        cursor.execute("ALTER TABLE outbox_message RENAME TO elsewhere")

    with pytest.raises(OutboxMissing, match="migrate outbox --database other"):
        put("never", database="other")


@rolled_back
def test_another_missing_thing_is_not_called_a_missing_outbox(put: Callable[..., str]) -> None:
    with a_cursor() as cursor:
        cursor.execute("ALTER TABLE outbox_message RENAME COLUMN body TO elsewhere")

    with pytest.raises(Exception, match="body"):
        put("never")


@pytest.mark.postgresql("a statement that spoils its transaction: on SQLite it fails alone")
@on_both
def test_in_a_transaction_that_the_database_has_given_up_nothing_is_written(put: Callable[..., str]) -> None:
    with transaction.atomic():
        with pytest.raises(Exception, match="division by zero"), a_cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
        with pytest.raises(InternalError, match="aborted"):
            put("never")

    assert committed() == []


@on_both
def test_in_a_transaction_that_django_has_given_up_nothing_is_written(put: Callable[..., str]) -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            put("never")

    assert committed() == []


@on_both
def test_many_are_written_all_or_none_outside_a_transaction() -> None:
    def drafts() -> Iterator[Draft]:
        yield a_draft("first")
        raise Boom

    with pytest.raises(Boom):
        write_many(drafts())

    assert committed() == []


@on_both
def test_many_that_fail_inside_a_transaction_leave_it_unable_to_commit_a_part() -> None:
    def drafts() -> Iterator[Draft]:
        yield a_draft("first")
        raise Boom

    with transaction.atomic():
        write_one("before")
        with pytest.raises(Boom):
            write_many(drafts())

    assert committed() == []


@rolled_back
@pytest.mark.parametrize("debug", [True, False])
def test_what_was_written_is_what_was_given(put: Callable[..., str], debug: bool) -> None:
    nasty = ["\\N", "\\.", "a\tb\nc\rd\\e\b\f\v", "\"quoted\" 'single'", "äöü 漢字 😀 \u2028 \x7f", "%s %% {}", " ", ""]

    with CaptureQueriesContext(connection) if debug else ExitStack():
        for body in nasty:
            put(body)

    assert list(Message.objects.order_by("id").values_list("body", flat=True)) == nasty


@rolled_back
def test_numbers_follow_the_order_of_writing() -> None:
    write_one("a")
    write_many([a_draft("b"), a_draft("c"), a_draft("d")])
    write_one("e")

    assert "".join(Message.objects.order_by("id").values_list("body", flat=True)) == "abcde"


@rolled_back
def test_a_write_is_one_statement() -> None:
    with CaptureQueriesContext(connection) as queries:
        write_one("x")

    assert [query["sql"].split("(")[0].strip() for query in queries] == ["INSERT INTO outbox_message"]


@pytest.mark.postgresql("its catalogue")
@rolled_back
def test_nothing_hangs_on_the_table_but_its_key() -> None:
    with a_cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'outbox_message'")
        indexes = cursor.fetchall()
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = 'outbox_message'::regclass")
        triggers = cursor.fetchall()

    assert indexes == [("outbox_message_pkey",)]
    assert triggers == []  # a foreign key would be one


@pytest.mark.postgresql("a second transaction that writes is open")
@on_both
def test_two_requests_never_wait_for_one_another(put: Callable[..., str]) -> None:
    same = a_draft("same")
    written = threading.Event()

    def request() -> None:
        with transaction.atomic():
            with a_cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '1ms'")
            put("second")
            write(same)
        written.set()

    with transaction.atomic():
        put("first")
        write(same)
        with beside(request):
            assert written.wait(10)

    assert sorted(committed()) == ["first", "same", "same", "second"]


# ---------------------------------------------------------------------------------------------------------------
# Any program of nested blocks on two databases, against a model.


@dataclass
class Write:
    alias: str | None
    many: bool


@dataclass
class Block:
    """An atomic block (`savepoint` as Django means it), or a savepoint by hand where `by_hand`."""

    alias: str
    savepoint: bool
    raises: bool
    caught: bool
    body: list[Any] = field(default_factory=list)


aliases = st.sampled_from(BOTH)
writes = st.builds(Write, st.sampled_from([None, *BOTH]), st.booleans())
programs = st.lists(
    st.recursive(
        writes,
        lambda inner: st.builds(
            Block, aliases, st.booleans(), st.booleans(), st.booleans(), st.lists(inner, max_size=4)
        ),
        max_leaves=12,
    ),
    max_size=5,
)


class Model:
    """What Django's documentation promises of atomic blocks."""

    def __init__(self) -> None:
        self.survived: dict[str, list[str]] = {alias: [] for alias in BOTH}
        self.open: dict[str, list[tuple[bool, list[str]]]] = {alias: [] for alias in BOTH}
        self.doomed = dict.fromkeys(BOTH, False)

    def write(self, alias: str | None, bodies: list[str]) -> None:
        if alias is None:
            opened = [name for name in BOTH if self.open[name]]
            alias = opened[0] if len(opened) == 1 else "default"
        if not self.doomed[alias]:
            (self.open[alias][-1][1] if self.open[alias] else self.survived[alias]).extend(bodies)

    def enter(self, block: Block) -> None:
        outermost = not self.open[block.alias]
        can_go_back_alone = outermost or (block.savepoint and not self.doomed[block.alias])
        self.open[block.alias].append((can_go_back_alone, []))

    def leave(self, block: Block, *, raised: bool) -> None:
        alone, bodies = self.open[block.alias].pop()
        if not raised and not self.doomed[block.alias]:
            (self.open[block.alias][-1][1] if self.open[block.alias] else self.survived[block.alias]).extend(bodies)
        else:
            self.doomed[block.alias] = not alone


class Run:
    """Runs a program on the database and on the model in step."""

    def __init__(self) -> None:
        self.model = Model()
        self.number = 0

    def run(self, program: list[Any]) -> None:
        for node in program:
            if isinstance(node, Write):
                self.write(node)
            elif node.caught:
                with suppress(Boom):
                    self.block(node)
            else:
                self.block(node)

    def write(self, node: Write) -> None:
        bodies = [str(self.number + n) for n in range(2 if node.many else 1)]
        self.number += 2
        self.model.write(node.alias, bodies)
        try:
            if node.many:
                write_many(map(a_draft, bodies), database=node.alias)
            else:
                write_one(bodies[0], database=node.alias)
        except TransactionManagementError:
            pass  # in a doomed block: the model says the same

    def block(self, block: Block) -> None:
        self.model.enter(block)
        raised = True
        try:
            with transaction.atomic(using=block.alias, savepoint=block.savepoint):
                self.run(block.body)
                if block.raises:
                    raise Boom
                raised = False
        finally:
            self.model.leave(block, raised=raised)


@pytest.fixture
def eyes(transactional_db: None) -> Iterator[dict[str, psycopg.Connection[Row]]]:
    with observer("default") as default, observer("other") as other:
        yield {"default": default, "other": other}


@on_both
@examples(
    max_examples=many(150),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(program=programs)
def test_whatever_the_nesting_the_messages_that_survive_are_those_of_the_blocks_that_did(
    eyes: dict[str, psycopg.Connection[Row]], program: list[Any]
) -> None:
    for eye in eyes.values():
        eye.execute("DELETE FROM outbox_message")
    run = Run()

    with suppress(Boom):
        run.run(program)

    for alias, eye in eyes.items():
        seen = eye.execute("SELECT body FROM outbox_message ORDER BY id").fetchall()
        assert [body for (body,) in seen] == run.model.survived[alias]
