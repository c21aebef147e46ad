"""Declare tasks in a test, and leave no trace of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jobs.backend import adopt, declared
from jobs.declare import registry


@contextmanager
def as_it_was() -> Iterator[None]:
    places = (registry, declared.seen, adopt._late)
    before = [dict(place) for place in places]
    adopt._late.clear()
    yield
    for place, kept in zip(places, before, strict=True):
        place.clear()
        place.update(kept)
