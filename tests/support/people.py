"""People who look at Django admin, logged in."""

from __future__ import annotations

from html.parser import HTMLParser

from django.contrib.auth.models import Permission, User
from django.test import Client

MARKUP = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"
"""What must never come out of a page as it went into a row."""


def logged_in(user: User | None) -> Client:
    client = Client()
    if user is not None:
        client.force_login(user)
    return client


def superuser() -> Client:
    return logged_in(User.objects.create_superuser("root"))


def staff(*permissions: str) -> Client:
    """A member of staff with permissions such as "jobs.view_job"."""
    user = User.objects.create_user("staff", is_staff=True)
    for permission in permissions:
        app, codename = permission.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return logged_in(user)


class Elements(HTMLParser):
    """The elements of a page, as a browser would find them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.suspicious: list[str] = []
        self._inside_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside_script = tag == "script"
        if tag == "img" and ("src", "x") in attrs:
            self.suspicious.append(tag)
        self.suspicious += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._inside_script and "alert(1)" in data:
            self.suspicious.append("script")

    def handle_endtag(self, tag: str) -> None:
        self._inside_script = False
