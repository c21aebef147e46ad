"""Installed into somebody else's project: build the wheel, start a project, add two apps, run a job.

`TEST_PAIRS=1` does so with each supported pair of Python and Django whose interpreter is on this machine, and prints
what was installed; without it, with the pair at hand.
"""

from __future__ import annotations

import email
import os
import re
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from zipfile import ZipFile

import pytest

from tests.support.database import a_database_of_its_own
from tests.support.wheel import ROOT, build_from, build_source, found, installed, run

DATABASE = "somebody_elses_shop"

HERE = ("", "")
PAIRS = [
    *(("3.11", "5.2"), ("3.12", "5.2"), ("3.13", "5.2")),
    *(("3.12", "6.0"), ("3.13", "6.0"), ("3.14", "6.0")),
    *(("3.12", "6.1"), ("3.13", "6.1"), ("3.14", "6.1")),
]

BROUGHT = {
    "asgiref": "Django", "sqlparse": "Django", "tzdata": "Django and psycopg, on Windows",
    "typing-extensions": "psycopg, before Python 3.13, and asgiref, before 3.11",
    "psycopg-binary": "the extra binary",
}  # fmt: skip
"""What is installed besides what we name ourselves, and who wants it."""

TASKS = """
from jobs import task
from shop.models import Order

@task
def ship(order_id: int) -> str:
    Order.objects.filter(pk=order_id).update(shipped=True)
    return f"shipped {order_id}"
"""

MODELS = """
from django.db import models

class Order(models.Model):
    shipped = models.BooleanField(default=False)
"""

OURS = {"django-outbox-jobs", "django", "psycopg", "cronsim", "uuid-utils"}

LISTED = """
from importlib.metadata import distributions
for each in sorted({f"{d.name.lower().replace('_', '-')}=={d.version}" for d in distributions()}):
    if not each.startswith(("pip==", "setuptools==")):
        print(each)
"""

URLS = """
from django.db import transaction
from django.http import HttpResponse
from django.urls import path
from shop.models import Order
from shop.tasks import ship

def place(request):
    with transaction.atomic():
        order = Order.objects.create()
        job = ship.enqueue(order.pk)
        if request.GET.get("fail"):
            transaction.set_rollback(True)
    return HttpResponse(str(job.id))

urlpatterns = [path("place/", place)]
"""

ASK = """
import django; django.setup()
from django.test import Client
from shop.models import Order
client = Client(SERVER_NAME="localhost")
print(client.get("/place/").content.decode())
client.get("/place/?fail=1")
"""

CHECK = """
import django; django.setup()
import jobs, outbox
from jobs.models import FinishedJob, Job
from outbox.models import Message
from shop.models import Order
done = FinishedJob.objects.get()
print(str(done.id), done.state, done.result, Order.objects.get().shipped, Job.objects.count(), Message.objects.count())
print(jobs.__file__)
"""


@pytest.fixture
def database() -> Iterator[str]:
    with a_database_of_its_own(DATABASE) as url:
        yield url


def test_the_wheel_holds_the_two_apps_and_nothing_else(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()

    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"outbox", "jobs"}
    for needed in (
        "outbox/migrations/0001_initial.py",
        "jobs/migrations/0001_initial.py",
        "jobs/management/commands/runworkers.py",
        "outbox/management/commands/relay.py",
        "jobs/templates/admin/jobs/page.html",
        "jobs/templates/jobs/status.html",
        "jobs/static/jobs/dashboard.js",
        "jobs/static/jobs/vendor/htmx.min.js",
        "jobs/static/jobs/vendor/htmx.LICENSE.txt",
        "jobs/py.typed",
        "outbox/py.typed",
    ):
        assert needed in names


def test_the_source_distribution_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    source = build_source(tmp_path)
    with tarfile.open(source) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    again = build_from(source, tmp_path)

    assert {name.split("/")[0] for name in names} == {
        "outbox", "jobs", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO", ".gitignore",
    }  # fmt: skip
    ours, theirs = ({name: file.read(name) for name in file.namelist()} for file in map(ZipFile, (wheel, again)))
    assert theirs == ours
    assert any(name.endswith("/licenses/LICENSE") for name in theirs)
    code = {str(path.relative_to(ROOT)) for app in ("outbox", "jobs") for path in (ROOT / app).rglob("*")}
    kept = {name for name in code if (ROOT / name).is_file() and "__pycache__" not in name}
    assert kept <= names and kept <= set(ours)


