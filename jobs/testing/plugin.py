"""Fixtures for pytest, there as soon as the package is installed: `run_jobs`, `enqueued`, `assert_enqueued`.

Each asks for pytest-django's `db`; a test that also has `transactional_db` gets what that gives. Nothing is imported
before a test asks for a fixture: the plugin is loaded when Django is not set up yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def run_jobs(db: None) -> Callable[..., Any]:
    """`jobs.testing.run_jobs`: relay and run what was enqueued, in the test's transaction."""
    from jobs.testing import run_jobs

    return run_jobs


@pytest.fixture
def enqueued(db: None) -> Callable[..., Any]:
    """`jobs.testing.enqueued`: the jobs that were enqueued and have not ended."""
    from jobs.testing import enqueued

    return enqueued


@pytest.fixture
def assert_enqueued(db: None) -> Callable[..., Any]:
    """`jobs.testing.assert_enqueued`."""
    from jobs.testing import assert_enqueued

    return assert_enqueued


@pytest.fixture
def assert_not_enqueued(db: None) -> Callable[..., Any]:
    """`jobs.testing.assert_not_enqueued`."""
    from jobs.testing import assert_not_enqueued

    return assert_not_enqueued
