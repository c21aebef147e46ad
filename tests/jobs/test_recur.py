"""When a schedule is due: the table of the documentation, an independent count of minutes, and what is refused."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from jobs.errors import InvalidSchedule
from jobs.recur import MOST_WALKED, Rhythm
from tests.support.processes import ROOT

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

CHANGES = {
    ("Europe/Paris", "2026-03-29"): "2026-03-29T01:00Z",
    ("Europe/Paris", "2026-10-25"): "2026-10-25T01:00Z",
    ("America/New_York", "2026-03-08"): "2026-03-08T07:00Z",
    ("America/New_York", "2026-11-01"): "2026-11-01T06:00Z",
    ("Australia/Lord_Howe", "2026-10-04"): "2026-10-03T15:30Z",
    ("Australia/Lord_Howe", "2026-04-05"): "2026-04-04T15:00Z",
    ("Africa/Cairo", "2026-04-24"): "2026-04-23T22:00Z",
    ("Africa/Cairo", "2026-10-29"): "2026-10-29T21:00Z",
    ("America/Sao_Paulo", "2018-11-04"): "2018-11-04T03:00Z",
    ("America/Sao_Paulo", "2018-02-17"): "2018-02-18T02:00Z",
    ("Pacific/Apia", "2011-12-31"): "2011-12-30T10:00Z",
    ("Pacific/Apia", "2012-04-01"): "2012-03-31T14:00Z",
    ("Asia/Kolkata", "2026-03-29"): "2026-03-28T20:30Z",
}
"""When the clocks change, in UTC, by the tables of the time zone database."""

ROWS = re.findall(
    r"^\| (\w+/\w+) \| (\d{4}-\d\d-\d\d) \| ([^|]*?) \| `([^`]+)` \| ([^|]*?) *\|$",
    (ROOT / "docs/schedules.md").read_text(),
    re.MULTILINE,
)


def test_the_table_has_six_zones_and_both_directions() -> None:
    assert len({zone for zone, *_ in ROWS}) >= 6
    assert {(zone, day) for zone, day, *_ in ROWS} == set(CHANGES)


def came(zone: str, day: str, clocks: str, cron: str) -> str:
    """What comes due around a change of the clocks, as the table says it."""
    change = datetime.fromisoformat(CHANGES[zone, day])
    span = 26 * HOUR if "left out" in clocks else 2.5 * HOUR

    ticks = list(itertools.takewhile(lambda at: at <= change + span, Rhythm(cron, timezone=zone).ticks(change - span)))

    shown = [f"{at.astimezone(ZoneInfo(zone)):%d %H:%M%z}" for at in ticks]
    return ", ".join(re.sub(r"([+-]\d\d)00$", r"\1", each) for each in shown)


@pytest.mark.parametrize(("zone", "day", "clocks", "cron", "said"), ROWS)
def test_the_documented_table(zone: str, day: str, clocks: str, cron: str, said: str) -> None:
    assert came(zone, day, clocks, cron) == said


@pytest.mark.parametrize(("zone", "day"), CHANGES)
@pytest.mark.parametrize("cron", ["*/15 * * * *", "30 * * * *", "*/15 2 * * *", "15 */2 * * *", "7 * */2 * MON-WED"])
def test_a_wild_card_is_due_at_every_minute_whose_clock_matches(zone: str, day: str, cron: str) -> None:
    """Against the plainest count there is: every minute of three days, looked at on the clock."""
    start = datetime.fromisoformat(CHANGES[zone, day]) - 36 * HOUR
    fields, there = CronSim(cron, datetime(2026, 1, 1)), ZoneInfo(zone)
    expected = []
    for n in range(1, 72 * 60):
        wall = (start + n * MINUTE).astimezone(there)
        if wall.minute in fields.minutes and wall.hour in fields.hours and fields.match_day(wall.date()):
            expected.append(start + n * MINUTE)
    rhythm = Rhythm(cron, timezone=zone)

    assert list(itertools.takewhile(lambda at: at < start + 72 * HOUR, rhythm.ticks(start))) == expected
    for this, following in itertools.pairwise(expected):
        assert rhythm.after(this) == following == rhythm.after(following - timedelta(seconds=1))


@pytest.mark.parametrize(("zone", "day"), CHANGES)
@pytest.mark.parametrize("cron", ["30 2 * * *", "0,15,30,45 0,1,2,3,23 * * *", "0 0 * * *", "45 1 * * *"])
def test_a_time_of_day_comes_once_and_never_goes_back(zone: str, day: str, cron: str) -> None:
    start = datetime.fromisoformat(CHANGES[zone, day]) - 60 * HOUR
    rhythm = Rhythm(cron, timezone=zone)
    ticks = list(itertools.takewhile(lambda at: at < start + 120 * HOUR, rhythm.ticks(start)))

    assert ticks == sorted(set(ticks))
    walls = [at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for at in ticks]
    assert walls == sorted(set(walls)), "a time on the wall came twice"
    # Asked at any moment, it answers the same ticks: whoever looks after a restart sees no other ones.
    for n in range(0, 120 * 60, 17):
        at = start + n * MINUTE
        assert rhythm.after(at) == next((tick for tick in ticks if tick > at), rhythm.after(ticks[-1]))


def test_an_interval_counts_from_the_tick_before_and_knows_no_clocks() -> None:
    first = datetime(2026, 3, 28, 1, 30, tzinfo=UTC)

    assert Rhythm(every=DAY, timezone="Europe/Paris").after(first) == first + DAY
    assert Rhythm(every=15 * MINUTE).after(first + 7.3 * MINUTE, first) == first + 15 * MINUTE
    assert Rhythm(every=15 * MINUTE).after(first + 15 * MINUTE, first) == first + 30 * MINUTE


@pytest.mark.parametrize(
    ("rhythm", "passed", "total", "latest", "ahead"),
    [
        (Rhythm(every=MINUTE), -1.0, 0, [], 0),
        (Rhythm(every=MINUTE), 0.0, 1, [0], 1),
        (Rhythm(every=MINUTE), 59.9, 1, [0], 1),
        (Rhythm(every=MINUTE), 3 * 60.0, 4, [1, 2, 3], 4),
        (Rhythm("* * * * *"), -1.0, 0, [], 0),
        (Rhythm("* * * * *"), 0.0, 1, [0], 1),
        (Rhythm("* * * * *"), 3 * 60.5, 4, [1, 2, 3], 4),
    ],
)
def test_what_has_come_due(rhythm: Rhythm, passed: float, total: int, latest: list[int], ahead: int) -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)

    due = rhythm.due(first, first + timedelta(seconds=passed), 3)

    assert due == (total, [first + n * MINUTE for n in latest], first + ahead * MINUTE)


def test_a_year_of_minutes_that_nobody_looked_at_is_counted_in_a_moment_and_ends_right() -> None:
    first = datetime(2025, 1, 1, tzinfo=UTC)
    now = first + 365 * DAY

    due = Rhythm("* * * * *", timezone="Europe/Paris").due(first, now, 2)

    assert due.total > MOST_WALKED
    assert due.latest == [now - MINUTE, now] and due.next == now + MINUTE


@pytest.mark.parametrize(
    ("rhythm", "sentence"),
    [
        (Rhythm("0 2 * * *"), "At 02:00 every day"),
        (Rhythm("*/15 9-17 * * MON-FRI"), "Every 15th minute from 09:00 through 17:59 on Monday through Friday"),
        (Rhythm("@hourly"), "At the start of every hour"),
        (Rhythm(every=HOUR), "Every hour"),
        (Rhythm(every=15 * MINUTE), "Every 15 minutes"),
        (Rhythm(every=DAY + 12 * HOUR), "Every 1 day 12 hours"),
    ],
)
def test_it_says_itself_in_plain_words(rhythm: Rhythm, sentence: str) -> None:
    assert rhythm.sentence == sentence


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": "* * * *"}, "five fields"),
        ({"cron": "* * * * * *"}, "five fields"),
        ({"cron": "@reboot"}, "five fields"),
        ({"cron": "0 0 30 2 *"}, "cannot be read"),
        ({"cron": "a\x00 * * * *"}, "Bad minute"),
        ({"cron": "0 2 * * *", "timezone": "Europe/Pariss"}, "not known here"),
        ({"cron": "0 2 * * *", "timezone": "../../etc/passwd"}, "not known here"),
        ({"cron": "0 2 * * *", "timezone": ""}, "not known here"),
        ({"cron": "0 2 * * *", "every": DAY}, "either"),
        ({}, "either"),
        ({"every": timedelta(0)}, "above 0"),
        ({"every": 5000 * DAY}, "ten years"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(given: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidSchedule, match=words):
        Rhythm(**given)  # type: ignore[arg-type]
