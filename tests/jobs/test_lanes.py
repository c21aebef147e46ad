"""Which queue and which band comes first, claim after claim. Pure."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.claim import BANDS, LOW_FIRST_EVERY, Lanes

QUEUES = ["a", "b", "c"]
BY_PRIORITY = [(50, 100), (-49, 49), (-100, -50)]


def bands_of(lanes: list[tuple[str, int, int]]) -> list[tuple[int, int]]:
    return [(low, high) for _, low, high in lanes]


def test_the_bands_cover_every_priority_once() -> None:
    covered = [priority for low, high in BANDS for priority in range(low, high + 1)]

    assert sorted(covered) == list(range(-100, 101))


@pytest.mark.parametrize("n", range(1, LOW_FIRST_EVERY))
def test_high_comes_first_in_nineteen_claims(n: int) -> None:
    """Row P21: high before default before low."""
    lanes = Lanes(["a"])

    served = [lanes.next() for _ in range(n)][-1]

    assert bands_of(served) == BY_PRIORITY


def test_low_comes_first_in_the_twentieth() -> None:
    lanes = Lanes(["a"])

    firsts = [lanes.next()[0][1:] for _ in range(200)]

    lows = [n for n, band in enumerate(firsts) if band == (-100, -50)]
    assert len(lows) == 10
    assert {after - before for before, after in pairwise(lows)} == {20}


@pytest.mark.parametrize(
    "lanes",
    [Lanes(QUEUES), Lanes(QUEUES, strict=True), Lanes(QUEUES, weights=(5, 1, 1)), Lanes(QUEUES, any_queue=True)],
    ids=["priority", "strict", "weights", "any"],
)
def test_every_claim_serves_every_queue_and_band_once(lanes: Lanes) -> None:
    for _ in range(60):
        served = lanes.next()

        assert len(served) == len(set(served)) == 9
        assert set(served) == {(queue, low, high) for queue in QUEUES for low, high in BANDS}


def test_strict_queues_keep_their_order_in_every_claim() -> None:
    lanes = Lanes(QUEUES, strict=True)

    for _ in range(40):
        assert [queue for queue, _, _ in lanes.next()] == ["a"] * 3 + ["b"] * 3 + ["c"] * 3


def test_without_weights_a_band_of_all_queues_goes_before_the_next() -> None:
    lanes = Lanes(QUEUES)

    for _ in range(LOW_FIRST_EVERY - 1):
        assert bands_of(lanes.next()) == [band for band in BY_PRIORITY for _ in QUEUES]


def test_queues_take_turns_at_being_first() -> None:
    lanes = Lanes(QUEUES)

    firsts = Counter(lanes.next()[0][0] for _ in range(300))

    assert all(90 <= firsts[queue] <= 110 for queue in QUEUES)


@given(st.integers(1, 40))
def test_queues_take_turns_at_being_first_in_low_as_well(queues: int) -> None:
    """Else the low jobs of one queue wait for ever behind endless low jobs of another."""
    names = [str(n) for n in range(queues)]
    lanes = Lanes(names)

    low_first = {
        served[0][0] for served in (lanes.next() for _ in range(LOW_FIRST_EVERY * queues)) if served[0][1] == -100
    }

    assert low_first == set(names)


def test_no_band_waits_for_ever_behind_endless_others() -> None:
    """High and low without end: what stands between them has its turn as well."""
    lanes = Lanes(["a"])

    firsts = {lanes.next()[0][1:] for _ in range(1000)}

    assert firsts == set(BANDS)


def test_the_heavier_queue_tends_to_come_first() -> None:
    random.seed(7)
    lanes = Lanes(["a", "b"], weights=(3, 1))

    firsts = Counter(lanes.next()[0][0] for _ in range(4000))

    assert 0.72 < firsts["a"] / 4000 < 0.78


def test_when_it_is_lows_turn_it_comes_first_in_every_weighted_queue() -> None:
    lanes = Lanes(QUEUES, weights=(5, 1, 1))

    served = [lanes.next() for _ in range(LOW_FIRST_EVERY)][-1]

    assert bands_of(served) == [(-100, -50)] * 3 + [(-49, 49)] * 3 + [(50, 100)] * 3


def test_weights_that_are_the_same_are_fair() -> None:
    random.seed(7)
    lanes = Lanes(QUEUES, weights=(1, 1, 1))

    firsts = Counter(lanes.next()[0][0] for _ in range(6000))

    assert all(0.30 < firsts[queue] / 6000 < 0.37 for queue in QUEUES)


def test_a_queue_that_is_drawn_first_is_served_in_all_its_bands_first() -> None:
    lanes = Lanes(QUEUES, weights=(1, 1, 1))

    for _ in range(LOW_FIRST_EVERY - 1):
        order = [queue for queue, _, _ in lanes.next()]

        assert order[:3] == [order[0]] * 3 and order[3:6] == [order[3]] * 3


def test_no_queue_at_all_is_no_lane() -> None:
    assert Lanes([]).next() == []
    assert Lanes([], any_queue=True).next() == []
    assert Lanes([], weights=()).next() == []
