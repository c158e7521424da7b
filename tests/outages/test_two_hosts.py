"""Processes in two network namespaces share a Redis, and one is cut off in the middle of a round.

The tests make a bridge, two namespaces, and a pair of interfaces to each, with
names and addresses of their own (RFC 2544's), and take all of it away again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault
from tests.servers.fixtures import OwnRedis

from .conftest import StartWorker, log_in
from .support import Worker, until

pytestmark = pytest.mark.netns
LEASE = 2.0  # seconds
ANSWER = 3.0  # seconds that a process waits for the provider


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    command = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if command is None:
        pytest.skip("no ip command here to make network namespaces with")
    return subprocess.run([command, *words], capture_output=True, text=True, check=False)


class Net:
    """A bridge with an address of this host, and two namespaces that reach it."""

    def __init__(self, stack: ExitStack) -> None:
        self._name = f"rr{os.getpid() % 10**6}"
        self.net = f"198.18.{os.getpid() % 250}"
        self.address = f"{self.net}.1"
        if ip("netns", "add", f"{self._name}-a").returncode:
            pytest.skip("network namespaces can be made here only by root, if at all")
        stack.callback(ip, "netns", "delete", f"{self._name}-a")
        stack.callback(ip, "netns", "delete", f"{self._name}-b")
        self._do("netns", "add", f"{self._name}-b")
        stack.callback(ip, "link", "delete", self._name)
        self._do("link", "add", self._name, "type", "bridge")
        self._do("address", "add", f"{self.address}/24", "dev", self._name)
        self._do("link", "set", self._name, "up")
        for number, which in enumerate("ab", 2):
            near, space = f"{self._name}{which}", f"{self._name}-{which}"
            stack.callback(ip, "link", "delete", near)
            self._do("link", "add", near, "type", "veth", "peer", "name", "far", "netns", space)
            self._do("link", "set", near, "master", self._name, "up")
            address = f"{self.net}.{number}/24"
            self._do("-n", space, "address", "add", address, "dev", "far")
            self._do("-n", space, "link", "set", "far", "up")

    def _do(self, *words: str) -> None:
        done = ip(*words)
        assert done.returncode == 0, f"ip {words}: {done.stderr}"

    def inside(self, which: str) -> tuple[str, ...]:
        """What comes before a command that is to run in a namespace."""
        found = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
        assert found is not None
        return found, "netns", "exec", f"{self._name}-{which}"

    def cut(self, which: str) -> None:
        self._do("link", "set", f"{self._name}{which}", "down")

    def heal(self, which: str) -> None:
        self._do("link", "set", f"{self._name}{which}", "up")


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with ExitStack() as stack:
        yield Net(stack)


@dataclass
class Hosts:
    """One process on each of two hosts, with one login, which is due for a refresh."""

    net: Net
    auth: AuthServer
    one: Worker  # on the host that will be cut off
    other: Worker

    def cut(self) -> None:
        self.net.cut("a")

    def heal(self) -> None:
        """Bring the link back, and see that the one goes on with what the other has."""
        self.net.heal("a")
        until(lambda: self.one.call("get") == ["200"], "the end of the outage")
        assert self.one.call("access_token") == self.other.call("access_token")

    def works(self) -> None:
        """See both through one more expiry."""
        before = self.auth.counts
        self.auth.revoke_access()
        assert self.one.call("get", threads=4) == ["200"]
        assert self.other.call("get", threads=4) == ["200"]
        assert self.auth.counts.refreshes == before.refreshes + 1
        assert self.auth.counts.reuses == before.reuses


@pytest.fixture
def hosts(net: Net, own_redis: OwnRedis, start: StartWorker) -> Iterator[Callable[..., Hosts]]:
    """`hosts(stops, grace)`: both at work; `stops` is where the one stands still, once."""
    data = own_redis("--bind", "127.0.0.1", net.address, "--protected-mode", "no")
    with AuthServer(host=net.address) as auth:

        def make(stops: str = "", grace: float = 0.0) -> Hosts:
            auth.grace = grace
            log_in(auth, {"kind": "redis", "url": data.url})
            url = data.url.replace("127.0.0.1", net.address)
            root = f"http://auth.localhost:{auth.port}/"
            settings: dict[str, Any] = {
                "api": root + "api/",
                "token_url": root + "token",
                "hosts": {"auth.localhost": net.address},
                "answer": ANSWER,
            }
            shared = {"kind": "redis", "url": url, "lease": LEASE}
            one = start(shared, net.inside("a"), stops=stops, **settings)
            other = start(shared, net.inside("b"), **settings)
            return Hosts(net, auth, one, other)

        yield make
        net.heal("a")


def test_cut_off_before_the_call(hosts: Callable[..., Hosts]) -> None:
    """I1: with no store to ask nothing is spent; the others refresh, and the one adopts."""
    both = hosts("inside")
    both.one.ask("get")
    both.one.stands()
    both.cut()
    both.one.go_on()
    assert both.other.call("get", threads=4) == ["200"]  # when the lease has ended
    assert both.one.answer()[0].startswith("StoreError: ")
    both.heal()
    assert both.auth.counts.refresh_calls == 1
    both.works()


def test_cut_off_during_the_call(hosts: Callable[..., Hosts], held: threading.Event) -> None:
    """I1, I8: a call that did nothing costs nothing; the others refresh, and the one adopts."""
    both = hosts()
    both.auth.faults("token", Fault(hold=held, reply="reset"))
    both.one.ask("get")
    both.auth.wait_for("refresh_calls")
    both.cut()
    held.set()
    assert both.other.call("get", threads=4) == ["200"]
    assert both.one.answer()[0].startswith(("RefreshUnavailable: ", "StoreError: "))
    both.heal()
    assert both.auth.counts.refreshes == 1
    assert both.auth.counts.reuses == 0
    both.works()


@pytest.mark.parametrize("grace", [60, 0])
def test_cut_off_before_the_reply(
    grace: int, hosts: Callable[..., Hosts], held: threading.Event
) -> None:
    """I8: a reply that the network lost costs the login under a strict provider alone."""
    both = hosts(grace=grace)
    both.auth.faults("token", Fault(hold=held, after_work=True))
    both.one.ask("get")
    both.auth.wait_for("refreshes")
    both.cut()
    held.set()
    came = both.other.call("get")
    assert both.one.answer()[0].startswith(("RefreshUnavailable: ", "StoreError: "))
    if grace:
        assert came == ["200"]
        both.heal()
        both.works()
    else:
        lost(both, came)


@pytest.mark.parametrize("grace", [60, 0])
def test_cut_off_before_the_save(grace: int, hosts: Callable[..., Hosts]) -> None:
    """I7: what cannot be saved for longer than the lease gives way to what the others have."""
    both = hosts("replied", grace)
    both.one.ask("get")
    both.one.stands()
    both.cut()
    both.one.go_on()
    came = both.other.call("get")
    if grace:
        assert came == ["200"]
        both.net.heal("a")
        assert both.one.answer() == ["200"]
        both.heal()
        both.works()
    else:
        both.net.heal("a")
        assert "LoginRequired: " in both.one.answer()[0]
        lost(both, came)


def test_cut_off_before_the_save_for_a_moment(hosts: Callable[..., Hosts]) -> None:
    """I1, I7: a link that is back before the lease ends costs nothing, with a strict provider."""
    both = hosts("replied")
    both.one.ask("get")
    both.one.stands()
    both.cut()
    both.other.ask("get", threads=4)
    both.auth.wait_for("api_401", 2)  # who comes later waits without having been refused
    both.one.go_on()
    both.net.heal("a")
    assert both.one.answer() == ["200"]
    assert both.other.answer() == ["200"]
    assert both.auth.counts.refresh_calls == 1
    both.works()


def lost(both: Hosts, came: list[str]) -> None:
    """See that the end of the login is told to all, and that a new one is all that it takes."""
    assert came[0].startswith("LoginRequired: ")
    assert "ERROR default: the login is over" in str(both.other.call("logs"))
    both.net.heal("a")
    until(lambda: both.one.call("get")[0].startswith("LoginRequired: "), "the news of it")
    assert both.auth.counts.reuses == 1
    assert both.auth.counts.logins_ended == 1
