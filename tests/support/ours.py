"""A clean database without a flush. A plugin: a test module says `pytest_plugins = ["tests.support.ours"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connections

from outbox.session import Session, session_on
from tests.support.database import on_sqlite
from tests.support.floor import wipe
from tests.support.locks import close_all


def _ours() -> Iterator[Session]:
    """A connection as a worker has one, on empty tables, and a Django connection that commits.

    What `transactional_db` gives, without its TRUNCATE of every table: the connection on which `db` has opened its
    transaction is laid aside for the test, and Django opens another.
    """
    laid_aside = connections["default"]
    del connections["default"]
    session = session_on("default", statement_timeout=15)
    wipe(session)
    yield session
    close_all()
    wipe(session)
    session.close()
    connections["default"].close()
    connections["default"] = laid_aside


if on_sqlite():

    @pytest.fixture
    def ours(transactional_db: None) -> Iterator[Session]:
        """There a transaction that is open would have the one writer's turn for the whole test."""
        yield from _ours()

else:

    @pytest.fixture
    def ours(db: None) -> Iterator[Session]:
        yield from _ours()
