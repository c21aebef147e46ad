"""What docs/moving*.md show stands in this folder, and this system's side of it runs here; the rest in test_drain."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from django.contrib.auth.models import Group, User

from jobs import plan
from jobs.models import FinishedJob, Job
from jobs.testing import assert_enqueued, run_jobs
from tests.support.declared import as_it_was

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGES = [ROOT / "docs" / "moving.md", *sorted((ROOT / "docs" / "moving").glob("*.md"))]
SAID = re.compile(r"<!-- from (\S+) -->\n```python\n(.*?)\n```", re.DOTALL)

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Load]:
    """A file of a peer's folder as `shop.tasks` of a site; afterwards nobody knows its tasks and schedules."""
    monkeypatch.syspath_prepend(str(HERE / "site"))
    monkeypatch.setenv("LETTERS", str(tmp_path / "letters"))
    monkeypatch.delenv("PEER", raising=False)
    monkeypatch.setattr(plan, "declared", {})

    def made(name: str) -> ModuleType:
        spec = spec_from_file_location("shop.tasks", HERE / name)
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "shop.tasks", module)
        spec.loader.exec_module(module)
        return module

    with as_it_was():
        yield made
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


@pytest.fixture
def letters(tmp_path: Path) -> Callable[[], list[str]]:
    return lambda: sorted(line.removesuffix(" nobody") for line in (tmp_path / "letters").read_text().splitlines())


def test_what_the_pages_show_is_what_runs() -> None:
    said = [each for page in PAGES for each in SAID.findall(page.read_text())]

    assert {name.split("/")[2] for name, _ in said} == {"celery", "django_tasks_db", "django_q2", "procrastinate"}
    for name, code in said:
        assert code in (ROOT / name).read_text(), f"a page of docs/moving shows another {name}"


def test_every_file_of_a_peer_is_shown() -> None:
    shown = {name for page in PAGES for name, _ in SAID.findall(page.read_text())}
    files = {str(path.relative_to(ROOT)) for path in HERE.glob("*/*.py") if path.parent.name != "site"}

    assert files == shown


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name", ["celery/after.py", "django_tasks_db/tasks.py", "django_q2/after.py", "procrastinate/after.py"]
)
def test_a_moved_site_does_what_it_did(load: Load, letters: Callable[[], list[str]], name: str) -> None:
    if "django_tasks_db" in name and not find_spec("django.tasks"):
        pytest.skip("this Django has no tasks")
    shop = load(name)

    user = shop.sign_up("ada")
    assert_enqueued(shop.send_welcome, user.pk)
    assert assert_enqueued(shop.remind, user.pk).run_after is not None
    run_jobs(later=True)

    assert letters() == [f"remind {user.pk}", f"welcome {user.pk}"]


@pytest.mark.django_db
def test_who_came_back_is_not_reminded(load: Load, letters: Callable[[], list[str]]) -> None:
    shop = load("celery/after.py")
    user = shop.sign_up("ada")
    User.objects.update(last_login=user.date_joined)

    assert run_jobs(later=True).states == {"succeeded": 1, "cancelled": 1}
    assert letters() == [f"welcome {user.pk}"]


@pytest.mark.django_db
def test_the_moved_schedule_is_of_the_day_of_its_tick(load: Load, letters: Callable[[], list[str]]) -> None:
    shop = load("celery/after.py")

    assert [(each.name, each.rhythm.cron) for each in plan.declared.values()] == [
        ("shop.tasks.nightly_report", "0 2 * * *")
    ]
    shop.nightly_report.enqueue("2026-03-01T02:00:00+00:00")
    run_jobs()
    assert letters() == ["report 2026-03-01"]


@pytest.mark.django_db
def test_a_chain_a_chord_and_an_errback(load: Load, letters: Callable[[], list[str]]) -> None:
    shop = load("celery/canvas.py")
    group = Group.objects.create(name="new")
    for name in "abc":
        User.objects.create_user(name, is_active=False).groups.add(group)

    shop.import_file("sales")
    shop.activate_all(group.pk)
    shop.charge_or_tell(7)
    run_jobs(raise_errors=False)

    assert letters() == [f"announced {group.pk}", "stored 9", "support 7 (ValueError: no money)"]
    assert not User.objects.filter(is_active=False).exists()
    assert FinishedJob.objects.filter(task="shop.tasks.announce").count() == 1 and not Job.objects.exists()
