"""Leases: renewed while held, gone when not, and never taken for a proof."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from requests_refresh.errors import RefreshTimeout, StoreError
from requests_refresh.stores import SQLStore, leases, sql_dialects
from requests_refresh.stores.leases import Held

from .contract import NEW, OLD, SAFETY, in_threads
from .databases import Database, database_of

NAME = "requests-refresh-lease"


class Server:
    """Where leases are, for a Held: answers as it is told, and lets a test wait for questions."""

    def __init__(self) -> None:
        self.answer: Callable[[str, str], bool] = lambda identity, owner: True
        self._asked: list[str] = []
        self._came = threading.Condition()

    def __call__(self, identity: str, owner: str) -> bool:
        with self._came:
            self._asked.append(identity)
            self._came.notify_all()
        return self.answer(identity, owner)

    def count(self, identity: str) -> int:
        return self._asked.count(identity)

    def wait_for(self, identity: str, times: int) -> None:
        with self._came:
            assert self._came.wait_for(lambda: self.count(identity) >= times, SAFETY)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def held(server: Server) -> Iterator[Held]:
    """A lease that is kept from the start."""
    made = Held("default", "me", 0.06, server)
    made.keep()
    yield made
    made.let_go()
    gone()


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_of(request.param, request) as made:
        yield made
    gone()


def gone() -> None:
    """See that the threads which renew have ended."""
    for thread in threading.enumerate():
        if thread.name == NAME:
            thread.join(SAFETY)
            assert not thread.is_alive()


def renewals(store: SQLStore, monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released at each renewal of a store's lease that the server has confirmed."""
    count = threading.Semaphore(0)
    extend = store._extend

    def counted(identity: str, owner: str) -> bool:
        kept = extend(identity, owner)
        count.release()
        return kept

    monkeypatch.setattr(store, "_extend", counted)
    return count


