"""One of our statements for PostgreSQL, respelled for SQLite by rule.

It takes the text with its placeholders; it leaves SQLite's text and how its parameters are made from the given ones: an
array becomes JSON, arrays side by side become the JSON of their rows. What no rule can say (statements within
statements that write, LATERAL) has a room of its own: see `book`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from outbox.lite.values import array, plain, stored, table

Make = Callable[[Sequence[Any]], Any]


class Spelled(NamedTuple):
    """A statement in SQLite's words."""

    sql: str
    make: tuple[Make, ...]
    reads: bool
    """It writes nothing, so it need not wait for the writer's turn."""

    def params(self, given: Sequence[Any] | Mapping[str, Any]) -> Any:
        return plain(given) if isinstance(given, Mapping) else [make(given) for make in self.make]


READS = re.compile(r"\s*(SELECT|WITH RECURSIVE|WITH \w+(\([\w, ]+\))? AS (MATERIALIZED )?\(\s*SELECT)\b", re.IGNORECASE)
WRITES = re.compile(r"\b(INSERT INTO|UPDATE \w+|DELETE FROM)\b")

# A placeholder while the text is worked on: its number, or the numbers of the arrays that it is made of.
MARK = "\u27e6{}\u27e7"
ONE = r"\u27e6(\d+)\u27e7"
ANY_MARK = re.compile(r"\u27e6([^\u27e7]*)\u27e7")

CLOCK = r"((?:clock|statement)_timestamp\(\)|\bnow\(\))"

SIMPLE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        (r"\s+FOR UPDATE(?: OF \w+)?(?: SKIP LOCKED)?", ""),
        # Times that are so many seconds, or a duration in a parameter, away.
        (CLOCK + r" ([+-]) ([\w.]+|%\(\w+\)s|" + ONE + r")(?:::\w+)? \* interval '1 second'", r"later(\1, \g<2>\3)"),
        (CLOCK + r" ([+-]) interval '(\d+) (?:ms|milliseconds?)'", r"later(\1, \g<2>0.001 * \3)"),
        (CLOCK + r" ([+-]) interval '(\d+) seconds?'", r"later(\1, \g<2>\3)"),
        (CLOCK + r" ([+-]) interval '(\d+) minutes?'", r"later(\1, \g<2>60.0 * \3)"),
        (CLOCK + r" ([+-]) interval '(\d+) hours?'", r"later(\1, \g<2>3600.0 * \3)"),
        (CLOCK + r" ([+-]) interval '(\d+) days?'", r"later(\1, \g<2>86400.0 * \3)"),
        (CLOCK + r" ([+-]) " + ONE + r"(?:::interval)?", r"later(\1, \g<2>" + MARK.format(r"\3") + " / 1e6)"),
        (r"\bsubstring\((\w+) FROM ('[^']*')\)", r"found_in(\1, \2)"),
        (r"date_trunc\('day', clock_timestamp\(\) AT TIME ZONE 'UTC'\) AT TIME ZONE 'UTC'", "midnight()"),
        (r"\bstring_agg\(", "group_concat("),
        (
            r"generate_series\(1, (" + ONE + r"|\d+)\)(?: AS n)?",
            r"(WITH RECURSIVE series(n) AS (SELECT 1 WHERE \1 > 0 UNION ALL SELECT n + 1 FROM series WHERE n < \1)"
            r" SELECT n FROM series) AS n",
        ),
        (r"\blower\(", "lowered("),
        (r"\bleft\(", "first("),
        (r"\bIS NOT DISTINCT FROM\b", "IS"),
        (r"\bctid\b", "rowid"),
        (r"\bOFFSET (\d+) LIMIT (\d+)", r"LIMIT \2 OFFSET \1"),
        (r"\bLIMIT " + ONE, "LIMIT coalesce(" + MARK.format(r"\1") + ", -1)"),
        (r"\b((?:\w+\.)?(?:id|uid|job|parent))::text\b", r"dashed(\1)"),
        (r"::\w+(?: precision)?(?:\[\])?", ""),
        (r"\bNULL\s+AS\b", "NULL AS"),
        (r"\bmin\(greatest\(", "min(greatest("),
    )
)

