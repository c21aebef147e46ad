"""`manage.py lintbackground`: would every background block of the templates find the variables it uses?"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from jobs.lint import Broken, Use, bad, lint


class Command(BaseCommand):
    help = "List every background block and partial of the templates; exits 1 where one uses what it is not given."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print what was found as one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(lint())
        wrong = bad(found)
        if options["json"]:
            uses = [asdict(each) for each in found if isinstance(each, Use)]
            broken = [asdict(each) for each in found if isinstance(each, Broken)]
            self.stdout.write(json.dumps({"bad": len(wrong), "uses": uses, "broken": broken}))
        else:
            for each in found:
                self.stdout.write(_line(each))
            self.stdout.write(
                f"{len(wrong)} of {len(found)} background tags need a look."
                if wrong
                else f"All {len(found)} background tags are given what they use."
            )
        if wrong:
            sys.exit(1)


def _line(found: Use | Broken) -> str:
    if isinstance(found, Broken):
        return f"{found.template}\n    does not compile: {found.error}"
    lines = [f"{found.template}:{found.line}  {found.form} {found.renders}".rstrip()]
    lines.append(f"    given: {', '.join(found.given) or 'nothing'}")
    for word, names in (("MISSING", found.missing), ("unused", found.unused), ("not followed", found.unfollowed)):
        if names:
            lines.append(f"    {word}: {', '.join(names)}")
    if found.problem:
        lines.append(f"    NEVER RENDERED: {found.problem}")
    return "\n".join(lines)
