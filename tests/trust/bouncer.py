"""PgBouncer in transaction mode in front of a server, as Debian ships it, with three server connections a database."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg

from project import postgres
from project.shop.demo.processes import end_with_parent, free_port
from tests.trust.rows import find


class Bouncer:
    """One PgBouncer on 127.0.0.1 in front of the server of a URL, for all of its databases."""

    def __init__(self, url: str, folder: Path, *, pool: int) -> None:
        parts = urlsplit(url)
        host = parse_qs(parts.query).get("host", [parts.hostname or "127.0.0.1"])[0]
        self.port = free_port()
        users = folder / "users.txt"
        users.write_text(f'"{parts.username or "postgres"}" "{parts.password or ""}"\n')
        config = folder / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host={host} port={parts.port or 5432}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = any\nauth_file = {users}\npool_mode = transaction\ndefault_pool_size = {pool}\n"
            "max_client_conn = 500\nserver_idle_timeout = 1\nignore_startup_parameters = extra_float_digits\n"
            f"[databases]\n* = host={host} port={parts.port or 5432} user={parts.username or 'postgres'}\n"
        )
        folder.chmod(0o755)
        for path in (users, config):
            path.chmod(0o644)
        # It refuses to run as root.
        uid, gid = postgres._account() if os.geteuid() == 0 else (None, None)
        with (folder / "pgbouncer.log").open("wb") as log:
            self.process = subprocess.Popen(
                [find("pgbouncer") or "pgbouncer", str(config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=uid, group=gid, preexec_fn=end_with_parent(),
                extra_groups=[] if os.geteuid() == 0 else None,
            )  # fmt: skip
        self.url = f"postgres://{parts.username or 'postgres'}@127.0.0.1:{self.port}/"
        until = time.monotonic() + 10
        while True:
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url + "postgres", prepare_threshold=None).close()
                return
            if time.monotonic() > until:
                raise RuntimeError((folder / "pgbouncer.log").read_text())
            time.sleep(0.05)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
