"""Two queues side by side while the old one drains: the real packages, their own workers, each job exactly once.

    UV_PROJECT_ENVIRONMENT=.venv-moving uv run --group moving pytest tests/moving

Without the packages these are skipped.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from jobs.child import kill_tree
from tests.support.database import a_database_of_its_own
from tests.support.wait import wait_until

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DATABASE = "a_site_that_moves"

PACKAGES = {
    "celery": "celery",
    "django_tasks_db": "django_tasks_db",
    "django_q2": "django_q",
    "procrastinate": "procrastinate",
}

DJANGO = (sys.executable, "-m", "django")
WORKERS = {
    "celery": (sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool", "solo", "--loglevel", "INFO",
               "--without-gossip", "--without-mingle"),
    "django_tasks_db": (*DJANGO, "db_worker", "--interval", "0.1", "--no-startup-delay", "--no-reload"),
    "django_q2": (*DJANGO, "qcluster"),
    "procrastinate": (*DJANGO, "procrastinate", "worker"),
}  # fmt: skip
OURS = (*DJANGO, "runworkers", "--slots", "1")


class Site:
    """A small site in a folder of its own, and the processes that run its code of the moment."""

    def __init__(self, peer: str, folder: Path, database: str) -> None:
        self.peer, self.folder, self.stage = peer, folder, ""
        self.letters = folder / "letters"
        self.running: list[subprocess.Popen[bytes]] = []
        for name in ("broker/messages", "broker/control"):
            (folder / name).mkdir(parents=True)
        shutil.copytree(HERE / "site", folder / "site")
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("DJANGO_", "TEST_", "PYTHON"))}
        self.env = {
            **plain,
            "PEER": peer,
            "BROKER": str(folder / "broker"),
            "LETTERS": str(self.letters),
            "DATABASE_URL": database,
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONPATH": f"{folder / 'site'}{os.pathsep}{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
        }

    def deploy(self, stage: str) -> None:
        self.stage = stage
        shop = self.folder / "site" / "shop"
        for name in ("waiting", "move"):
            (shop / f"{name}.py").unlink(missing_ok=True)
            if stage != "after" and (HERE / self.peer / f"{name}.py").exists():
                shutil.copy(HERE / self.peer / f"{name}.py", shop)
        code = HERE / self.peer / f"{stage}.py"
        shutil.copy(code if code.exists() else HERE / self.peer / "tasks.py", shop / "tasks.py")
        self.run(*DJANGO, "migrate", "--verbosity", "0")

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder / "site", env={**self.env, "STAGE": self.stage}, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def do(self, code: str) -> str:
        return self.run(sys.executable, "-W", "ignore", "-c", f"import django; django.setup(); {code}")

    def sign_up(self, *names: int) -> None:
        self.do(f"from shop.tasks import sign_up; [sign_up(str(name)) for name in {names}]")

    def waiting(self) -> int:
        return int(self.do("from shop.waiting import waiting; print(waiting())").splitlines()[-1])

    def start(self, by: str, *command: str) -> subprocess.Popen[bytes]:
        own = {"STAGE": self.stage, "RUN_BY": by} | ({"DRAIN": "1"} if by == "old" else {})
        with (self.folder / f"{by}.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.folder / "site", env={**self.env, **own},
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.running.append(process)
        return process

    def said(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-4000:] for path in self.folder.glob("*.log"))

    def written(self) -> Counter[tuple[str, str, str]]:
        """What was done, for whom, and by whose worker."""
        lines = self.letters.read_text().splitlines() if self.letters.exists() else []
        return Counter((line.split()[0], line.split()[1], line.split()[2]) for line in lines)

    def wait_for_letters(self, count: int) -> None:
        try:
            wait_until(lambda: sum(self.written().values()) >= count, within=120, what=f"{count} letters")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.written()}\n{self.said()}") from None

    def leave(self) -> None:
        for process in self.running:
            if process.poll() is None:
                kill_tree(process.pid)
            process.wait()


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(40)


@pytest.fixture
def database() -> Iterator[str]:
    with a_database_of_its_own(DATABASE) as url:
        yield url


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Iterator[Site]:
    site = Site(request.param, tmp_path, database)
    yield site
    site.leave()


def peers(*names: str) -> pytest.MarkDecorator:
    def absent(name: str) -> bool:
        return not find_spec(PACKAGES[name]) or (name == "django_tasks_db" and not find_spec("django.tasks"))

    asked = [
        pytest.param(name, marks=pytest.mark.skipif(absent(name), reason=f"needs {name}: --group moving"))
        for name in names
    ]
    return pytest.mark.parametrize("site", asked, indirect=True)


@pytest.mark.slow
@peers(*PACKAGES)
def test_while_the_old_queue_drains_every_job_runs_exactly_once(site: Site) -> None:
    site.deploy("before")
    site.sign_up(1, 2, 3)
    assert site.waiting() == 6

    site.deploy("both")
    site.sign_up(4, 5, 6)
    old, ours = site.start("old", *WORKERS[site.peer]), site.start("ours", *OURS)
    site.sign_up(7, 8)
    site.wait_for_letters(16)
    if site.peer == "celery":  # beat has sent its own, and so has our schedule: one report
        site.do("from shop.celery import app; app.send_task('shop.tasks.nightly_report')")
        site.do("from shop.tasks import nightly_report; from django.utils.timezone import now;"
                "nightly_report.enqueue(now().isoformat()).wait(30)")  # fmt: skip
        site.do("from django.contrib.auth.models import User; User.objects.create(pk=1000, username='twice')")
        twice = "app.send_task('shop.tasks.remind', (1000,), task_id='delivered-twice')"
        site.do(f"from shop.celery import app; {twice}; {twice}")
        site.wait_for_letters(18)
    wait_until(lambda: site.waiting() == 0, within=30, what="the old queue is empty")
    stop(old)
    assert site.waiting() == 0

    stop(ours)
    site.deploy("after")
    site.sign_up(9)
    ours = site.start("ours", *OURS)
    site.wait_for_letters(18 + 2 * (site.peer == "celery"))
    stop(ours)

    done = site.written()
    assert set(done.values()) == {1}, done
    ran_by = {(what, who): by for what, who, by in done if what != "report"}
    if site.peer == "celery":
        assert ran_by.pop(("remind", "1000")) == "ours"
    assert set(ran_by) == {(what, str(who)) for what in ("welcome", "remind") for who in range(1, 10)}
    handed_over = ["remind"] if site.peer == "celery" else []
    for (what, who), by in ran_by.items():
        assert by == ("old" if int(who) <= 3 and what not in handed_over else "ours"), (what, who, by)
    assert sum(what == "report" for what, _, _ in done) == (site.peer == "celery")


@pytest.mark.slow
@peers("django_tasks_db", "procrastinate")
def test_what_waits_can_be_moved_in_one_transaction(site: Site) -> None:
    site.deploy("before")
    site.sign_up(1, 2)
    site.deploy("both")

    assert site.do("from shop.move import move_what_waits; print(move_what_waits())").splitlines()[-1] == "4"
    assert site.waiting() == 0

    ours = site.start("ours", *OURS)
    site.wait_for_letters(4)
    stop(ours)
    assert site.written() == {(what, who, "ours"): 1 for what in ("welcome", "remind") for who in ("1", "2")}
