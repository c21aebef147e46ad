"""Count the statements that clients send: a door in front of the server that lets everything through.

PostgreSQL itself counts statements only with an extension that has to be loaded at its start. A client's messages are
a type, a length and so much content, after a first one without a type; Query and Execute are statements.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

from psycopg.conninfo import conninfo_to_dict

ENCRYPTION = (80877103, 80877104)
"""What a client asks before it begins: SSL, GSS. Answered with no, or there would be nothing to count."""

STATEMENTS = b"QE"


class Door:
    """Accepts connections, and counts."""

    def __init__(self, url: str) -> None:
        self.statements = 0
        self._server = conninfo_to_dict(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        parts = urlsplit(url)
        user = parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}", query=""))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError), client, self._connect() as server:
            self._begin(client, server)
            threading.Thread(target=self._back, args=(server, client), daemon=True).start()
            while True:
                kind, content = self._message(client)
                self.statements += kind in STATEMENTS
                server.sendall(kind + content)

    def _begin(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            head = _exactly(client, 8)
            length, code = struct.unpack("!ii", head)
            if code not in ENCRYPTION:
                server.sendall(head + _exactly(client, length - 8))
                return
            client.sendall(b"N")

    def _message(self, client: socket.socket) -> tuple[bytes, bytes]:
        kind, length = _exactly(client, 1), _exactly(client, 4)
        return kind, length + _exactly(client, struct.unpack("!i", length)[0] - 4)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)

    def _connect(self) -> socket.socket:
        host, port = str(self._server.get("host") or "127.0.0.1"), int(self._server.get("port") or 5432)
        if host.startswith("/"):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(f"{host}/.s.PGSQL.{port}")
            return connection
        connection = socket.create_connection((host, port))
        # Else each message of a pipeline waits for the receipt of the one before, 40 ms.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


@contextmanager
def counted(url: str) -> Iterator[Door]:
    door = Door(url)
    try:
        yield door
    finally:
        door.close()


def _exactly(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        if not (more := connection.recv(size - len(content))):
            raise EOFError
        content += more
    return content
