"""A webhook: told again while the other side is down, when it asks for it, and never where it says no."""

from __future__ import annotations

from typing import Any
from urllib.error import HTTPError

from jobs import JobContext, RetryAfter, task
from project.recipes.web import post_json


class Refused(Exception):
    """The other side has understood and says no: asking again is no use."""


@task(
    takes_context=True,
    max_attempts=5,
    timeout=15,
    backoff=[10, 60, 300, 1800],
    never_retry_on=Refused,
    redact=["secret"],
)
def call_webhook(context: JobContext, url: str, body: dict[str, Any], secret: str) -> None:
    headers = {"Idempotency-Key": context.idempotency_key, "Authorization": f"Bearer {secret}"}
    try:
        post_json(url, body, headers=headers, timeout=10)
    except HTTPError as error:
        with error:
            if error.code == 429:
                raise RetryAfter(float(error.headers.get("Retry-After", 60)), "the other side is busy") from None
            if error.code < 500:
                raise Refused(f"the other side answered {error.code}") from None
            raise
