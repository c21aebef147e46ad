"""A small site for the tests: views that write in the request's transaction."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseServerError, StreamingHttpResponse
from django.urls import path

from tests import tasks
from tests.support.observer import observer


def order(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(tasks.noop.enqueue(1).id))


def order_then_crash(request: HttpRequest) -> HttpResponse:
    tasks.noop.enqueue(1)
    raise RuntimeError("the view fails after its enqueue")


def order_then_answer_500(request: HttpRequest) -> HttpResponse:
    tasks.noop.enqueue(1)
    transaction.set_rollback(True)
    return HttpResponseServerError()


@transaction.non_atomic_requests
def order_outside_then_crash(request: HttpRequest) -> HttpResponse:
    tasks.noop.enqueue(1)
    raise RuntimeError("the view fails after its enqueue")


def order_and_stream(request: HttpRequest) -> StreamingHttpResponse:
    """The rest of a streamed answer is made after the request's transaction: what it writes commits by itself."""

    def rest() -> Iterator[str]:
        yield str(tasks.noop.enqueue(2).id)

    tasks.noop.enqueue(1)
    return StreamingHttpResponse(rest())


def order_and_lose_the_connection(request: HttpRequest) -> HttpResponse:
    """The backend dies after the commit and before the wake-up: the hook stands before that of the enqueue."""

    def lose() -> None:
        pid = connections["default"].connection.info.backend_pid
        with observer() as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))

    transaction.on_commit(lose)
    return HttpResponse(str(tasks.noop.enqueue(1).id))


urlpatterns = [
    path("order", order),
    path("crash", order_then_crash),
    path("500", order_then_answer_500),
    path("outside", order_outside_then_crash),
    path("stream", order_and_stream),
    path("lost", order_and_lose_the_connection),
]
