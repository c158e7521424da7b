"""What the adapter does in single steps: its waits, its sends, and what it says."""

from __future__ import annotations

import inspect
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from requests import PreparedRequest, Request, Response, Session
from requests.adapters import BaseAdapter, HTTPAdapter

from requests_refresh import (
    Bearer,
    RefreshAdapter,
    RefreshLoop,
    Token,
    TokenSource,
    adapter,
    lifecycle,
)
from requests_refresh.adapter import _ask_again, _Budget
from requests_refresh.tokens import Current, Outcome

from ..source.conftest import Make, Provider, login, make

__all__ = ["make"]

API = "https://api.example/"


class Inner(BaseAdapter):
    """Answers with these statuses, one for each send."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.sent: list[str | bytes | None] = []

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
        self.sent.append(request.headers.get("Authorization"))
        response = Response()
        response.status_code = self.statuses.pop(0)
        return response

    def close(self) -> None:
        pass


def mounted(source: TokenSource, inner: Inner, **options: Any) -> Session:
    session = Session()
    session.trust_env = False
    session.mount(API, RefreshAdapter(source, origins=API, inner=inner, **options))
    return session


def outcome(name: str, *, refreshed: bool) -> Outcome:
    forever = float("inf")
    return Outcome(Current(Token(name), forever, forever), refreshed=refreshed)


def test_it_is_called_as_any_adapter() -> None:
    """I10: what is not given is what requests' own adapter takes for it."""

    def defaults(send: Any) -> dict[str, Any]:
        return {name: one.default for name, one in inspect.signature(send).parameters.items()}

    assert defaults(RefreshAdapter.send) == defaults(HTTPAdapter.send)


def test_the_waits_of_a_request_have_one_budget() -> None:
    """I5: each wait takes from what the timeout leaves, down to nothing, and not below."""
    clock = SimpleNamespace(now=100.0)
    tokens: Any = SimpleNamespace(_timeout=30.0, _clock=lambda: clock.now)
    budget = _Budget(tokens)
    for taken, left in ((3.0, 27.0), (7.5, 19.5), (19.0, 0.5), (5.0, 0.0), (1.0, 0.0)):
        before = budget.left
        with budget:
            assert budget.deadline == clock.now + min(before, 30.0)
            clock.now += taken
        assert budget.left == left


class Nonce(Bearer):
    """Wants the token put otherwise, once."""

    def again(self, response: Response) -> Bearer | None:
        return Bearer() if response.status_code == 418 else None


