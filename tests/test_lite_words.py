"""Every statement of ours has words on SQLite: none is found to have none when a worker runs it."""

from __future__ import annotations

from tests.support.alone import run_alone

NOT_ON_SQLITE = {
    "outbox.terms.BEGIN": "the session's own",
    "outbox.terms.SETTINGS": "the session's own",
    "outbox.terms.NOT_DURABLE": "the session's own",
    "outbox.terms.HOLD": "the session's own",
    "outbox.wake.WAKE": "nobody is notified",
    "outbox.write.COPY": "INSERT does there",
    "jobs.dashboard.look.LIMIT": "reads are interrupted otherwise",
    "jobs.dashboard.look.UNLIMIT": "reads are interrupted otherwise",
    "jobs.finish.DEAD": "part of DIE",
    "jobs.finish.SUCCEEDED": "part of SUCCEED",
    "jobs.intake.INSERT": "part of ACCEPT",
    "jobs.intake.INSERT_ALL": "part of ACCEPT_ALL",
}
"""Name and why it needs none."""

WALK = r"""
import importlib, json, os, pkgutil, re, sys, tempfile
os.environ["DATABASE_URL"] = "sqlite:///" + os.path.join(tempfile.mkdtemp(), "x.db")
os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
import django; django.setup()
from django.core.management import call_command
from django.db import connection
call_command("migrate", verbosity=0)
import jobs, outbox
from outbox.lite.answer import teach_once
from outbox.lite.book import find
from outbox.lite.spell import spell
connection.ensure_connection(); teach_once(connection)
BEGINS = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|NOTIFY|LOCK|SET|COPY|BEGIN)\b")
def fill(text):
    text = re.sub(r"(WHERE|AND) \{(where|half|)\}", r"\1 true", text)
    return re.sub(r"\{(\w*)\}", "", text)
seen, wrong = 0, {}
for package in (outbox, jobs):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if ".migrations" in found.name or ".lite" in found.name:
            continue
        try:
            module = importlib.import_module(found.name)
        except ImportError:
            continue  # a backend for what is not installed
        for name, value in vars(module).items():
            if not (name.isupper() and isinstance(value, str) and BEGINS.match(value)):
                continue
            seen += 1
            room = find(value)
            if room is not None and room.room.verb is not None:
                continue
            words = spell(fill(room.room.text if room else value)).sql.replace("%%", "%")
            named = set(re.findall(r"%\((\w+)\)s", words))
            words = re.sub(r"%\((\w+)\)s", r":\1", words).replace("%s", "?")
            given = dict.fromkeys(named) if named else [None] * words.count("?")
            try:
                connection.connection.execute("EXPLAIN " + words, given)
            except Exception as error:
                wrong[f"{found.name}.{name}"] = f"{error}: {words}"
print(json.dumps([seen, wrong]))
"""


def test_every_statement_of_ours_has_words_on_sqlite() -> None:
    seen, wrong = run_alone(WALK, within=60)

    assert seen > 120
    assert {name: why for name, why in wrong.items() if name not in NOT_ON_SQLITE} == {}
    assert set(wrong) == set(NOT_ON_SQLITE)  # and nothing is excused that has words after all
