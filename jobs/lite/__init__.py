"""The jobs' verbs on SQLite: what `outbox.lite` cannot respell by rule, in rooms named like those they stand for.

Each verb of `claim`, `finish`, `intake` and the others is one statement for PostgreSQL. Its counterpart here is a few
plain ones in the one IMMEDIATE transaction of its caller, which nobody else can write beside: so there is nothing to
lock and nothing to skip. Guards and fences stand in every WHERE all the same, and the rows that come back are the
answer.

Imported when SQLite is first used; PostgreSQL never reads it.
"""

from jobs.lite import claim, dashboard, finish, intake, move, operate, replay  # noqa: F401  they register
