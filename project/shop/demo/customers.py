"""Customers: a few threads that order over HTTP as browsers do, with cookies and the form's token.

They leave what they were told, which is all that people outside can know: placed, or refused.
"""

from __future__ import annotations

import http.client
import random
import re
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import closing
from http.cookies import SimpleCookie
from typing import NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from project.shop.forms import quantity_name
from project.shop.models import Product

FIRST = ["Ada", "Blaise", "Clara", "Emily", "Franz", "Greta", "Italo", "Jane", "Karel", "Lou"]
LAST = ["Abe", "Brandt", "Cohen", "Duarte", "Fontane", "Gauss", "Hopper", "Ito", "Kovač", "Lang"]

ROLLED_BACK = 0.2
"""Share of the customers whose payment fails."""

LOOKS_AGAIN = 20
"""One order in so many is looked at by its customer at once."""

TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')

Headers = dict[str, str]


class Plan(NamedTuple):
    """What one customer is going to do."""

    number: int
    reference: str
    customer: str
    email: str
    quantities: dict[str, int]
    fails: bool


class Surprise(Exception):
    """The shop answered something that it should not."""


def make_plans(orders: int, products: Sequence[Product], dice: random.Random) -> list[Plan]:
    """The same plans for the same dice."""
    return [_make_plan(number, products, dice) for number in range(orders)]


def _make_plan(number: int, products: Sequence[Product], dice: random.Random) -> Plan:
    first, last = dice.choice(FIRST), dice.choice(LAST)
    chosen = dice.sample(products, dice.randint(1, 3))
    return Plan(
        number,
        str(UUID(int=dice.getrandbits(128), version=4)),
        f"{first} {last}",
        f"{first}.{last}@example.com".lower().replace("č", "c"),
        {quantity_name(product): dice.randint(1, 3) for product in chosen},
        dice.random() < ROLLED_BACK,
    )


class Visit:
    """One browser: a connection that is kept, its cookies, and the token of the form it has loaded."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._cookies: dict[str, str] = {}
        self._token = ""

    def close(self) -> None:
        self._connection.close()

    def open_shop(self) -> None:
        self._token = self._token_in(self._ask("GET", "/", 200))

    def order(self, plan: Plan) -> bool:
        """Whether the customer was told that the order is placed."""
        form = {
            "csrfmiddlewaretoken": self._token,
            "reference": plan.reference,
            "customer": plan.customer,
            "email": plan.email,
            **plan.quantities,
            **({"fail": "1"} if plan.fails else {}),
        }
        status, where, text = self._send(
            "POST", "/orders/", urlencode(form).encode(), "application/x-www-form-urlencoded"
        )
        if status == 409:
            return False
        if status != 302 or plan.reference not in where:
            raise Surprise(f"POST /orders/ was answered by {status}: {_shortened(text)}")
        if plan.number % LOOKS_AGAIN == 0 and plan.reference not in self._ask("GET", where, 200):
            raise Surprise(f"The page {where} does not show its order.")
        return True

    def upload(self, slug: str, picture: bytes) -> None:
        path, border = f"/products/{slug}/", "a-border-that-no-picture-has"
        token = self._token_in(self._ask("GET", path, 200))
        head = (
            f'--{border}\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n{token}\r\n'
            f'--{border}\r\nContent-Disposition: form-data; name="picture"; filename="{slug}.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        )
        body = head.encode() + picture + f"\r\n--{border}--\r\n".encode()
        self._ask("POST", path, 302, body, f"multipart/form-data; boundary={border}")

    def _ask(self, method: str, path: str, wanted: int, body: bytes = b"", kind: str = "") -> str:
        status, _, text = self._send(method, path, body, kind)
        if status != wanted:
            raise Surprise(f"{method} {path} was answered by {status}: {_shortened(text)}")
        return text

    def _send(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, str, str]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if kind:
            headers["Content-Type"] = kind
        try:
            answer = self._exchange(method, path, body, headers)
        except (http.client.HTTPException, OSError):
            # As a browser does. An order that is sent twice has the same reference, and is one order.
            self._connection.close()
            answer = self._exchange(method, path, body, headers)
        text = answer.read().decode(errors="replace")
        for line in answer.headers.get_all("Set-Cookie", []):
            self._cookies.update({name: cookie.value for name, cookie in SimpleCookie(line).items()})
        return answer.status, answer.getheader("Location", ""), text

    def _exchange(self, method: str, path: str, body: bytes, headers: Headers) -> http.client.HTTPResponse:
        self._connection.request(method, path, body or None, headers)
        return self._connection.getresponse()

    @staticmethod
    def _token_in(page: str) -> str:
        found = TOKEN.search(page)
        if found is None:
            raise Surprise(f"There is no form in the page: {_shortened(page)}")
        return found[1]


class Customers:
    """All of them, a few at a time."""

    def __init__(self, port: int, plans: Iterable[Plan], at_once: int) -> None:
        self._port = port
        self._waiting = deque(plans)
        self._threads = [threading.Thread(target=self._shop, daemon=True) for _ in range(at_once)]
        self.placed: list[Plan] = []
        self.refused: list[Plan] = []
        self.errors: list[Exception] = []

    @property
    def served(self) -> int:
        return len(self.placed) + len(self.refused)

    @property
    def are_there(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def send_home(self) -> None:
        """Let nobody else order; returns when those who are at it are through."""
        self._waiting.clear()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(5)

    def _shop(self) -> None:
        try:
            with closing(Visit(self._port)) as visit:
                visit.open_shop()
                while (plan := self._next()) is not None:
                    (self.placed if visit.order(plan) else self.refused).append(plan)
        except Exception as error:
            self.errors.append(error)
            self._waiting.clear()

    def _next(self) -> Plan | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None


def _shortened(page: str) -> str:
    text = " ".join(re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())
    return text[:300] or "(an empty page)"
