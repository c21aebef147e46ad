"""Behind PgBouncer nobody knows whose a session on the server is: its name may be that of whoever had it before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connections

from jobs.rescue import end_sessions
from outbox import postgresql as sessions
from outbox.session import Query, session_on
from tests.support.processes import database_url
from tests.trust.bouncer import Bouncer
from tests.trust.rows import ROWS

pytestmark = [
    pytest.mark.skipif(bool(ROWS["R13"].missing()), reason=ROWS["R13"].missing()),
    pytest.mark.postgresql("PgBouncer"),
]

NAME = "jobs-slot-of-a-dead-one"


@pytest.fixture
def pooled(transactional_db: None, tmp_path: Path) -> Iterator[str]:
    """The URL of the test database through a pooler with two sessions on the server."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "bouncer"
    folder.mkdir()
    for parent in (tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)  # the pooler does not run as root
    bouncer = Bouncer(database_url(), folder, pool=2)
    yield bouncer.url + connections["default"].settings_dict["NAME"]
    bouncer.close()


def test_the_session_of_somebody_else_is_not_ended_for_its_former_name(
    pooled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(pooled, application_name=NAME, prepare_threshold=None) as slot:
        slot.execute("SELECT 1")
    with psycopg.connect(pooled, prepare_threshold=None) as innocent:  # it gives no name, like most
        innocent.execute("SELECT 1")
        mine = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        assert innocent.execute(mine).fetchall() == [(NAME,)]
        monkeypatch.setattr(sessions, "own_params", lambda alias: {"conninfo": pooled})
        keeper = session_on("default")

        end_sessions(keeper, NAME)

        assert innocent.execute("SELECT 2").fetchall() == [(2,)]
        assert keeper.glance(Query("SELECT 3")) == [(3,)]
        keeper.close()
