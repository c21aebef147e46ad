"""A job knows the request and the user it came from, where the middleware is installed; nothing else goes with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path

from jobs.envelope import unpack_headers
from jobs.intake import accept
from jobs.models import Job
from jobs.origin import OriginMiddleware, origin, request
from outbox import relay
from outbox.errors import Undeliverable
from outbox.models import Message
from outbox.session import Session
from tests import tasks
from tests.support.people import staff

pytest_plugins = ["tests.support.ours"]


def order(given: HttpRequest) -> HttpResponse:
    return HttpResponse(str(tasks.noop.enqueue(1).id))


def order_by_somebody(given: HttpRequest) -> HttpResponse:
    assert given.user.is_authenticated
    return order(given)


async def order_async(given: HttpRequest) -> HttpResponse:
    return HttpResponse(str((await tasks.noop.aenqueue(1)).id))


urlpatterns = [path("order", order), path("mine", order_by_somebody), path("async", order_async)]


@pytest.fixture
def installed(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "jobs.origin.OriginMiddleware"]


def told() -> str:
    return str(unpack_headers(Message.objects.get().headers).origin)


@pytest.mark.django_db
def test_method_path_and_request_id_are_kept(installed: None) -> None:
    Client().get("/order?secret=canary", headers={"X-Request-ID": "7f3a91"})

    assert told() == "GET /order, request 7f3a91"


@pytest.mark.django_db
def test_the_user_is_told_where_the_view_knows_it(installed: None) -> None:
    """Row P42: who did it."""
    client = staff()
    user = User.objects.get()

    client.get("/mine")
    assert told() == f"GET /mine, user {user.pk} staff"
    Message.objects.all().delete()
    client.get("/order")  # nobody has asked who it is, and we do not make a query to find out
    assert told() == "GET /order"


@pytest.mark.django_db(transaction=True)
def test_async_views_have_it_too(installed: None) -> None:
    async_to_sync(AsyncClient().get)("/async")

    assert told() == "GET /async"


@pytest.mark.django_db
def test_without_the_middleware_and_outside_a_request_there_is_none(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    Client().get("/order")
    tasks.noop.enqueue(2)

    assert [unpack_headers(message.headers).origin for message in Message.objects.all()] == ["", ""]
    assert all("origin" not in message.headers for message in Message.objects.all())


@pytest.mark.django_db
@pytest.mark.parametrize("path_info", ["/order\x00", "/" + "x" * 1000, "/\ud800", "/a\nb", '/"}{'])
def test_any_path_makes_a_header_that_can_be_read(path_info: str) -> None:
    given = HttpRequest()
    given.method, given.path = "GET", path_info
    token = request.set(given)
    try:
        tasks.noop.enqueue(1)
    finally:
        request.reset(token)

    assert len(told()) <= 300
    assert "\n" not in told() and "\x00" not in told()


def test_it_is_over_when_the_request_is() -> None:
    def answer(given: HttpRequest) -> HttpResponse:
        assert origin() == "GET /x"
        raise RuntimeError

    given = HttpRequest()
    given.method, given.path = "GET", "/x"
    with pytest.raises(RuntimeError):
        OriginMiddleware(answer)(given)

    assert origin() == ""


def test_it_arrives_with_the_job(ours: Session) -> None:
    given = HttpRequest()
    given.method, given.path = "POST", "/orders/"
    token = request.set(given)
    try:
        tasks.noop.enqueue(1)
        tasks.noop.using(idempotency_key="k").enqueue(2)
    finally:
        request.reset(token)
    tasks.noop.enqueue(3)

    relay.step(ours, accept, 10)

    assert sorted(job.origin for job in Job.objects.all()) == ["", "POST /orders/", "POST /orders/"]


@pytest.mark.parametrize("wrong", [5, None, "x" * 301, ["x"]])
def test_a_header_that_is_not_right_is_refused(wrong: Any) -> None:
    with pytest.raises(Undeliverable):
        unpack_headers(json.dumps({"v": 1, "task": "a", "queue": "default", "origin": wrong}))
