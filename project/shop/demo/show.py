"""What a person sees of the demo: a bar that moves, and a table at the end."""

from __future__ import annotations

import time
from typing import NamedTuple

from django.core.management.base import OutputWrapper
from django.core.management.color import Style

from project.shop.demo.figures import Figures

SAY_EVERY = 5.0
"""Seconds between two lines where there is no terminal to draw a bar on."""

BAR = 28


class Progress:
    """One line on a terminal, drawn again and again; elsewhere a plain line now and then."""

    def __init__(self, stream: OutputWrapper) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._full, self._empty = ("━", "─") if can_say(stream, "━─") else ("#", "-")
        self._said_at = 0.0
        self._said = ""

    def show(self, what: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if not self._terminal:
            if what != self._said or now - self._said_at >= SAY_EVERY:
                self._said, self._said_at = what, now
                self._stream.write(f"{what}: {done:,} of {total:,}; {note}")
            return
        filled = BAR * min(done, total) // max(total, 1)
        bar = self._full * filled + self._empty * (BAR - filled)
        self._stream.write(f"\r\x1b[K{what:<17} {bar} {done:,}/{total:,}  {note}", ending="")
        self._stream.flush()

    def say(self, what: str) -> None:
        """One thing that takes a moment."""
        if self._terminal:
            self._stream.write(f"\r\x1b[K{what} ...", ending="")
            self._stream.flush()
        elif what != self._said:
            self._stream.write(what)
            self._said = what

    def clear(self) -> None:
        if self._terminal:
            self._stream.write("\r\x1b[K", ending="")
            self._stream.flush()


class Row(NamedTuple):
    """One line of the table; `bad` says that its number should have been 0."""

    name: str
    value: str
    note: str = ""
    bad: bool = False


def table(figures: Figures, style: Style, stream: OutputWrapper) -> str:
    """The figures as a person likes to read them, with the verdict below."""
    rows: list[Row | None] = [
        Row("Orders committed", f"{figures.orders_committed:,}"),
        Row("Orders rolled back", f"{figures.orders_rolled_back:,}", "after their jobs had been enqueued"),
        None,
        Row("Receipts sent", f"{figures.receipts:,}", "counted in the mail files"),
        _wrong("  lost", figures.receipts_lost),
        _wrong("  duplicated", figures.receipts_duplicated),
        _wrong("  for rolled-back orders", figures.receipts_for_rolled_back),
        None,
        Row("Supplier confirmations", f"{figures.confirmations:,}"),
        Row("Thumbnails", f"{figures.thumbnails:,}"),
        Row("Sales reports", f"{figures.reports:,}"),
        None,
        Row("Jobs retried", f"{figures.retried:,}", "the supplier was busy"),
        Row("Killed at the timeout", f"{figures.timed_out:,}", "jobs that never end"),
        Row("Dead", f"{figures.dead:,}", "the killed ones" if figures.dead == figures.timed_out else ""),
        None,
        Row("Seconds", f"{figures.seconds:.1f}", "from the start to this table"),
        Row("Jobs per second", f"{figures.jobs_per_second:,.0f}", f"{figures.jobs:,} jobs"),
    ]
    width = max(len(row.name) for row in rows if row)
    number = max(len(row.value) for row in rows if row)
    line = ("─" if can_say(stream, "─") else "-") * (width + number + 4)
    lines = ["", style.MIGRATE_HEADING("What the tables and the mail files say"), line]
    for row in rows:
        if row is None:
            lines.append("")
            continue
        text = f"{row.name:<{width}}    {row.value:>{number}}"
        shown = style.ERROR(text) if row.bad else text
        lines.append(f"{shown}   {row.note}" if row.note else shown)
    return "\n".join([*lines, line, verdict(figures, style), ""])


def verdict(figures: Figures, style: Style) -> str:
    if not figures.problems:
        return style.SUCCESS("Good: nothing lost, nothing sent twice, nothing sent for what was rolled back.")
    return style.ERROR("\n".join(["Not good:", *(f"  {problem}" for problem in figures.problems)]))


def _wrong(name: str, count: int) -> Row:
    return Row(name, f"{count:,}", bad=bool(count))


def can_say(stream: OutputWrapper, text: str) -> bool:
    """Whether the stream's encoding has these characters."""
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
