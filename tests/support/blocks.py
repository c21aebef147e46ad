"""Render a page with background blocks in it, and be the worker for what it enqueued."""

from __future__ import annotations

import json
import time
from copy import deepcopy
from typing import Any

from django.conf import settings
from django.template import Context, Template, engines
from django.utils import translation

from jobs.claim import Claimed
from jobs.declare import registry
from jobs.envelope import unpack_headers
from jobs.execute import execute
from jobs.models import Block
from jobs.outcome import Outcome
from jobs.recipe import RENDER
from outbox.models import Message
from tests.models import Effect
from tests.support.floor import DEFAULTS, a_claimed

LOADS = "{% load background works %}"


def compiled(source: str) -> Template:
    """A template from a string, with the tag and the tests' own loaded."""
    return Template(LOADS + source)


def page(source: str, **variables: Any) -> str:
    return compiled(source).render(Context(variables))


def named(name: str, **variables: Any) -> str:
    """Render a template of the tests by its name, without a request."""
    return str(engines["django"].get_template(name).render(variables))


def messages() -> list[Message]:
    return list(Message.objects.order_by("id"))


def claimed(message: Message) -> Claimed:
    """The message as a worker would have claimed it."""
    headers, body = unpack_headers(message.headers), json.loads(message.body)
    return a_claimed(
        id=message.uid, task=headers.task, args=body["args"], kwargs=body["kwargs"], max_attempts=headers.max_attempts
    )


def work() -> list[Outcome]:
    """Execute all that stands in the outbox, as a worker does, in English with whatever was active put aside."""
    outcomes = []
    for message in messages():
        message.delete()
        with translation.override(None):
            outcomes.append(execute(claimed(message), registry[RENDER], DEFAULTS, time.monotonic()))
    return outcomes


def worked() -> list[str]:
    """`work`, where everything has to succeed; what the effects say."""
    for outcome in work():
        assert outcome.state == "succeeded", outcome.error
    return notes()


def notes() -> list[str]:
    return list(Effect.objects.order_by("id").values_list("note", flat=True))


def blocks() -> int:
    return Block.objects.count()


def templates(**options: Any) -> list[dict[str, Any]]:
    """settings.TEMPLATES with other templates by name, as after a deploy."""
    (given,) = deepcopy(settings.TEMPLATES)
    given["APP_DIRS"] = False
    given["OPTIONS"] |= {"loaders": [("django.template.loaders.locmem.Loader", options.pop("files", {}))]} | options
    return [given]
