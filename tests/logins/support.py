"""What the tests of logins share: a clock, devices' replies, and browsers that are threads."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from requests_refresh.logins import BrowserLogin, DeviceLogin, DevicePrompt
from tests.grants.endpoint import PATIENCE, Answer, EndpointServer

DEVICE: dict[str, Any] = {
    "device_code": "CANARY+device/%==",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://auth.example.com/device",
    "verification_uri_complete": "https://auth.example.com/device?user_code=WDJB-MJHT",
    "expires_in": 1800,
    "interval": 5,
}
ISSUED = {"access_token": "CANARY+new", "token_type": "Bearer", "refresh_token": "CANARY+kept"}


class Clock:
    """A monotonic clock that sleeping moves, and what was slept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


def says(error: str, status: int = 400, **more: str) -> Answer:
    """The reply of a token endpoint that refuses."""
    return Answer(status, {"error": error, **more})


def device(server: EndpointServer, clock: Clock | None = None, **settings: Any) -> DeviceLogin:
    """A login at `server`, with prompts that go nowhere unless it says where."""
    given: dict[str, Any] = {"client_id": "tv", "show": lambda prompt: None, **settings}
    login = DeviceLogin(server.url, device_url=server.url.replace("token", "device"), **given)
    if clock is not None:
        login._clock, login._sleep = clock, clock.sleep
    return login


class Prompts(list[DevicePrompt]):
    """Keeps what was shown."""

    def __call__(self, prompt: DevicePrompt) -> None:
        self.append(prompt)


def query_of(url: str) -> dict[str, str]:
    """The parameters of a URL, each of which is there once."""
    found = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert all(len(values) == 1 for values in found.values())
    return {name: values[0] for name, values in found.items()}


def browser(server: EndpointServer, **settings: Any) -> BrowserLogin:
    """A login at `server`; nothing is opened unless the test says what."""
    given: dict[str, Any] = {"client_id": "cli", "open": lambda url: True, "wait": 30.0, **settings}
    return BrowserLogin(server.url, authorize_url="https://auth.example.com/authorize", **given)


@dataclass(frozen=True)
class Page:
    """What a browser got."""

    status: int
    headers: Mapping[str, str]
    text: str


def fetch(url: str) -> Page:
    """What a browser gets there. Unlike requests it logs nothing: what is logged is searched."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        reply = opener.open(url, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        reply = error
    with reply:
        return Page(reply.status, reply.headers, reply.read().decode())


class Person:
    """Does something with the address that a browser would open: `BrowserLogin(open=Person(...))`.

    act: given the redirect URI and the parameters of the address; what it
        returns is fetched, if it is no None. It runs in a thread of its own.
    """

    def __init__(self, act: Callable[[str, dict[str, str]], str | None]) -> None:
        self._act = act
        self.urls: list[str] = []
        self.answers: list[Page] = []
        self.done = threading.Event()

    def __call__(self, url: str) -> bool:
        self.urls.append(url)
        try:
            query = query_of(url)
            then = self._act(query["redirect_uri"], query)
            if then is not None:
                self.answers.append(fetch(then))
        finally:
            self.done.set()
        return True


def agrees(redirect: str, query: dict[str, str]) -> str:
    """The person logs in and agrees."""
    return f"{redirect}?code=CANARY%2Bcode&state={query['state']}"


def in_threads(count: int, call: Callable[[], Any]) -> list[Any]:
    """What so many calls at a time return or raise."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(call())
        except Exception as exc:
            found.append(exc)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    return found
