"""The provider and the API that all are measured against: one process, one event loop.

`Server` starts it and steers it from the process that measures. It answers a
request in some tens of microseconds and holds thousands of connections, so that
what is measured is the client. Refresh tokens work once, and whoever uses a
spent one ends the login, as strict providers do.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

_REFUSAL = (
    b"HTTP/1.1 401 Unauthorized\r\n"
    b'WWW-Authenticate: Bearer realm="api", error="invalid_token"\r\n'
    b"Content-Length: 0\r\n\r\n"
)
_FINE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n"
_FINE += b'{"ok":true}'


class Server:
    """A running server; a context manager. All its methods are quick, and for one thread.

    lifetime: seconds that an access token lives. latency: seconds that the
    provider takes. expires_in: whether its replies tell the lifetime.
    down: what the provider does: "" for its work, "503", "hang" for no answer,
    "closed" for no connection.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def __enter__(self) -> Server:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.server"],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        hello = self._ask({})
        self.api = f"http://127.0.0.1:{hello['api']}/"
        self.token_url = f"http://127.0.0.1:{hello['auth']}/token"
        self.set(**self._settings)
        return self

    def __exit__(self, *exc: object) -> None:
        with self._process:
            self._process.kill()

    def set(self, **settings: Any) -> None:
        """Change settings, from now on."""
        self._ask({"set": settings})

    def login(self) -> dict[str, Any]:
        """A new login, as an OAuth reply; counts start at 0 again, and all others end."""
        return dict(self._ask({"login": True}))

    def kill(self) -> None:
        """Every access token is dead from now on; the login goes on."""
        self._ask({"kill": True})

    def counts(self) -> dict[str, int]:
        """Since the last login: calls (of the token endpoint), refreshes (answered with a new
        token, by whatever grant), reuses (of spent refresh tokens), ok and refused (of the API),
        connections (to the API)."""
        return dict(self._ask({"counts": True}))

    def _ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class _State:
    def __init__(self) -> None:
        self.lifetime, self.latency, self.expires_in, self.down = 3600.0, 0.0, True, ""
        self.serial = 0
        self.begin()

    def begin(self) -> None:
        self.alive: dict[bytes, float] = {}  # until when, on the loop's clock
        self.refresh_token = ""
        self.spent: set[str] = set()
        names = ("calls", "refreshes", "reuses", "ok", "refused", "connections")
        self.counts = dict.fromkeys(names, 0)

    def issue(self) -> dict[str, Any]:
        self.serial += 1
        access = f"access-{self.serial:06}-" + "a" * 800  # about what a JWT takes
        self.alive[access.encode()] = asyncio.get_running_loop().time() + self.lifetime
        if self.refresh_token:
            self.spent.add(self.refresh_token)
        self.refresh_token = f"refresh-{self.serial:06}"
        reply: dict[str, Any] = {"access_token": access, "token_type": "Bearer", "scope": "all"}
        if self.expires_in:
            reply["expires_in"] = int(self.lifetime)  # as most providers do; some peers mind
        return reply | {"refresh_token": self.refresh_token}

    def token(self, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        self.counts["calls"] += 1
        if self.down == "503":
            return 503, {"error": "temporarily_unavailable"}
        if form.get("grant_type") == ["refresh_token"]:
            given = form.get("refresh_token", [""])[0]
            if given in self.spent:
                self.counts["reuses"] += 1
                self.spent.add(self.refresh_token)
                self.alive.clear()
            if given in self.spent or given != self.refresh_token:
                return 400, {"error": "invalid_grant"}
        self.counts["refreshes"] += 1
        return 200, self.issue()

    def api(self, head: bytes) -> bytes:
        at = head.find(b"Bearer ")
        token = head[at + 7 : head.find(b"\r\n", at)] if at >= 0 else b""
        if self.alive.get(token, 0.0) > asyncio.get_running_loop().time():
            self.counts["ok"] += 1
            return _FINE
        if b"/open" in head[: head.find(b"\r\n")]:  # for sessions that have no token
            return _FINE
        self.counts["refused"] += 1
        return _REFUSAL


class _Connection(asyncio.Protocol):
    def __init__(self, state: _State, is_api: bool) -> None:
        self._state, self._is_api = state, is_api
        self._data, self._left, self._head = b"", 0, b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._state.counts["connections"] += self._is_api

    def data_received(self, data: bytes) -> None:
        self._data += data
        while True:
            if not self._head:
                head, found, rest = self._data.partition(b"\r\n\r\n")
                if not found:
                    return
                self._head, self._data = head + b"\r\n", rest
                at = self._head.lower().find(b"\r\ncontent-length:")
                self._left = int(self._head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._data) < self._left and self._is_api:  # is not kept
                self._left -= len(self._data)
                self._data = b""
            if len(self._data) < self._left:
                return
            head, body, self._data = self._head, self._data[: self._left], self._data[self._left :]
            self._head = b""
            if self._is_api:
                self._transport.write(self._state.api(head))
            elif self._state.down == "hang":
                self._state.counts["calls"] += 1
            else:
                form = parse_qs(body.decode())
                loop = asyncio.get_running_loop()
                loop.call_later(self._state.latency, self._answer, form)

    def _answer(self, form: dict[str, list[str]]) -> None:
        status, reply = self._state.token(form)
        body = json.dumps(reply).encode()
        reason = {200: "OK", 400: "Bad Request", 503: "Service Unavailable"}[status]
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n"
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


async def _serve() -> None:
    state, loop = _State(), asyncio.get_running_loop()

    async def listen(is_api: bool, port: int = 0) -> asyncio.Server:
        make = lambda: _Connection(state, is_api)  # noqa: E731 - a factory, made where it is used
        return await loop.create_server(make, "127.0.0.1", port, backlog=4096)

    api, auth = await listen(True), await listen(False)
    ports = {"api": api.sockets[0].getsockname()[1], "auth": auth.sockets[0].getsockname()[1]}
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order, answer = json.loads(line), {}
        if "set" in order:
            vars(state).update(order["set"])
            if state.down == "closed" and auth.is_serving():
                auth.close()
            elif state.down != "closed" and not auth.is_serving():
                auth = await listen(False, ports["auth"])
        elif "login" in order:
            state.begin()
            answer = state.issue()
        elif "kill" in order:
            state.alive.clear()
        elif "counts" in order:
            answer = state.counts
        else:
            answer = ports
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve())
