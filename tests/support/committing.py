"""Real commits at a tenth of the price: after a test only the tables of jobs and outbox are emptied.

Django's flush empties every table and makes permissions and content types anew, on each alias: 0.2 to 0.4 s a test.
A module that imports `_django_db_helper` from here has the cheaper way for its tests with transaction=True.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.db import connections
from pytest_django import DjangoDbBlocker

EMPTY = [
    f"DELETE FROM {model._meta.db_table}"
    for label in ("outbox", "jobs", "tests")
    for model in apps.get_app_config(label).get_models()
]

BOTH = ["default", "other"]

on_default = pytest.mark.django_db(transaction=True)
on_both = pytest.mark.django_db(transaction=True, databases=BOTH)


@pytest.fixture
def _django_db_helper(
    request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    marker = request.node.get_closest_marker("django_db")
    given = marker.kwargs if marker else {}
    if not given.get("transaction") and "transactional_db" not in request.fixturenames:
        request.getfixturevalue("_django_db_helper")  # pytest-django's own: a transaction around the test
        yield
        return
    with django_db_blocker.unblock():
        yield
        for alias in given.get("databases") or ["default"]:
            if broken(alias):
                connections[alias].close()
                connections[alias].connect()
            with connections[alias].cursor() as cursor:
                if connections[alias].vendor == "postgresql":
                    cursor.execute("; ".join(["SET lock_timeout = '5s'", *EMPTY, "RESET lock_timeout"]))
                else:
                    for statement in EMPTY:
                        cursor.execute(statement)


def broken(alias: str) -> bool:
    """Whether the test has left the connection in a state that the next test would trip over."""
    wrapper = connections[alias]
    raw: Any = wrapper.connection
    if wrapper.vendor == "sqlite":
        return wrapper.in_atomic_block or (raw is not None and bool(raw.in_transaction))
    return wrapper.in_atomic_block or (raw is not None and raw.info.transaction_status != 0)
