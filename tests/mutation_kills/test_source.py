"""What a source does in single steps: its defaults, its moments, its locks, what it tells."""

from __future__ import annotations

import inspect
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from requests_refresh import (
    ConfigurationError,
    MemoryStore,
    RefreshError,
    Token,
    TokenSource,
)
from requests_refresh.tokens import Current

from ..source.conftest import Fickle, Make, Provider, login, make
from .steps import locals_below

__all__ = ["make"]


class Revoking(Provider):
    """A provider that can end what it issued; `failing`: what comes of that."""

    def __init__(self, *script: Any, failing: BaseException | None = None) -> None:
        super().__init__(*script)
        self.failing = failing
        self.revoked: list[Token] = []

    def revoke(self, token: Token) -> None:
        self.revoked.append(token)
        if self.failing is not None:
            raise self.failing


def frames_of(error: BaseException) -> list[FrameType]:
    """Those of the package, with what they still hold."""
    frames, link = list[FrameType](), error.__traceback__
    while link is not None:
        if "requests_refresh" in link.tb_frame.f_globals["__name__"]:
            frames.append(link.tb_frame)
        link = link.tb_next
    return frames


def test_the_defaults_are_those_that_are_documented() -> None:
    """I12: 30 s for a caller, three strikes in 30 s, in the background, the identity `default`."""
    signature = inspect.signature(TokenSource)
    given = {n: p.default for n, p in signature.parameters.items() if p.default is not p.empty}
    assert given == {
        "store": None,
        "identity": "default",
        "token": None,
        "relogin": None,
        "ahead": None,
        "leeway": None,
        "background": True,
        "timeout": 30.0,
        "strikes": (3, 30.0),
        "on_refresh": None,
        "on_logout": None,
    }


def test_a_setting_that_cannot_be_right_shows_no_secret() -> None:
    """I9: the frames of the error hold nothing, and those of the caller's own are left whole."""

    def fail() -> None:
        kept = ["his"]
        raise KeyError(len(kept))

    left: dict[str, Any] = {}
    try:
        fail()
    except KeyError as his:
        with pytest.raises(ConfigurationError) as caught:
            TokenSource(Provider(), "nothing://user:canary@host", token="canary")
        left = locals_below(his)
    assert left == {"kept": ["his"]}
    frames = frames_of(caught.value)
    assert frames
    assert "canary" not in repr([frame.f_locals for frame in frames])


def test_a_login_and_a_logout_change_the_store_one_at_a_time(make: Make) -> None:
    """I14: over both steps, in the store and in the gate, nobody else logs in or out."""
    store, locked = Fickle(), list[bool]()
    source = make(Revoking(), store, token=login())
    for name in ("save", "delete"):
        store.before[name] = lambda: locked.append(source._changing.locked())
    source.login("own")
    assert locked == [True]
    source.logout()
    assert locked == [True, True]
    assert not source._changing.locked()


def test_a_logout_leaves_the_store_to_others(make: Make) -> None:
    """I3: what it held to end a renewal first is given back, however it ends."""
    for failing in (None, RefreshError("down")):
        store, grant = MemoryStore(), Revoking(failing=failing)
        source = make(grant, store, token=login())
        source.token()
        with suppress(RefreshError):
            source.logout(revoke=True)
        assert [token.access_token for token in grant.revoked] == ["a0"]
        with store.exclusive("default", 0.2):
            pass


def test_what_a_logout_tells(make: Make) -> None:
    """I9: what the provider said is in the error; so is a renewal that did not end."""
    source = make(Revoking(failing=RefreshError("it is down")), token=login())
    source.token()
    with pytest.raises(RefreshError, match=r"it is down$") as caught:
        source.logout(revoke=True)
    assert isinstance(caught.value.__cause__, RefreshError)
    store = MemoryStore()
    source = TokenSource(Revoking(), store, token=login(), timeout=0.2)
    source.token()
    with (
        store.exclusive("default", 1.0),
        pytest.raises(RefreshError, match="did not end") as caught,
    ):
        source.logout(revoke=True)
    assert caught.value.__cause__ is None


def test_a_grant_may_log_out(make: Make) -> None:
    """I3: a logout by the work of a round does not wait for that round."""
    done: list[bool] = []

    def step(old: Token | None) -> None:
        source.logout(revoke=True)
        done.append(True)

    source = TokenSource(Revoking(step), token=login(), timeout=1.0)
    with pytest.raises(RefreshError):
        source.renew(source.token())
    source.close()
    assert done == [True]


def test_close_waits_for_the_timeout(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """I7: a round and a pending save have until the timeout, and then the source is as before."""
    source = make(Provider(), timeout=7.0)
    until: list[float] = []
    monkeypatch.setattr(source._jobs, "wait", until.append)
    source.close()
    assert until == [make.clock.now + 7.0]
    assert source._place.give_up_at == float("inf")


def test_at_its_end_a_token_is_dead(make: Make) -> None:
    """I2: at the very moment of its end it is renewed; just before, it is handed out."""
    source = make(Provider(), token=login())
    old, now = source.token(), make.clock.now
    source._gate.current = Current(old, now + 5.0, now + 9.0)
    assert source._fresh() is old  # I15
    assert source.token() is old
    make.clock.now = now + 5.0
    assert source._fresh() is None
    source._gate.current = Current(old, now, make.clock.now)
    assert source.token().access_token == "a1"
