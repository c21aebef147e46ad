"""The pages themselves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.core.management import load_command_class
from django.core.management.base import BaseCommand

from tests.reference.source import ROOT, Said, calls, classes, homes, named, of_module, words

MADE = "<!-- Made by `python -m tests.reference` from the code; what is wrong here is mended there. -->\n"


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    columns = [f" {each.strip()} " if each.strip() else " " for each in head.split("|")]
    lines = [f"|{'|'.join(columns)}|", f"|{'|'.join(' --- ' for _ in columns)}|"]
    lines += ["|" + "|".join(f" {cell} " if cell else " " for cell in map(cell_of, row)) + "|" for row in rows]
    return "\n".join(lines) + "\n"


def cell_of(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


# Commands ---------------------------------------------------------------------------------------------------------


def commands() -> str:
    said = [
        f"# Commands\n\n{MADE}\nOf `jobs` and of `outbox`, after `python manage.py`. Each also takes what every"
        " command of Django's takes (`--settings`, `--verbosity` ...).\n"
    ]
    for app in ("jobs", "outbox"):
        folder = ROOT / app / "management" / "commands"
        said += [command(app, path.stem) for path in sorted(folder.glob("[a-z]*.py"))]
    return "\n".join(said)


def command(app: str, name: str) -> str:
    made = load_command_class(app, name)
    rows = [option(action) for action in made.create_parser("manage.py", name)._actions if action.dest not in COMMON]
    return f"## {name}\n\n{made.help}\n\n" + (table("option | what it does | default", rows) if rows else "")


def option(action: Any) -> tuple[str, str, str]:
    if action.option_strings:
        value = "" if action.nargs == 0 else f" {action.metavar or _placeholder(action)}"
        shown = f"{', '.join(action.option_strings)}{value}"
    else:
        shown = str(action.metavar or action.dest)
    default = action.default if action.default not in (None, False, "", "==SUPPRESS==", []) else ""
    return f"`{shown}`", action.help or "", f"`{default}`" if default != "" else ""


def _placeholder(action: Any) -> str:
    return "{" + ",".join(map(str, action.choices)) + "}" if action.choices else str(action.dest).upper()


COMMON = {action.dest for action in BaseCommand().create_parser("manage.py", "x")._actions}


# Python -----------------------------------------------------------------------------------------------------------

ROOMS = {
    "jobs.signals": ("job_succeeded", "job_retried", "job_died", "job_cancelled", "process_started"),
    "jobs.status": ("JobStatus", "token_of"),
    "jobs.origin": ("OriginMiddleware",),
    "jobs.metrics": ("JobsCollector",),
    "jobs.admin": ("register",),
    "jobs.backend.backend": ("JobsBackend",),
    "jobs.models": ("State",),
}
"""What there is to import beside the two packages, and where it stands."""

SHOWN_AS = {"jobs.backend.backend": "jobs.backend"}

OUR_OWN = {
    "Callback": {"wants_ended", "headers", "body", "marks"},
    "EventType": {"check", "packed"},
    "JobStatus": {"http_method_names", "get"},
    "JobsBackend": {"validate_task", "check", "job_task"},
    "JobsCollector": {"collect", "describe"},
    "Task": {"calls_back", "check_call", "context", "draft", "fixed_headers", "has_window", "run_with"},
}
"""Members that one room of this package has for another."""


def python() -> str:
    said = [f"# Python names\n\n{MADE}\nWhat an application may import. A name that is not here may change.\n"]
    said.append("## jobs\n\n`from jobs import task`, and so on.\n")
    said += [entry("jobs", named(home, name)) for name, home in homes("jobs")]
    said.append(f"## jobs.testing\n\n{of_module('jobs.testing').splitlines()[0]} See [testing](../testing.md).\n")
    said += [entry("jobs.testing", named(home, name)) for name, home in homes("jobs.testing")]
    said.append("## More of jobs\n")
    said += [
        entry(SHOWN_AS.get(module, module), named(module, name)) for module, names in ROOMS.items() for name in names
    ]
    said.append("## What can be raised\n\nEach message says what to do.\n")
    for module in ("jobs.errors", "outbox.errors"):
        said.append(table("error | when", errors(module)))
    return "\n".join(said)


def errors(module: str) -> Iterator[tuple[str, str]]:
    for each in classes(module):
        yield f"`{module}.{each.name}`", each.text


def entry(module: str, said: Said) -> str:
    assert said.text, f"{module}.{said.name} has no docstring: write one"
    lines = [f"### {module}.{said.name}\n"]
    if said.signature != said.name and "Signal()" not in said.signature:
        lines.append(f"```python\n{said.signature}\n```\n")
    lines.append(f"{said.text}\n")
    if said.name == "State":
        return "\n".join([*lines, "The values stand in [states](names.md#states-of-a-job).\n"])
    ours = OUR_OWN.get(said.name, set())
    members = [each for each in said.members if each.name not in ours and (each.text or ":" in each.signature)]
    return "\n".join([*lines, *map(member, members), ""] if members else lines)


def member(said: Said) -> str:
    signature = said.signature
    if "\n" in signature:
        signature = re.sub(r"\s+", " ", signature).replace("( ", "(").replace(", )", ")")
    text = said.text.replace("\n", "\n  ").replace("\n  \n", "\n\n")
    return f"- `{signature}`" + (f": {text}" if text else "")


# Names ------------------------------------------------------------------------------------------------------------


def names() -> str:
    states = [(f"`{each.name.lower()}`", each.text) for each in named("jobs.models", "State").members]
    kinds = next(each for each in named("jobs.models", "Attempt").members if each.name == "Kind")
    tries = [(f"`{each.name.lower()}`", each.text) for each in kinds.members]
    signals = [(f"`{name}`", named("jobs.signals", name).text) for name in ROOMS["jobs.signals"]]
    return "\n".join(
        [
            f"# States, signals, permissions, checks, metrics\n\n{MADE}",
            "## States of a job\n",
            table("state | meaning", states),
            "## How a try can end badly\n",
            table("kind | meaning", tries),
            f"## Signals\n\n{of_module('jobs.signals')}\n",
            table("signal of `jobs.signals` | when", signals),
            "## Permissions\n",
            table("permission | what it allows", permissions()),
            "What each act asks for stands in [the dashboard](../dashboard.md#what-a-person-may-do).\n",
            "## Checks\n\nOf `manage.py check`. Where no more is said here, the message itself says what to do.\n",
            table("id | it found | what to do", checks()),
            "## Metrics\n\nOf [the collector](../metrics.md) for Prometheus.\n",
            table("metric | kind | labels | meaning", metrics()),
        ]
    )


def permissions() -> Iterator[tuple[str, str]]:
    for app in ("jobs", "outbox"):
        for model in apps.get_app_config(app).get_models():
            options = model._meta
            if "view" in options.default_permissions:  # nobody adds, changes or deletes a row by hand
                yield f"`{app}.view_{options.model_name}`", f"Can look at {options.verbose_name_plural}"
            for codename, text in options.permissions:
                yield f"`{app}.{codename}`", str(text)


def checks() -> list[tuple[str, ...]]:
    found = {}
    for app in ("jobs", "outbox"):
        for path in sorted((ROOT / app).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for call in calls(module):
                given = {each.arg: each.value for each in call.keywords if each.arg}
                if re.match(r"(jobs|outbox)\.[EWI]\d+$", words(given.get("id"))):
                    found.setdefault(words(given["id"]), words(given.get("hint")))
    means = {"E": 0, "W": 1, "I": 2}
    settings = (ROOT / "docs" / "settings.md").read_text()
    told = dict(re.findall(r"^\| `([a-z]+\.[EWI]\d+)` \| (.*) \|$", settings, re.MULTILINE))
    order = sorted(found, key=lambda key: (means[key.split(".")[1][0]], key))
    return [(f"`{key}`", told.get(key, "").replace("](", "](../"), found[key].strip("… ")) for key in order]


def metrics() -> Iterator[tuple[str, str, str, str]]:
    yield "`jobs_up`", "gauge", "", "Whether the database could be asked."
    for call in calls("jobs.metrics"):
        maker = ast.unparse(call.func)
        kind = {
            "GaugeMetricFamily": "gauge",
            "_gauge": "gauge",
            "CounterMetricFamily": "counter",
            "_histogram": "histogram",
        }
        if maker not in kind or not isinstance(call.args[0], ast.Constant) or call.args[0].value == "jobs_up":
            continue
        labels = [
            words(each) for node in call.keywords if node.arg == "labels" for each in getattr(node.value, "elts", [])
        ]
        if maker == "_gauge":
            labels = [words(call.args[3])]
        elif maker == "_histogram":
            labels = [words(call.args[2])]
        name = words(call.args[0]) + "_total" * (kind[maker] == "counter")
        yield f"`{name}`", kind[maker], ", ".join(f"`{label}`" for label in labels), words(call.args[1])


PAGES = {"commands": commands, "python": python, "names": names}
