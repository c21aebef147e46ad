"""`python -m tests.screenshots`: pictures of every page of the dashboard, light and dark, on any screen.

Those that the documentation shows go to docs/img/, the others to build/pictures/, to be looked at.
On a database of its own, with a shop's ordinary day in it. Needs Chromium: see tests/support/browser.py.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.utils import timezone

ROOT = Path(__file__).resolve().parent.parent
IMG, ASIDE = ROOT / "docs" / "img", ROOT / "build" / "pictures"

LOOKS = {"light": (False, 1280), "dark": (True, 1280), "phone": (False, 390), "phone-dark": (True, 390)}


def pages(jobs: dict[str, UUID]) -> dict[str, str]:
    from tests.support.dashboard import at
    from tests.support.sample import NIGHTLY

    return {
        "overview": at("changelist") + "?span=6h",
        "dead": at("list", "dead"),
        "ready": at("list", "ready"),
        "job": at("change", jobs["dead"]),
        "running-job": at("change", jobs["running"]),
        "failures": at("failures"),
        "failure": f"{at('failure')}?exception=httpx.ConnectTimeout&frame=shop/tasks.py in ask_supplier",
        "schedules": at("schedules"),
        "schedule": at("schedule", NIGHTLY),
        "schedule-form": at("new_schedule"),
        "events": at("events"),
        "event": at("event", jobs["event"]),
        "queues": at("queues"),
        "workers": at("workers"),
        "edit": at("edit", jobs["dead"]),
    }


def place(name: str) -> Path:
    """Where that picture goes."""
    shown = any(f"img/{name}.png)" in page.read_text() for page in (ROOT / "docs").glob("*.md"))
    return (IMG if shown else ASIDE) / f"{name}.png"


def take(driver: Any, address: str, jobs: dict[str, UUID], only: list[str]) -> None:
    from jobs.models import Worker
    from tests.support.browser import appear, picture

    for look, (dark, width) in LOOKS.items():
        appear(driver, dark=dark, width=width)
        for name, url in pages(jobs).items():
            if not only or name in only:
                Worker.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=1.4))
                driver.get(address + url)
                driver.execute_script("document.activeElement.blur()")
                picture(driver, place(f"{name}-{look}"))
                print(f"{name}-{look}.png")
        if not only or "ask-replay" in only:
            driver.get(address + pages(jobs)["event"])
            driver.find_element("css selector", "button[value=ask]").click()
            picture(driver, place(f"ask-replay-{look}"))
        if not only or "ask" in only:
            driver.get(address + pages(jobs)["failure"])
            driver.find_element("css selector", "button[value=requeue]").click()
            picture(driver, place(f"ask-{look}"))


def main(only: list[str]) -> None:
    import django

    from tests.support.database import a_database

    with a_database("screenshots"):
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
        os.environ.setdefault("TEST_JOBS", '{"SCHEDULES": true, "TRACE_URL": "https://traces.example/{trace_id}"}')
        django.setup()
        from django.contrib.auth.models import User
        from django.core.management import call_command

        from tests.support.browser import MISSING, chromium, log_in, serving, there_is_one
        from tests.support.sample import an_ordinary_day

        if not there_is_one():
            sys.exit(MISSING)
        for folder in (IMG, ASIDE):
            folder.mkdir(parents=True, exist_ok=True)
        call_command("migrate", verbosity=0)
        user = User.objects.create_superuser("anna")
        jobs = an_ordinary_day()
        with serving() as address, chromium() as driver:
            log_in(driver, address, user)
            take(driver, address, jobs, only)


if __name__ == "__main__":
    main(sys.argv[1:])
