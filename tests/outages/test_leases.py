"""A lease that is lost while its holder is stopped, cut off, or waits for a slow provider."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis
import sqlalchemy

from requests_refresh import Token
from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault
from tests.servers import RedisServer, Relay

from .conftest import StartWorker, log_in
from .worker import store_of

LOST = "the lease on its renewal was lost"
slow = pytest.mark.long
# Not SQLite: a process that is stopped in the middle of renewing its lease locks the whole file.
SERVERS = pytest.mark.parametrize(
    "shared", ["redis", pytest.param("postgres", marks=slow)], indirect=True
)
REDIS = pytest.mark.parametrize(
    "shared",
    ["redis", pytest.param("sqlite", marks=slow), pytest.param("postgres", marks=slow)],
    indirect=True,
)


def stored(shared: dict[str, Any]) -> Token | None:
    store = store_of(**shared)
    try:
        return store.load("default")
    finally:
        store.close()


def take_lease_away(shared: dict[str, Any]) -> None:
    """Remove it at the server, as a failover to a replica would that had not heard of it."""
    if shared["kind"] == "redis":
        with redis.Redis.from_url(shared["url"]) as client:
            names = client.keys(f"{shared['prefix']}:*:lease")
            assert client.delete(*names) == 1
        return
    engine = sqlalchemy.create_engine(shared["url"])
    with engine.begin() as at:
        update = sqlalchemy.text(f"UPDATE {shared['table']} SET holder = NULL")  # noqa: S608 - ours
        assert at.execute(update).rowcount == 1
    engine.dispose()


def works(server: AuthServer, *workers: Any) -> None:
    """See that all go on with one login, through one more expiry."""
    before = server.counts
    server.revoke_access()
    for worker in workers:
        assert worker.call("get") == ["200"]
    assert server.counts.refreshes == before.refreshes + 1
    assert server.counts.reuses == before.reuses


@SERVERS
def test_a_holder_that_stopped_before_the_call(
    server: AuthServer, shared: dict[str, Any], start: StartWorker
) -> None:
    """I1: who was stopped for longer than his lease spends no refresh token, and adopts."""
    log_in(server, shared)
    holder, other = start(shared, stops="inside"), start(shared)
    holder.ask("get")
    holder.stands()
    assert other.call("get") == ["200"]  # after the lease has ended
    token = stored(shared)
    holder.go_on()
    assert holder.answer() == ["200"]
    assert server.counts.refresh_calls == 1
    assert holder.call("refreshes") == 0
    assert holder.call("access_token") == other.call("access_token")
    assert stored(shared) == token
    works(server, holder, other)


@REDIS
@pytest.mark.parametrize("late", [False, pytest.param(True, marks=slow)])
def test_a_lease_that_is_lost_meanwhile(
    late: bool,
    server: AuthServer,
    held: threading.Event,
    shared: dict[str, Any],
    start: StartWorker,
) -> None:
    """I1: with a provider that has a grace, the fleet ends on one token, the one saved first.

    late: the provider has done its work before it waits.
    """
    server.grace = 60
    log_in(server, shared)
    server.faults("token", Fault(hold=held, after_work=late))
    holder, other = start(shared), start(shared)
    holder.ask("get")
    server.wait_for("refresh_calls")
    take_lease_away(shared)
    assert other.call("get") == ["200"]
    token = stored(shared)
    assert token is not None
    held.set()
    assert holder.answer() == ["200"]
    assert stored(shared) == token
    assert holder.call("access_token") == other.call("access_token") == token.access_token
    assert server.counts.refresh_calls == 2
    assert server.counts.reuses == 0
    works(server, holder, other)


@REDIS
@pytest.mark.parametrize("late", [pytest.param(False, marks=slow), True])
def test_a_strict_provider(
    late: bool,
    server: AuthServer,
    held: threading.Event,
    shared: dict[str, Any],
    start: StartWorker,
) -> None:
    """I1: without a grace it ends the login, both are told, and nothing dead stays in the store."""
    log_in(server, shared)
    server.faults("token", Fault(hold=held, after_work=late))
    holder, other = start(shared), start(shared)
    holder.ask("get")
    server.wait_for("refresh_calls")
    take_lease_away(shared)
    first = other.call("get")
    held.set()
    second = holder.answer()
    for came in (second, holder.call("get"), other.call("get"), first if late else second):
        assert "LoginRequired: " in came[0]
    assert late or first == ["200"]  # it had the only good token, until the holder's call came
    assert stored(shared) is None
    assert server.counts.reuses == 1
    assert server.counts.logins_ended == 1
    assert LOST in str(holder.call("logs"))
    for worker in (holder, other):
        assert "ERROR default: the login is over" in str(worker.call("logs"))
    log_in(server, shared)
    works(server, holder, other)


@SERVERS
@pytest.mark.parametrize("grace", [60, pytest.param(0, marks=slow)])
def test_a_holder_that_stopped_during_the_call(
    grace: int,
    server: AuthServer,
    held: threading.Event,
    shared: dict[str, Any],
    start: StartWorker,
) -> None:
    """I1: who wakes up with a reply in hand never puts it over a newer token."""
    server.grace = grace
    log_in(server, shared)
    server.faults("token", Fault(hold=held))
    holder, other = start(shared), start(shared)
    holder.ask("get")
    server.wait_for("refresh_calls")
    holder.stop()
    assert other.call("get") == ["200"]
    token = stored(shared)
    held.set()
    if grace:
        server.wait_for("refreshes", 2)
    else:
        server.wait_for("reuses")
    holder.go_on()
    came = holder.answer()
    if not grace:
        assert "LoginRequired: " in came[0]
        assert "ERROR default: the login is over" in str(holder.call("logs"))
        assert stored(shared) is None
        return
    assert came == ["200"]
    assert stored(shared) == token
    works(server, holder, other)


@pytest.mark.parametrize("shared", ["redis"], indirect=True)
def test_a_holder_that_is_cut_off(
    server: AuthServer,
    held: threading.Event,
    redis_server: RedisServer,
    shared: dict[str, Any],
    start: StartWorker,
) -> None:
    """I1: who cannot reach the store loses his lease, and takes the others' token over his own."""
    server.grace = 60
    log_in(server, shared)
    server.faults("token", Fault(hold=held))
    with Relay(redis_server.port) as relay:
        url = redis_server.url.replace(str(redis_server.port), str(relay.port))
        holder, other = start({**shared, "url": url}), start(shared)
        holder.ask("get")
        server.wait_for("refresh_calls")
        relay.cut()
        assert other.call("get") == ["200"]  # after the lease has ended
        token = stored(shared)
        held.set()
        server.wait_for("refreshes", 2)
        relay.heal()
        assert holder.answer() == ["200"]
        assert stored(shared) == token
        assert server.counts.refresh_calls == 2
        works(server, holder, other)
        holder.close()