@pytest.mark.parametrize(
    ("statuses", "known", "made"),
    [
        ([401, 401, 401], True, 1),
        ([401, 401, 401], False, 1),
        ([418, 401, 200], True, 1),
        ([418, 200], False, 1),
        ([200], True, 0),
    ],
)
def test_all_waits_share_it(
    statuses: list[int], known: bool, made: int, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I5: before the first send, for a nonce and at each refusal it is the same budget."""
    budgets: list[_Budget] = []

    def budget(tokens: TokenSource) -> _Budget:
        budgets.append(_Budget(tokens))
        return budgets[-1]

    source, inner = make(Provider(), token=login()), Inner(*statuses)
    if known:
        source.token()
    monkeypatch.setattr(adapter, "_Budget", budget)
    renewed = [outcome(name, refreshed=False) for name in ("x", "y", "z")]
    monkeypatch.setattr(source, "_renew", lambda *rest, **options: renewed.pop(0))
    with mounted(source, inner, scheme=Nonce()) as session:
        assert session.get(API).status_code == statuses[-1]
    assert len(budgets) == made
    assert len(inner.sent) == len(statuses)


def test_who_had_his_refresh_never_begins_another(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I12: one that came before the first send counts, whatever is adopted after it."""
    source, starts = make(Provider(), token=login()), list[bool]()

    def renew(*rest: Any, may_start: bool) -> Outcome:
        starts.append(may_start)
        return outcome(f"other {len(starts)}", refreshed=False)

    monkeypatch.setattr(source, "_fresh", lambda: None)
    monkeypatch.setattr(source, "_could_help", lambda *rest: True)
    monkeypatch.setattr(
        source, "_for_request", lambda *rest, **options: outcome("own", refreshed=True)
    )
    monkeypatch.setattr(source, "_renew", renew)
    inner = Inner(401, 401, 401)
    with mounted(source, inner) as session:
        assert session.get(API).status_code == 401
    assert starts == [False, False]
    assert inner.sent == ["Bearer own", "Bearer other 1", "Bearer other 2"]


def test_strikes_that_are_used_up_meanwhile(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """I12: the caller gets the refusal that is there; nothing is sent again."""
    source, inner = make(Provider(), token=login()), Inner(401, 200)

    def used_up(*rest: Any, **options: Any) -> Outcome:
        raise RefreshLoop("used up")

    monkeypatch.setattr(source, "_renew", used_up)
    with mounted(source, inner) as session:
        assert session.get(API).status_code == 401
    assert len(inner.sent) == 1


def test_a_scheme_that_fails_to_look(make: Make) -> None:
    """I13: the caller gets what it raised, and the connection is given back."""
    closed: list[bool] = []

    def again(response: Response) -> None:
        raise KeyError("its own")

    scheme: Any = SimpleNamespace(again=again)
    response: Any = SimpleNamespace(close=lambda: closed.append(True))
    with pytest.raises(KeyError, match="its own"):
        _ask_again(scheme, response)
    assert closed == [True]
    assert _ask_again(Bearer(), response) is None


class Nameless:
    """Does not say which headers it sets."""

    def attach(self, request: PreparedRequest, token: Token) -> None:
        request.headers["X-Token"] = "t"

    def refused(self, response: Response) -> bool:
        return False


def test_what_is_overwritten_is_said_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """I10: of a header of the caller's own, and under the lock; cookies may well be others."""
    source = make(Provider(), token=login())
    one = RefreshAdapter(source, origins=API, scheme=Nameless())
    locked: list[bool] = []

    class Noted(RefreshAdapter):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "_overwrote":
                locked.append(source._lock.locked())
            super().__setattr__(name, value)

    one.__class__ = Noted
    own = Request("GET", API, headers={"Cookie": "a=1", "X-Token": "own"}).prepare()
    signed = own.copy()
    signed.headers["Cookie"] = "a=2"
    with caplog.at_level(logging.WARNING):
        one._note_overwriting(own, signed)
        assert (caplog.messages, locked) == ([], [])
        signed.headers["X-Token"] = "t"
        for _ in range(2):
            one._note_overwriting(own, signed)
    assert len(caplog.messages) == 1
    assert "X-Token" in caplog.messages[0]
    assert locked == [True, True]
    one.close()


def test_a_child_begins_its_pools_anew(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """I14: of each adapter and each inner one, unpickled ones too; the parent's stay open."""
    watched: list[object] = []
    monkeypatch.setattr(lifecycle, "watch", watched.append)
    inners, inner = adapter._Inners(), HTTPAdapter(pool_maxsize=3)
    monkeypatch.setattr(adapter, "_inners", inners)
    source = make(Provider(), token=login())
    own = RefreshAdapter(source, origins=API, pool_maxsize=5)
    outer = RefreshAdapter(source, origins=API, inner=inner)
    assert [*inners._all] == [inner]
    again: Any = RefreshAdapter.__new__(RefreshAdapter)  # as a pickle begins
    again.__setstate__({**outer.__getstate__(), "_inner": HTTPAdapter()})
    assert {*inners._all} == {inner, again._inner}
    assert [one for one in watched if one is not source] == [inners, own, outer, again]
    pools = own.poolmanager, inner.poolmanager
    own._after_fork_in_child()
    inners._after_fork_in_child()
    assert own.poolmanager is not pools[0]
    assert inner.poolmanager is not pools[1]
    assert own.poolmanager.connection_pool_kw["maxsize"] == 5
    assert inner.poolmanager.connection_pool_kw["maxsize"] == 3
    inherited: Any = adapter._inherited  # pairs, for http and for proxies
    assert all(any(pool is manager for manager, _ in inherited) for pool in pools)
