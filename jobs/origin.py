"""Where a job came from: the request and the user, where the optional middleware is installed.

Add `jobs.origin.OriginMiddleware` after Django's authentication middleware. Jobs enqueued during a request then carry
its method, path, request id and user as one short text, for people who ask later why a job exists. Nothing else of the
request travels with a job.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from outbox.text import clean

REQUEST_ID = "X-Request-ID"

request: ContextVar[HttpRequest | None] = ContextVar("jobs_request", default=None)
"""The request that is being answered here and now."""

Answer = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class OriginMiddleware:
    """Remembers the request while it is answered; works in both worlds, sync and async."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, given: HttpRequest) -> Any:
        if iscoroutinefunction(self):
            return self._answer(given)
        token = request.set(given)
        try:
            return self.get_response(given)
        finally:
            request.reset(token)

    async def _answer(self, given: HttpRequest) -> Any:
        token = request.set(given)
        try:
            return await self.get_response(given)  # type: ignore[misc]
        finally:
            request.reset(token)


def origin() -> str:
    """The request at hand in one line; empty outside one.

    The user is only told where the request has already found out who it is: a look here would be a query.
    """
    given = request.get()
    if given is None:
        return ""
    words = [f"{given.method} {given.path}"]
    if number := given.headers.get(REQUEST_ID):
        words.append(f"request {number}")
    user = getattr(given, "_cached_user", None)
    if user is not None and user.is_authenticated:
        words.append(f"user {user.pk} {user.get_username()}")
    return clean(", ".join(" ".join(word.split()) for word in words), 300)
