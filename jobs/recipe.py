"""What a `{% background %}` tag asks a worker to render, as one signed text.

It takes what the tag knows at its render: which engine, the block's source with its libraries or the partial's name.
It leaves a text whose digest names it and whose signature only this site's SECRET_KEY makes, so that a row can name a
block or a partial that was really written in a template, and never bring one. Pure; a crash here is the caller's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

from jobs.envelope import dumps

RENDER = "jobs.background.render_block"
"""Name of the task that renders blocks and partials."""

SALT = "jobs.background"

Loads = tuple[tuple[str, tuple[str, ...] | None], ...]
"""Libraries that the template had loaded, each with the names taken from it; None is all of them."""


@dataclass(frozen=True)
class Recipe:
    """One block or partial as a worker renders it. The same tag in the same state gives the same text."""

    engine: str
    """Its name in settings.TEMPLATES (`NAME`, else the name of its module's package)."""
    name: str
    """Name of the template the tag stands in; empty for a template made from a string."""
    line: int
    """Where in it: the first line of a block's source, or the line of a partial's tag."""
    autoescape: bool
    partial: str = ""
    """Name of the template to render; empty for a block."""
    source: str = ""
    loads: Loads = ()

    @cached_property
    def text(self) -> str:
        return dumps(asdict(self) | {"loads": [[name, names and list(names)] for name, names in self.loads]})

    @cached_property
    def digest(self) -> str:
        return sha256(self.text.encode()).hexdigest()

    @property
    def where(self) -> str:
        return f"{self.name or 'a template without a name'}:{self.line}"


def read(text: str) -> Recipe:
    """The recipe that a text says. Only for a text that `verifies`, or to show it to a person."""
    given = json.loads(text)
    loads = tuple((name, None if names is None else tuple(names)) for name, names in given.pop("loads"))
    return Recipe(**given, loads=loads)


def sign(text: str) -> str:
    """64 hexadecimal digits that only the holder of SECRET_KEY can make."""
    return _signature(text, settings.SECRET_KEY)


def verifies(text: str, signature: str) -> bool:
    """Whether this site has signed it, with SECRET_KEY or one of SECRET_KEY_FALLBACKS."""
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return any(constant_time_compare(signature, _signature(text, key)) for key in keys)


def _signature(text: str, key: str | bytes) -> str:
    return salted_hmac(SALT, text, secret=key, algorithm="sha256").hexdigest()
