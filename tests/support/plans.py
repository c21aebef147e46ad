"""EXPLAIN a statement exactly as it runs, and read the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.adapt import PyFormat, Transformer

from outbox.session import Query, Session
from outbox.terms import BEGIN, SETTINGS

EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "


@dataclass(frozen=True, repr=False)
class Plan:
    """What the planner chose and what it cost, of a statement that was run and rolled back."""

    root: dict[str, Any]

    @property
    def buffers(self) -> int:
        """Pages the statement has touched."""
        return int(self.root["Shared Hit Blocks"] + self.root["Shared Read Blocks"])

    @property
    def nodes(self) -> list[dict[str, Any]]:
        return list(walk(self.root))

    @property
    def kinds(self) -> set[str]:
        return {node["Node Type"] for node in self.nodes}

    def read(self, table: str) -> float:
        """Rows of that table the statement has looked at, wanted or not."""
        counts = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
        return sum(
            node["Actual Loops"] * sum(node.get(count, 0) for count in counts)
            for node in self.nodes
            if node.get("Relation Name") == table and "Scan" in node["Node Type"]
        )

    def read_whole(self, tables: Sequence[str]) -> list[str]:
        """Which of those tables were read from end to end."""
        whole = [node["Relation Name"] for node in self.nodes if "Seq Scan" in node["Node Type"]]
        return [table for table in whole if table in tables]

    def most_sorted(self) -> float:
        """The most rows that any sort was given."""
        return max((child(node)["Actual Rows"] for node in self.nodes if "Sort" in node["Node Type"]), default=0)

    def __repr__(self) -> str:
        """The plan as a person reads it, for the message of an assert."""
        return "\n" + "\n".join(lines(self.root, 0))


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from walk(below)


def child(node: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = node["Plans"][0]
    return found


def lines(node: dict[str, Any], depth: int) -> Iterator[str]:
    on = " ".join(str(node[name]) for name in ("Relation Name", "Index Name", "Function Name") if name in node)
    said = f"{node['Node Type']} {on}".strip()
    removed = node.get("Rows Removed by Filter", 0)
    yield f"{'  ' * depth}{said}: rows={node['Actual Rows']} loops={node['Actual Loops']} removed={removed}"
    for below in node.get("Plans", ()):
        yield from lines(below, depth + 1)


def explain(session: Session, query: Query, *, generic: bool = False, settings: bool = True) -> Plan:
    """Run it in a transaction of ours and roll it back.

    `generic` is the plan a statement gets once it has been prepared for any values, as psycopg does from the fifth
    time on; without `settings` it runs as `Session.glance` runs it.
    """
    connection = session.connection
    connection.execute(BEGIN)
    try:
        if settings:
            connection.execute(SETTINGS, ("60000", True))
        if not generic:
            cursor = connection.execute(EXPLAIN + query.sql, query.params, prepare=False)
        else:
            cursor = _explain_prepared(connection, query)
        row = cursor.fetchone()
    finally:
        connection.execute("ROLLBACK")
        if generic:
            connection.execute("DEALLOCATE planned")
    assert row is not None
    return Plan(row[0][0]["Plan"])


def _explain_prepared(connection: psycopg.Connection[Any], query: Query) -> psycopg.Cursor[Any]:
    connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    text = query.sql
    for n in range(1, len(query.params) + 1):
        text = text.replace("%s", f"${n}", 1)
    # The types of the parameters are those that psycopg names, or the server would guess others.
    transformer = Transformer(connection)
    transformer.dump_sequence(query.params, [PyFormat.AUTO] * len(query.params))
    prepared = connection.pgconn.prepare(b"planned", text.encode(), transformer.types)
    assert prepared.status == psycopg.pq.ExecStatus.COMMAND_OK, prepared.error_message
    values = f"({', '.join(['%s'] * len(query.params))})" if query.params else ""
    with psycopg.ClientCursor(connection) as client:
        execute = client.mogrify(f"{EXPLAIN} EXECUTE planned{values}", query.params)
    return connection.execute(execute.encode(), prepare=False)