UNNEST = re.compile(r"unnest\(\s*((?:" + ONE + r"::\w+\[\]\s*,?\s*)+)\)(?:\s+AS\s+(\w+)\s*(?:\(([\w\s,]+)\))?)?")
TYPED = re.compile(ONE + r"::(\w+)\[\]")
AMONG = re.compile(r"= ANY\(" + ONE + r"(?:::(\w+)\[\])?\)")
NOT_AMONG = re.compile(r"<> ALL\(" + ONE + r"(?:::(\w+)\[\])?\)")


@lru_cache(maxsize=4096)
def spell(sql: str) -> Spelled:
    """The statement in SQLite's words."""
    made: dict[str, Make] = {}
    text = _numbered(sql)
    text = UNNEST.sub(lambda match: _unnested(match, made), text)
    text = AMONG.sub(lambda match: f"IN (SELECT value FROM json_each({_listed(match, made)}))", text)
    text = NOT_AMONG.sub(lambda match: f"NOT IN (SELECT value FROM json_each({_listed(match, made)}))", text)
    text = _among_selected(text)
    text = _epochs(text)
    for pattern, by in SIMPLE:
        text = pattern.sub(by, text)
    order: list[Make] = []

    def place(match: re.Match[str]) -> str:
        name = match[1]
        if name.startswith("%"):
            return name  # by name: those are made all at once
        order.append(made[name] if name in made else _as_is(int(name)))
        return "%s"

    text = ANY_MARK.sub(place, text)
    reads = bool(READS.match(text)) and not WRITES.search(text)
    return Spelled(text, tuple(order), reads)


def _numbered(sql: str) -> str:
    """With numbers for placeholders. Doubled percent signs stay: the cursor halves them."""
    numbers = iter(range(10_000))
    return re.sub(r"%(?:%|s|\(\w+\)s)", lambda m: MARK.format(next(numbers)) if m[0] == "%s" else m[0], sql)


def _as_is(number: int) -> Make:
    return lambda given: stored(given[number])


def _listed(match: re.Match[str], made: dict[str, Make]) -> str:
    number, kind = int(match[1]), match[2] or ""
    name = f"list {number}"
    made[name] = lambda given: array(given[number], kind)
    return MARK.format(name)


def _unnested(match: re.Match[str], made: dict[str, Make]) -> str:
    """Arrays as a table, in their order."""
    found = TYPED.findall(match[1])
    numbers, kinds = [int(number) for number, _ in found], [kind for _, kind in found]
    name, columns = match[3], [column.strip() for column in (match[4] or "").split(",") if column.strip()]
    mark = f"rows {numbers[0]}"
    if len(found) == 1:
        made[mark] = lambda given: array(given[numbers[0]], kinds[0])
        values = [f"value AS {columns[0] if columns else name or 'value'}"]
    else:
        made[mark] = lambda given: table([given[number] for number in numbers], kinds)
        columns = columns or [f"c{n}" for n in range(len(found))]
        values = [f"json_extract(value, '$[{n}]') AS {column}" for n, column in enumerate(columns)]
    made_table = f"(SELECT {', '.join(values)} FROM json_each({MARK.format(mark)}))"
    return f"{made_table} AS {name}" if name else made_table


def _among_selected(text: str) -> str:
    """`x = ANY(ARRAY(SELECT ...))` as `x IN (SELECT ...)`, each with the parenthesis that closes it."""
    opening = "= ANY(ARRAY("
    while (start := text.find(opening)) >= 0:
        end = closing(text, start + len(opening) - 1)
        text = f"{text[:start]}IN ({text[start + len(opening) : end]}{text[end:].replace('))', ')', 1)}"
    return text


def _epochs(text: str) -> str:
    """`extract(epoch FROM a - b)` as a difference of seconds."""
    opening = "extract(epoch FROM "
    while (start := text.find(opening)) >= 0:
        end = closing(text, start + len("extract"))
        sides = _sides(text[start + len(opening) : end])
        text = f"{text[:start]}({' - '.join(f'seconds({side})' for side in sides)}){text[end + 1 :]}"
    return text


def _sides(text: str) -> list[str]:
    """What stands before and after the minus that is in no parenthesis."""
    depth = 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if not depth and text.startswith(" - ", at):
            return [text[:at], text[at + 3 :]]
    return [text]


def closing(text: str, opening: int) -> int:
    """Where the parenthesis at that place is closed."""
    depth = 0
    for at in range(opening, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if not depth:
            return at
    raise ValueError(f"a parenthesis is not closed: {text}")
