"""Pack the arguments of a call: JSON that keeps them exactly, and not too much of it, or an error at the caller."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.conf import jobs_settings
from jobs.envelope import check_json, pack_body
from jobs.errors import InvalidArguments, PayloadTooLarge

logger = logging.getLogger("jobs")


def pack(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The body, where JSON keeps the arguments exactly and they are not too large."""
    problem = check_json(list(args), "args") or (check_json(dict(kwargs), "kwargs") if kwargs else None)
    if problem is not None:
        raise InvalidArguments(f"{task}: {problem}.")
    body = pack_body(args, kwargs)
    _check_size(task, len(body) if body.isascii() else len(body.encode()))
    return body


def _check_size(task: str, size: int) -> None:
    settings = jobs_settings()
    if size > settings.MAX_PAYLOAD:
        raise PayloadTooLarge(
            f'{task}: the arguments are {size:,} bytes of JSON; JOBS["MAX_PAYLOAD"] is'
            f" {settings.MAX_PAYLOAD:,}. Pass an id or a file name instead of the data."
        )
    if size > settings.WARN_PAYLOAD:
        logger.warning("%s: the arguments are %s bytes of JSON; pass an id or a file name", task, f"{size:,}")
