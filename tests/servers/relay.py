"""A relay between a client and a server on loopback, for tests of partitions."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .process import HOST, SAFETY, free_port

if TYPE_CHECKING:
    from typing_extensions import Self

PIECE = 65536  # bytes


class Relay:
    """Forwards what comes to `port`, both ways, until it is told otherwise.

    `count` is how many connections have come. Safe to use from any thread; each
    method returns when its effect is there.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.count = 0
        self._target = target_port
        # All below is touched by the thread of the loop alone.
        self._whole = asyncio.Event()
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._server: asyncio.Server | None = None
        self._kept: socket.socket | None = None  # holds the port while connections are refused
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.heal()

    def cut(self) -> None:
        """Become a black hole: nothing is forwarded nor lost, new connections hang as well."""
        self._do(self._cut())

    def refuse(self) -> None:
        """Break all connections, and refuse new ones."""
        self._do(self._refuse())

    def heal(self) -> None:
        """Forward again, what a cut has held back first."""
        self._do(self._heal())

    def close(self) -> None:
        """Break all, and be gone."""
        if not self._loop.is_closed():
            self._do(self._refuse())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(SAFETY)
            self._loop.close()
            assert self._kept is not None
            self._kept.close()

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(SAFETY)

    async def _cut(self) -> None:
        await self._listen()
        self._whole.clear()

    async def _heal(self) -> None:
        await self._listen()
        self._whole.set()

    async def _listen(self) -> None:
        if self._server is None:
            kept, self._kept = self._kept or self._bound(), None
            self._server = await asyncio.start_server(self._relay, sock=kept)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self._kept = self._bound()
        tasks = list(self._connections)
        for task in tasks:
            for writer in self._connections[task]:
                writer.transport.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _bound(self) -> socket.socket:
        """A socket at our port; as long as it does not listen, connections are refused."""
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, self.port))
        return bound

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writers = [writer]
        try:
            # Cancelled is what it is when all connections break; no news to anyone.
            with suppress(OSError, asyncio.CancelledError):
                await self._whole.wait()
                far_reader, far_writer = await asyncio.open_connection(HOST, self._target)
                writers.append(far_writer)
                await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            for one in writers:
                one.close()
            try:
                for one in writers:
                    with suppress(OSError):
                        await one.wait_closed()
            finally:
                del self._connections[task]

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE):
            await self._whole.wait()
            writer.write(piece)
            await writer.drain()
        await self._whole.wait()
        if not writer.is_closing():
            writer.write_eof()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
