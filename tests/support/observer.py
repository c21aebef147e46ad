"""A second connection outside Django: it sees what is committed, holds what others must not wait for, and listens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, transaction

from outbox.session import session_on
from tests.support.sql import a_cursor


@contextmanager
def observer(alias: str = "default") -> Iterator[Any]:
    """A plain psycopg connection in autocommit, or what is like one on SQLite."""
    if connections[alias].vendor == "sqlite":
        session = session_on(alias)
        try:
            yield session.connection
        finally:
            session.close()
        return
    import psycopg

    from outbox.postgresql import own_params

    with psycopg.connect(**own_params(alias), autocommit=True) as connection:
        yield connection


def committed(alias: str = "default") -> list[str]:
    """The bodies of the messages that everybody can see, in the order of their numbers."""
    with observer(alias) as connection:
        return [row[0] for row in connection.execute("SELECT body FROM outbox_message ORDER BY id")]


@contextmanager
def listener(channel: str) -> Iterator[Callable[[float], int]]:
    """Call it with seconds: how many notifications came until then (it answers at the first that comes)."""
    with observer() as connection:
        connection.execute(f"LISTEN {channel}")

        def heard(seconds: float) -> int:
            return len(list(connection.notifies(timeout=seconds, stop_after=1)))

        yield heard


@contextmanager
def beside(work: Callable[[], Any]) -> Iterator[threading.Thread]:
    """`work` in a thread with Django connections of its own, joined at the end."""

    def body() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    yield thread
    thread.join(20)
    assert not thread.is_alive()


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """What each returned, started together in threads with connections of their own; an error is raised again."""
    start = threading.Barrier(len(works))
    answers: list[Any] = [None] * len(works)
    errors: list[BaseException] = []

    def body(number: int, work: Callable[[], Any]) -> None:
        try:
            start.wait(10)
            answers[number] = work()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=body, args=pair, daemon=True) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads)
    return answers


def nobody_waits(first: Callable[[], Any], second: Callable[[], Any]) -> None:
    """While what `first` has written is not committed, `second` writes in a transaction that may wait for no lock."""
    done = threading.Event()

    def request() -> None:
        with transaction.atomic():
            with a_cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '1ms'")
            second()
        done.set()

    with transaction.atomic():
        first()
        with beside(request):
            assert done.wait(10)
