"""A TCP proxy in front of a server, in a thread: it passes, cuts, delays or swallows what goes through.

`stall` is a network that is gone for a while: what is under way arrives when it is back. `black hole` is a peer that
vanished without a word: connections stay open, bytes are taken and go nowhere, and new connections are accepted and
never answered.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Literal

Mode = Literal["pass", "stall", "black hole", "delay"]


class Proxy:
    """Listens on a port of its own; `mode` may change at any time, `target` as well (for new connections)."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.mode: Mode = "pass"
        self.delay = 0.0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait(10)

    def cut(self) -> None:
        """Reset every connection that is open."""
        self._loop.call_soon_threadsafe(self._cut)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(5)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def _end(self) -> None:
        self._server.close()
        self._cut()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.call_later(0.2, self._loop.stop)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while self.mode in ("black hole", "stall"):
                await asyncio.sleep(0.05)
            upstream = await asyncio.open_connection("127.0.0.1", self.target)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        self._writers |= {writer, upstream[1]}
        with suppress(asyncio.CancelledError):  # the end of the proxy, which nobody need hear about
            await asyncio.gather(self._pump(reader, upstream[1]), self._pump(upstream[0], writer))
        self._writers -= {writer, upstream[1]}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65536):
                if self.mode == "delay":
                    await asyncio.sleep(self.delay)
                while self.mode == "stall":
                    await asyncio.sleep(0.02)
                if self.mode == "black hole":
                    continue  # taken, and gone for ever
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
