"""When a schedule is due: a cron expression or an interval, in a time zone, with its rules for the change of clocks.

Pure: a rhythm and a moment go in, ticks come out. `cronsim` reads the expression and finds the next matching date on a
calendar without time zones; what the change of clocks makes of it is decided here, as Debian's cron decides it:

- A time of day (neither minute nor hour begins with `*`) comes once a day. One that the clocks skip comes at the first
  moment after the gap; one that they repeat comes the first time round. Several that fall into one gap are one tick.
- A wild card (minute or hour begins with `*`) follows real time: it is due whenever the clock on the wall matches, in a
  repeated hour both times round, and what the clock never shows is not due.
- An interval knows no clock on the wall: each tick is exactly that long after the one before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from jobs.errors import InvalidSchedule

SHORTEST, LONGEST = timedelta(seconds=1), timedelta(days=3660)

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)

MOST_WALKED = 20_000
"""Ticks that are looked at one by one after an outage: two weeks of minutes. Beyond them, the last two days."""

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

UNITS = ((7 * 86_400, "week"), (86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))

SOME_DAY = datetime(2024, 1, 1)  # noqa: DTZ001  a leap year, and a Monday


class Due(NamedTuple):
    """What has come due between a tick and a later moment."""

    total: int
    latest: list[datetime]
    """The last of them, as many as were asked for, in order."""
    next: datetime | None
    """The first one that is still to come; None where there will be none."""


@dataclass(frozen=True)
class Rhythm:
    """Either `cron` (five fields or a nickname such as @daily) in a `timezone`, or `every`.

    Raises InvalidSchedule for what cannot be read, for a zone that does not exist, and for dates that never come.
    """

    cron: str = ""
    every: timedelta | None = None
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        _ = self.zone
        if bool(self.cron) == (self.every is not None):
            raise InvalidSchedule("Give either a cron expression or an interval.")
        if self.cron:
            check_cron(self.cron)
        elif self.every is not None and not timedelta(0) < self.every <= LONGEST:
            raise InvalidSchedule(f"every {self.every!r}: give an interval above 0, at most ten years.")

    @cached_property
    def zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError, TypeError):
            raise InvalidSchedule(
                f'timezone={self.timezone!r} is not known here: give a name such as "Europe/Paris". Where the system'
                " has no time zones, `pip install tzdata`."
            ) from None

    @cached_property
    def fields(self) -> str:
        """The five fields, nicknames spelled out."""
        return NICKNAMES.get(self.cron.strip().lower(), self.cron)

    @property
    def sentence(self) -> str:
        """In plain words, without the time zone."""
        if self.every is not None:
            return f"Every {_in_words(self.every)}"
        return str(CronSim(self.fields, SOME_DAY).explain())

    def after(self, at: datetime, anchor: datetime | None = None) -> datetime | None:
        """The first tick later than `at`; an interval counts from `anchor` (without one, from `at`)."""
        return next(self.ticks(at, anchor), None)

    def ticks(self, after: datetime, anchor: datetime | None = None) -> Iterator[datetime]:
        """All ticks later than `after`, in UTC."""
        after = after.astimezone(UTC)
        if self.every is not None:
            return self._steps(self.every, after, (anchor or after).astimezone(UTC))
        minute, hour, *_ = self.fields.split()
        return self._real(after) if minute.startswith("*") or hour.startswith("*") else self._times_of_day(after)

    def due(self, first: datetime, now: datetime, most: int) -> Due:
        """Which ticks have come due by `now`, where `first` is the earliest that nobody has decided."""
        if self.every is not None:
            past = (now - first) // self.every if now >= first else -1
            latest = [first + self.every * n for n in range(max(0, past + 1 - most), past + 1)]
            return Due(past + 1, latest, first + self.every * (past + 1))
        if first > now:
            return Due(0, [], first)
        seen, latest_few = 1, deque([first], maxlen=most)
        ticks = self.ticks(first)
        while (tick := next(ticks, None)) is not None and tick <= now:
            seen += 1
            latest_few.append(tick)
            if seen == MOST_WALKED and tick < now - 2 * DAY:
                ticks = self.ticks(now - 2 * DAY)
        return Due(seen, list(latest_few), tick)

    def _steps(self, every: timedelta, after: datetime, anchor: datetime) -> Iterator[datetime]:
        n = (after - anchor) // every + 1
        while True:
            yield anchor + every * n
            n += 1

    def _times_of_day(self, after: datetime) -> Iterator[datetime]:
        for wall in CronSim(self.fields, self._wall(after)):
            at = wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
            if self._wall(at) != wall:  # no clock ever shows it: fold=1 lies before the gap, fold=0 behind it
                before = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
                at = self._jump(before, at) or at
            if at > after:
                yield at
                after = at

    def _real(self, after: datetime) -> Iterator[datetime]:
        offset, wall, known = self._offset(after), self._wall(after), after
        while True:
            jump = None
            for tick in CronSim(self.fields, wall):
                at = tick.replace(tzinfo=UTC) - offset
                if (jump := self._jump(known, at)) is not None:
                    break  # the clocks change before it: begin anew with what they show then
                known = at
                yield at
            if jump is None:
                return
            offset, known = self._offset(jump), jump
            wall = self._wall(jump) - SECOND

    def _jump(self, start: datetime, end: datetime) -> datetime | None:
        """The first moment in (start, end] at which the clocks differ from those at `start`; None where they do not.

        Looks once a day: two changes within one day that undo each other are not seen.
        """
        offset, low = self._offset(start), start
        while low < end:
            high = min(low + DAY, end)
            if self._offset(high) != offset:
                while high - low > SECOND:
                    middle = (low + (high - low) / 2).replace(microsecond=0)
                    if middle <= low:
                        break
                    low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
                return high
            low = high
        return None

    def _offset(self, at: datetime) -> timedelta:
        return at.astimezone(self.zone).utcoffset() or timedelta(0)

    def _wall(self, at: datetime) -> datetime:
        return at.astimezone(self.zone).replace(tzinfo=None, fold=0)


def check_cron(cron: str) -> None:
    """Raises InvalidSchedule with what is wrong, and how it should look."""
    how = 'give five fields "minute hour day month weekday", such as "0 2 * * *" or "*/15 9-17 * * MON-FRI"'
    fields = NICKNAMES.get(cron.strip().lower(), cron) if isinstance(cron, str) else ""
    if len(fields.split()) != 5 or len(fields) > 100:
        raise InvalidSchedule(f"cron={cron!r} does not have five fields: {how}.")
    try:
        first = next(CronSim(fields, SOME_DAY), None)
    except (CronSimError, ValueError, AssertionError) as error:
        raise InvalidSchedule(f"cron={cron!r} cannot be read ({error}): {how}.") from None
    if first is None:
        raise InvalidSchedule(f"cron={cron!r} never comes: there is no such day in fifty years.")


def _in_words(span: timedelta) -> str:
    """7 days 12 hours as "week 12 hours": what stands after "Every"."""
    left, words = span.total_seconds(), []
    for size, name in UNITS:
        n = int(left // size)
        if n:
            words.append(f"{n} {name}{'s' * (n != 1)}")
            left -= n * size
    if left > 1e-6:
        words.append(f"{left:.3g} s")
    said = " ".join(words)
    return said.removeprefix("1 ") if len(words) == 1 else said
