"""One browser for all tests in here, on the pages as a server gives them. Without Chromium they say how to get it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

from tests.support.browser import MISSING, appear, chromium, log_in, there_is_one
from tests.support.committing import _django_db_helper  # noqa: F401
from tests.support.wait import wait_until


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not there_is_one():
        for item in items:
            if "browser" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason=MISSING))


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    with chromium() as made:
        yield made


class Browser:
    """What a person does with it."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address = driver, address

    def be(self, name: str, *permissions: str) -> User:
        """Log in: "root" is the superuser, "nobody" is not logged in, anybody else is staff with these permissions."""
        user: User | None = None
        if name == "root":
            user = User.objects.create_superuser("root")
        elif name != "nobody":
            user = User.objects.create_user(name, is_staff=True)
            for permission in permissions:
                app, codename = permission.split(".")
                user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
        log_in(self.driver, self.address, user)
        return user  # type: ignore[return-value]

    def go(self, url: str) -> None:
        self.driver.get(self.address + url)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        found: list[Any] = self.driver.find_elements("css selector", selector)
        return found

    def click(self, selector: str) -> None:
        wait_until(lambda: self._clicked(selector), within=5, what=f"{selector} can be clicked")

    def _clicked(self, selector: str) -> bool:
        try:
            element = self.find(selector)
            self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
            element.click()
        except (StaleElementReferenceException, NoSuchElementException):
            return False  # the page was looking again, or on its way to the next one
        return True

    def write(self, selector: str, text: str) -> None:
        """Into a field, once it is there."""
        wait_until(lambda: self.all(selector), within=5, what=selector)[0].send_keys(text)

    def text(self) -> str:
        return str(self.ask("return document.body ? document.body.innerText : ''"))

    def ask(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """What the browser has found wrong since the last time: errors in scripts, and breaches of the policy."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
        ]


@pytest.fixture
def browser(driver: Any, transactional_db: None, live_server: Any) -> Iterator[Browser]:
    for model in (LogEntry, Session, User):
        model.objects.all().delete()
    appear(driver, dark=False, width=1280)
    made = Browser(driver, live_server.url)
    driver.get("about:blank")
    made.complaints()
    yield made
    driver.get("about:blank")  # no page may ask the server anything while the next test begins
    for model in (LogEntry, Session, User):
        model.objects.all().delete()