def test_what_is_said_of_the_package_is_true(wheel: Path) -> None:
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        told = email.message_from_bytes(file.read(name))
    log = (ROOT / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## (.+)", log, re.MULTILINE)

    assert told["Version"] == said["version"]
    assert heads[0] == "Unreleased" or heads[0].startswith(said["version"])
    assert all(re.match(r"\d+\.\d+\.\d+\b", head) for head in heads[1:])
    classifiers = told.get_all("Classifier", [])
    for python, django in PAIRS:
        assert f"Programming Language :: Python :: {python}" in classifiers
        assert f"Framework :: Django :: {django}" in classifiers
    assert "Typing :: Typed" in classifiers
    assert told["License-Expression"] == "MIT"
    assert {url.split(",")[0] for url in told.get_all("Project-URL", [])} == set(said.get("urls", {}))
    assert told["Description-Content-Type"] == "text/markdown"


def test_every_dependency_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text().split("[project]")[1].split("[project.entry-points")[0].splitlines()
    wanted = [n for n, line in enumerate(lines) if re.match(r'  "[a-z-]+[>\[]|[a-z]+ = \["[a-z-]+[>\[]', line)]

    assert len(wanted) == 4 + 4, lines
    for n in wanted:
        assert lines[n - 1].lstrip().startswith("# "), lines[n]


@pytest.mark.postgresql("a project on a server; the one on SQLite is below")
@pytest.mark.parametrize(
    ("version", "django"), PAIRS if os.environ.get("TEST_PAIRS") else [HERE], ids=lambda value: value or "here"
)
def test_a_new_project_runs_a_job(wheel: Path, database: str, tmp_path: Path, version: str, django: str) -> None:
    if (version, django) == HERE:
        python = installed(wheel, tmp_path)
    else:
        if (interpreter := found(version)) is None:
            pytest.skip(f"there is no Python {version} here")
        python = installed(wheel, tmp_path, f"django=={django}.*", interpreter=interpreter)
    listed = dict(
        line.split("==") for line in run(python, "-c", LISTED, cwd=tmp_path).splitlines()
    )  # name and version of each
    print(version, django, listed)
    assert "django" in listed and listed["django"].startswith(django)
    assert listed.keys() - OURS <= BROUGHT.keys()
    site, env = a_site(python, tmp_path)
    settings = site / "mysite" / "settings.py"
    text = settings.read_text()

    url = urlsplit(database)
    options = dict(part.split("=") for part in url.query.split("&")) if url.query else {}
    host = options.get("host", url.hostname or "").replace("%2F", "/")
    settings.write_text(
        f"{text}\nDATABASES = {{'default': {{'ENGINE': 'django.db.backends.postgresql', 'NAME': {DATABASE!r},"
        f" 'USER': {url.username or ''!r}, 'PASSWORD': {url.password or ''!r}, 'HOST': {host!r},"
        f" 'PORT': {str(url.port or '')!r}}}}}\n"
    )
    missing = run(python, "manage.py", "runworkers", "--burst", cwd=site, env=env, status=1)
    assert "manage.py migrate" in missing
    run(python, "manage.py", "makemigrations", "shop", cwd=site, env=env)
    assert "No changes detected" in run(
        python, "manage.py", "makemigrations", "--check", "--dry-run", "outbox", "jobs", cwd=site, env=env
    )
    run(python, "manage.py", "migrate", cwd=site, env=env)
    assert "no issues" in run(python, "manage.py", "check", cwd=site, env=env)

    a_job_runs(python, site, env)


def test_a_new_project_as_it_comes_runs_a_job_on_sqlite_without_a_server_and_without_psycopg(
    wheel: Path, tmp_path: Path
) -> None:
    python = installed(wheel, tmp_path, extra="")
    run(python, "-c", "import psycopg", cwd=tmp_path, status=1)
    site, env = a_site(python, tmp_path)

    missing = run(python, "manage.py", "runworkers", "--burst", cwd=site, env=env, status=1)
    assert "manage.py migrate" in missing
    run(python, "manage.py", "makemigrations", "shop", cwd=site, env=env)
    run(python, "manage.py", "migrate", cwd=site, env=env)
    said = run(python, "manage.py", "check", cwd=site, env=env)
    assert "jobs.W008" in said and "transaction_mode" in said

    a_job_runs(python, site, env)


def a_site(python: Path, folder: Path) -> tuple[Path, dict[str, str]]:
    """A project of Django's own making with one app of its own and the two of ours, and the environment for it."""
    site = folder / "site"
    site.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DJANGO_", "DATABASE_", "PYTHON", "TEST_"))}
    run(python, "-m", "django", "startproject", "mysite", site, cwd=folder, env=env)
    run(python, "manage.py", "startapp", "shop", cwd=site, env=env)
    (site / "shop" / "models.py").write_text(MODELS)
    (site / "shop" / "tasks.py").write_text(TASKS)
    (site / "mysite" / "urls.py").write_text(URLS)
    settings = site / "mysite" / "settings.py"
    settings.write_text(
        settings.read_text().replace(
            "INSTALLED_APPS = [", "INSTALLED_APPS = [\n    'outbox',\n    'jobs',\n    'shop',"
        )
    )
    return site, env


def a_job_runs(python: Path, site: Path, env: dict[str, str]) -> None:
    """Two requests, one rolled back: the job of the other is run by a worker."""
    asking = {**env, "DJANGO_SETTINGS_MODULE": "mysite.settings"}
    job = run(python, "-c", ASK, cwd=site, env=asking).split()[-1]
    run(python, "manage.py", "runworkers", "--burst", "--slots", "1", cwd=site, env=env)

    told, home = run(python, "-c", CHECK, cwd=site, env=asking).splitlines()[-2:]
    assert told == f'{job} succeeded "shipped 1" True 0 0'
    assert home.startswith(str(site.parent))
