"""docs/tutorial.md, word by word: its files are written, its commands run, in an empty folder with the built wheel."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from jobs.child import kill_tree
from project.shop.demo.processes import free_port
from tests.support.wait import wait_until
from tests.support.wheel import ROOT, installed, run

pytestmark = [pytest.mark.slow, pytest.mark.postgresql("the tutorial sets up a database on a server")]

TUTORIAL = ROOT / "docs" / "tutorial.md"

LOOK = """
import django; django.setup()
from django.contrib.auth.models import User
from django.test import Client
client = Client(SERVER_NAME="localhost")
client.force_login(User.objects.get(username="baker"))
for address in ("/admin/", "/admin/jobs/job/", "/admin/jobs/job/list/succeeded/", "/admin/jobs/job/{job}/change/"):
    answer = client.get(address)
    assert answer.status_code == 200, (address, answer.status_code)
    print(answer.content.decode())
"""


class Block(NamedTuple):
    """A fenced block: the language and what stands in it."""

    language: str
    text: str


def blocks() -> list[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(*each) for each in found]


class Reader:
    """Somebody who does what the page says."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        self.wheel = wheel
        self.port = free_port()
        self.running: list[subprocess.Popen[bytes]] = []
        self.heard: dict[str, str] = {}
        url = urlsplit(os.environ["DATABASE_URL"])
        options = dict(part.split("=") for part in url.query.split("&")) if url.query else {}
        self.server = urlunsplit(url._replace(scheme="postgresql"))
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("DJANGO_", "DATABASE_", "PYTHON", "TEST_"))}
        self.env = {
            **plain,
            "PGHOST": options.get("host", url.hostname or "").replace("%2F", "/"),
            "PGPORT": str(url.port or options.get("port", "")),
            "PGUSER": url.username or "",
            "PGPASSWORD": url.password or "",
            "PATH": f"{folder / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SUPERUSER_PASSWORD": "yeast",
        }

    def follow(self) -> None:
        for language, text in blocks():
            if language == "python":
                self.write(text)
            else:
                assert language == "console"
                for line in text.splitlines():
                    self.heard[line] = self.type(line)

    def write(self, text: str) -> None:
        head, _, body = text.partition("\n")
        named = re.fullmatch(r"# ([\w/.]+)(: .+)?", head)
        assert named is not None, f"a file without a name: {head}"
        path = self.folder / named[1]
        if named[2] == ": change these two":
            given = path.read_text()
            for name, end in (("INSTALLED_APPS = [", "]"), ("DATABASES = {", "}")):
                new = body[body.index(name) :]
                given = _replaced(given, name, end, new[: new.index(f"\n{end}\n") + len(end) + 2])
            body = given
        elif named[2] == ": add at the end":
            body = f"{path.read_text()}\n{body}"
        path.write_text(body)

    def type(self, line: str) -> str:
        match shlex.split(line):
            case ["python", "-m", "venv", "venv"]:
                installed(self.wheel, self.folder)
                return ""
            case ["source", "venv/bin/activate"]:
                return ""  # PATH says the same
            case ["pip", "install", what]:
                assert what == "django-outbox-jobs[binary]"
                return ""  # the wheel, not what stands on an index
            case ["createdb", name]:
                with psycopg.connect(self.server, autocommit=True) as connection:
                    connection.execute(f"DROP DATABASE IF EXISTS {name}".encode())
                    connection.execute(f"CREATE DATABASE {name}".encode())
                return ""
            case ["python", "manage.py", "runserver"]:
                self.start("python", "manage.py", "runserver", "--noreload", str(self.port))
                return ""  # the first curl asks until it listens
            case ["python", "manage.py", "runworkers", *options]:
                self.start("python", "manage.py", "runworkers", *options)
                return ""
            case ["python", "manage.py", "createsuperuser", *options]:
                return self.run("python", "manage.py", "createsuperuser", "--noinput", *options)
            case ["curl", address]:
                return self.fetch(address.replace(":8000", f":{self.port}"))
            case ["python", "manage.py", "jobs"]:
                wait_until(lambda: "one croissant, coming" in self.log("runworkers"), within=30, what="the receipt")
                wait_until(lambda: "succeeded          1" in self.run("python", "manage.py", "jobs"), within=30)
                return self.run("python", "manage.py", "jobs")
            case command:
                return self.run(*command)

    def run(self, *command: str) -> str:
        return run(*command, cwd=self.folder, env=self.env)

    def start(self, *command: str) -> None:
        with (self.folder / f"{command[2]}.log").open("wb") as log:
            self.running.append(
                subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=log, stderr=subprocess.STDOUT)
            )

    def log(self, command: str) -> str:
        return (self.folder / f"{command}.log").read_text(errors="replace")

    def fetch(self, address: str) -> str:
        until = time.monotonic() + 20
        while True:
            try:
                return str(urllib.request.urlopen(address, timeout=20).read().decode())
            except urllib.error.HTTPError as error:
                return f"{error.code} {error.read().decode()}"
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)  # the server does not listen yet

    def leave(self) -> None:
        for process in self.running:
            kill_tree(process.pid)
            process.wait()
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(b"DROP DATABASE IF EXISTS bakery WITH (FORCE)")


def _replaced(text: str, name: str, end: str, new: str) -> str:
    start = text.index(name)
    return text[:start] + new + text[text.index(f"\n{end}\n", start) + len(end) + 2 :]


@pytest.fixture
def reader(tmp_path: Path, wheel: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path, wheel)
    yield reader
    reader.leave()


def test_the_tutorial_word_by_word(reader: Reader) -> None:
    reader.follow()

    heard = {line: said for line, said in reader.heard.items() if "curl" in line or "manage.py" in line}
    croissant = next(said for line, said in heard.items() if "croissant" in line)
    swan = next(said for line, said in heard.items() if "swan" in line)
    job = re.search(r'"job": "([0-9a-f-]{36})"', croissant)
    assert job is not None, croissant
    assert swan.startswith("500 ") and "we are out of swans" in swan
    assert "no issues" in heard["python manage.py check"]
    assert "OK" in heard["python manage.py test"] and "Ran 2 tests" in heard["python manage.py test"]
    told = heard["python manage.py jobs"].split("\n")
    assert ["dead", "0"] in [line.split() for line in told] and ["ready", "0"] in [line.split() for line in told]
    workers = reader.log("runworkers")
    assert workers.count("To ada@example.com: one croissant, coming.") == 1 and "swan" not in workers

    pages = run(
        reader.folder / "venv" / "bin" / "python",
        "-c",
        LOOK.replace("{job}", job[1]),
        cwd=reader.folder,
        env={**reader.env, "DJANGO_SETTINGS_MODULE": "bakery.settings"},
    )
    assert "shop.tasks.send_receipt" in pages and "sent to ada@example.com" in pages