def test_it_is_renewed_while_it_is_held(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1: over many times its length nobody else gets in; given back, it is free at once."""
    store, other = database.store(lease=0.9), database.store(lease=60.0)
    count = renewals(store, monkeypatch)
    with store.exclusive("default", SAFETY) as held:
        for _ in range(5):
            assert count.acquire(timeout=SAFETY)
            with pytest.raises(RefreshTimeout), other.exclusive("default", 0.0):
                pytest.fail("it is held")
        assert held.assure(0.1)
    with other.exclusive("default", 0.0):
        pass


def test_it_ends_when_it_is_not_renewed(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """I1: a holder that stood still has lost it, is told, and takes nothing from the next one."""
    monkeypatch.setattr(Held, "keep", lambda self: None)  # as in a process that is stopped
    store, other, third = (database.store(lease=lease) for lease in (0.1, 60.0, 60.0))
    with (
        store.exclusive("default", SAFETY) as held,
        other.exclusive("default", SAFETY) as next_held,  # as soon as it has ended
    ):
        assert not held.assure(0.1)
        assert not held.assure(0.1)
        assert next_held.assure(0.1)
        store._release("default", held.owner)
        assert not store._extend("default", held.owner)
        with pytest.raises(RefreshTimeout), third.exclusive("default", 0.0):
            pytest.fail("it is held")
    with third.exclusive("default", 0.0) as last:
        assert last.assure(100.0)


def test_one_that_ended_and_that_nobody_took(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder that was late but alone goes on, with a whole lease before him."""
    monkeypatch.setattr(Held, "keep", lambda self: None)
    store, other = database.store(lease=0.05), database.store(lease=60.0)
    with store.exclusive("default", SAFETY) as held:
        until_ended(database)
        store._lease = 60.0
        assert held.assure(0.1)
        with pytest.raises(RefreshTimeout), other.exclusive("default", 0.0):
            pytest.fail("it is held")


def until_ended(database: Database) -> None:
    """Wait until the lease in the table is over, by the database's clock."""
    clock = sql_dialects._NOW_OF[database.name]
    query = f"SELECT COUNT(*) FROM {{t}} WHERE held_until < {clock}"  # noqa: S608 - ours
    end = time.monotonic() + SAFETY
    while database.sql(query) != [(1,)]:
        assert time.monotonic() < end


def test_a_clock_that_jumps(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the database's clock counts, not what a process or its zone thinks."""
    store, other = database.store(lease=60.0), database.store(lease=60.0)
    real = time.time
    for jump in (86400.0, -86400.0):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        with store.exclusive("default", 0.0) as held:
            monkeypatch.setattr(time, "time", lambda jump=jump: real() - jump)
            assert held.assure(1.0)
            with pytest.raises(RefreshTimeout), other.exclusive("default", 0.0):
                pytest.fail("it is held")


def test_an_hour_that_comes_twice(request: pytest.FixtureRequest) -> None:
    """MariaDB's session may have a zone whose clock is put back: a lease is not an hour longer."""
    clock = sql_dialects._NOW_OF["mysql"]
    back = 1761440400  # UTC of a clock that is put back from 3 to 2
    with database_of("mariadb", request) as database, database.beside() as at:
        run = at.exec_driver_sql
        zone = database.table
        run("INSERT INTO mysql.time_zone (Use_leap_seconds) VALUES ('N')")
        number = run("SELECT LAST_INSERT_ID()").scalar_one()
        run(f"INSERT INTO mysql.time_zone_name VALUES ('{zone}', {number})")  # noqa: S608 - ours
        kinds = f"({number}, 0, 7200, 1, 'S'), ({number}, 1, 3600, 0, 'W')"
        run(f"INSERT INTO mysql.time_zone_transition_type VALUES {kinds}")  # noqa: S608 - ours
        moves = f"({number}, {back - 9999999}, 0), ({number}, {back}, 1)"
        run(f"INSERT INTO mysql.time_zone_transition VALUES {moves}")  # noqa: S608 - ours
        run(f"SET time_zone = '{zone}'")
        for moment in (back - 1800, back - 1, back, back + 1800):
            run(f"SET timestamp = {moment}.5")
            assert run(f"SELECT {clock}").scalar_one() == moment * 1000 + 500


def test_a_store_that_is_gone(server: Server, database: Database) -> None:
    """Where the store cannot be asked, `assure` says so and does not guess."""
    held = Held("default", "me", 1.0, server)
    server.answer = failing("the server is away")
    with pytest.raises(StoreError, match="the server is away"):
        held.assure(1.0)
    store = database.store()
    with store.exclusive("default", SAFETY) as real:
        database.sql("DROP TABLE {t}")
        with pytest.raises(StoreError, match="could not be reached or used"):
            real.assure(1.0)


def failing(message: str) -> Callable[[str, str], bool]:
    def fail(identity: str, owner: str) -> bool:
        raise StoreError(message)

    return fail


def test_a_renewal_that_fails_is_tried_again(held: Held, server: Server) -> None:
    """I1: one that could not reach the server is soon followed by others, while it lasts."""
    server.answer = failing("away")
    server.wait_for("default", 3)
    assert held.renew_at - time.monotonic() < held.length / 3
    server.answer = lambda identity, owner: True
    server.wait_for("default", server.count("default") + 2)
    assert not held.lost


def test_one_that_is_lost(held: Held, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """It is asked for once, warned of once, and never again called ours."""
    server.answer = lambda identity, owner: False
    gone()
    assert held.lost
    count = server.count("default")
    server.answer = lambda identity, owner: True
    assert not held.assure(0.0)
    assert server.count("default") == count
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "the lease on its renewal was lost" in caplog.text


def test_one_that_is_lost_while_it_is_let_go(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A renewal that comes too late because the holder is done is no news to anybody."""
    held = Held("default", "me", 0.06, server)

    def late(identity: str, owner: str) -> bool:
        held.let_go()
        return False

    server.answer = late
    held.keep()
    server.wait_for("default", 1)
    gone()
    assert caplog.records == []


def test_assure_begins_it_anew(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Who has just had it confirmed need not have it renewed; too short a one is told of."""
    held = Held("default", "me", 3600.0, server)
    held.renew_at = time.monotonic() + 0.05
    held.keep()
    assert held.assure(1.0)
    assert held.renew_at > time.monotonic() + 1000
    with caplog.at_level(logging.DEBUG, "requests_refresh"):
        assert held.assure(3601.0)
    assert "3601.0 s, and the lease on it is 3600.0 s only" in caplog.text
    thread = next(one for one in threading.enumerate() if one.name == NAME)
    thread.join(0.2)  # past the moment at which it was to be renewed
    assert server.count("default") == 2
    held.let_go()
    gone()


def test_one_that_hangs_costs_no_other(server: Server) -> None:
    """I1: while the server answers nothing for one identity, the others are renewed."""
    freed = threading.Event()
    server.answer = lambda identity, owner: identity != "hangs" or freed.wait(SAFETY)
    all_held = [Held(name, "me", 0.06, server) for name in ("hangs", "one", "two")]
    for held in all_held:
        held.keep()
    server.wait_for("hangs", 1)
    for name in ("one", "two"):
        server.wait_for(name, 4)
    assert server.count("hangs") == 1
    freed.set()
    for held in all_held:
        held.let_go()
    gone()


def test_a_row_that_somebody_locks(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1: an open transaction on one row stops the renewals of that one only."""
    with database_of("postgresql", request) as database:
        store = database.store(lease=0.9)
        count = renewals(store, monkeypatch)
        with store.exclusive("locked", SAFETY), store.exclusive("free", SAFETY):
            engine = database.engine()
            with engine.begin() as at:
                row = store._key("locked")
                at.exec_driver_sql(f"SELECT 1 FROM {database.table} WHERE id = '{row}' FOR UPDATE")  # noqa: S608 - ours
                for _ in range(10):
                    assert count.acquire(timeout=SAFETY)
                with pytest.raises(RefreshTimeout), database.store().exclusive("free", 0.0):
                    pytest.fail("it is held")


def test_many_at_once(server: Server) -> None:
    """A process may hold as many as it likes, and no thread is left when it holds none."""
    many = [Held(str(number), "me", 0.06, server) for number in range(30)]
    for held in many:
        held.keep()
    for held in many:
        server.wait_for(held.identity, 2)
        held.let_go()
    gone()
    assert not any(held.lost for held in many)


def test_no_thread(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """I14: where no thread can be started the lease lasts for its length, and all works."""
    store = database.store()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", raising(RuntimeError("can't start new thread")))
        with store.exclusive("default", 0.0) as held:
            store.save("default", NEW)
            assert held.assure(1.0)
    with database.store().exclusive("default", 0.0):
        assert store.load("default") == NEW


def test_ctrl_c_at_the_start(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """I14: Ctrl-C just as it was taken gives it back, and the store goes on."""
    store = database.store()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt), store.exclusive("default", 0.0):
            pytest.fail("it was interrupted")
    with database.store().exclusive("default", 0.0):
        pass
    with store.exclusive("default", 0.0):
        store.save("default", OLD)


def raising(error: BaseException) -> Callable[[Any], None]:
    def start(self: object) -> None:
        raise error

    return start


def test_the_child_of_a_fork(held: Held, server: Server) -> None:
    """I14: a child neither vouches for the parent's lease, nor renews it, nor lets it go."""
    pid = os.fork()
    if pid == 0:
        count = server.count("default")
        right = held.inherited and not held.assure(0.0) and server.count("default") == count
        held.let_go()
        os._exit(0 if right else 1)
    assert os.waitpid(pid, 0)[1] == 0
    server.wait_for("default", server.count("default") + 2)
    assert held.assure(0.0)


def test_threads_take_turns(database: Database) -> None:
    """Renewals and turns of many threads on many identities do not disturb each other."""
    store = database.store(lease=0.9)

    def take(number: int) -> None:
        for turn in range(5):
            with store.exclusive(f"{(number + turn) % 3}", SAFETY) as held:
                assert held.assure(0.1)

    in_threads(6, take)
    assert len({leases.new_owner() for _ in range(100)}) == 100
