"""Faults on the wire between us and the refresh endpoint, at every byte of request and reply.

Each exchange that is broken is a refresh of a login of its own, for which
several threads wait. What may come of it is told by the fault alone.
"""

from __future__ import annotations

from typing import Any

import pytest

from requests_refresh import (
    InvalidReply,
    LoginRequired,
    RefreshRefused,
    RefreshUnavailable,
)
from tests.adapter.support import advance, stop_clock

from .proxy import ENDING, HARMLESS, Break, Exchange, Framing, Side
from .world import (
    MOST_CALLS,
    MOST_LOST,
    SECRET,
    Login,
    World,
    assert_no_secret,
    breaks,
    good,
    own_errors,
    positions,
)

ALLOWED = (LoginRequired, RefreshRefused, RefreshUnavailable, InvalidReply)


def learned(world: World, framing: Framing = "length") -> Exchange:
    """A refresh without any fault: how long its request and its reply are."""
    with world.login() as login:
        world.server.revoke_access()
        world.auth.begin(framing=framing)
        assert all(good(one, number) for number, one in enumerate(login.crowd()))
        (exchange,) = world.auth.exchanges
        return exchange


def is_whole(broken: Break, exchange: Exchange, framing: Framing) -> bool | None:
    """Whether the client has all of the reply; None: that depends."""
    if broken.kind in HARMLESS:
        return True
    if broken.kind == "again" and broken.at == 0:
        return True if broken.of == "reply" else None
    if broken.kind not in ENDING:
        return None
    if broken.of == "request":
        return False
    if framing == "close":
        if broken.at == len(exchange.reply):
            return True if broken.kind == "cut" else None
        return False
    if framing == "chunked" and broken.at >= len(exchange.reply) - 5:
        return None  # in what ends the last chunk, of which not all is needed
    return broken.at >= len(exchange.reply)


def befall(world: World, broken: Break, clean: Exchange, framing: Framing, always: bool) -> None:
    """A refresh that is broken so, at its first call or always; judged."""
    with world.login() as login:
        world.server.revoke_access()
        stop_clock(login.source)  # no caller comes so late that the backing off is over
        world.auth.begin(lambda number: broken if always or number == 1 else None, framing)
        came = login.crowd()
        judge(login, came, broken, clean, framing, always)
        world.auth.begin()
        advance(login.source, 200)  # beyond any backing off
        judge_after(login, came, broken)


def judge(
    login: Login, came: list[Any], broken: Break, clean: Exchange, framing: Framing, always: bool
) -> None:
    exchanges = login.world.auth.exchanges
    errors = own_errors(came, *ALLOWED)
    fine = [good(one, number) for number, one in enumerate(came)]
    if errors:
        seen = [login.first, login.store.load("default") or login.first]
        secrets = [SECRET, *(t.access_token for t in seen), *(t.refresh_token for t in seen)]
        assert_no_secret(errors[0], secrets)
        assert all(error.request is not None for error in errors)
    lost = [one for one in exchanges if one.broken is not None and one.broken.kind in ENDING]
    assert len(exchanges) <= MOST_CALLS
    assert len(lost) <= MOST_LOST
    ended = any(isinstance(error, LoginRequired) for error in errors)
    assert not ended or login.did("refresh_refused"), "nobody said that the login is over"
    assert ended == (login.store.load("default") is None)
    if always and len(lost) > 1 and broken.at >= len(lost[-1].reply) and broken.of == "reply":
        always = False  # the refusal is shorter than a token, and came whole
    if ended and (broken.of == "reply" or broken.kind in ENDING):
        assert login.world.grace == 0, "a grace period was not made use of"
        assert "outcome of the refresh before was unknown" in str(errors[0])
    whole = is_whole(broken, clean, framing)
    if whole:
        assert (fine, len(exchanges)) == ([True] * len(came), 1)
    elif whole is False:
        cut_body = framing == "close" and broken.kind == "cut" and broken.at >= head_of(clean)
        judge_lost(login, came, fine, always, spent(broken, clean), cut_body)
    if any(isinstance(error, (InvalidReply, RefreshUnavailable)) for error in errors):
        assert login.first.same_issue(login.store.load("default")), "I8: a login was touched"


def head_of(clean: Exchange) -> int:
    return clean.reply.index(b"\r\n\r\n") + 4


def spent(broken: Break, clean: Exchange) -> bool:
    """Whether the provider has renewed the login before its answer was lost."""
    return broken.of == "reply" or broken.at == len(clean.request)


def judge_lost(
    login: Login, came: list[Any], fine: list[bool], always: bool, spent: bool, cut_body: bool
) -> None:
    """No answer: to be asked once more, and then, or where it is cut unseen, an error."""
    calls = len(login.world.auth.exchanges)
    if cut_body:
        assert calls == 1
        own_errors(came, InvalidReply)
    elif always:
        assert calls == MOST_LOST
        own_errors(came, RefreshUnavailable)
        assert all(one.outcome_unknown for one in came)
    else:
        assert calls == 2
        if login.world.grace or not spent:
            assert all(fine)
        else:
            own_errors(came, LoginRequired)
    assert all(fine) or not any(fine)


def judge_after(login: Login, came: list[Any], broken: Break) -> None:
    """The wire is whole again: what lives goes on, and what the fault has ended says so."""
    stored, world = login.store.load("default"), login.world
    after = login.send()
    if stored is None:
        assert isinstance(after, LoginRequired)
        return
    if world.accepts(stored):
        assert good(after, 0), after
        return
    ours = {login.first.refresh_token}
    garbled = broken.kind not in ENDING
    assert garbled or (world.grace == 0 and stored.refresh_token in ours), "a login was lost"
    if not good(after, 0):  # a token that was garbled may go on until it dies
        assert isinstance(after, LoginRequired), after
        if not garbled:
            assert "outcome of the refresh before was unknown" in str(after)


def sweep(grace: float, framing: Framing, always: bool, of: Side, every: int, shift: int) -> None:
    with World(grace=grace) as world:
        clean = learned(world, framing)
        message = clean.reply if of == "reply" else clean.request
        for at in positions(len(message), every, shift):
            for number, broken in enumerate(breaks(of, at)):
                if every == 1 or (number + at // every) % 4 == 0:  # a fourth of the ways
                    told(world, broken, clean, framing, always)


def told(world: World, broken: Break, clean: Exchange, framing: Framing, always: bool) -> None:
    try:
        befall(world, broken, clean, framing, always)
    except AssertionError as failure:
        raise AssertionError(f"{broken}, {framing}, always={always}: {failure}") from failure


GRACES = pytest.mark.parametrize("grace", [0.0, 3600.0], ids=["strict", "grace"])


@GRACES
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("always", [False, True], ids=["once", "always"])
def test_the_reply(grace: float, framing: Framing, always: bool) -> None:
    """I3, I8: whatever befalls a reply: one clear end for all, and no login lost for nothing."""
    sweep(grace, framing, always, "reply", 31, 7 * always + 3)


@GRACES
@pytest.mark.parametrize("always", [False, True], ids=["once", "always"])
def test_the_request(grace: float, always: bool) -> None:
    """I8: whatever befalls a request: only what arrived whole can cost a login."""
    sweep(grace, "length", always, "request", 67, 5 * always + 3)


@pytest.mark.long
@pytest.mark.parametrize(
    ("grace", "framing", "always"),
    [(0.0, "length", False), (3600.0, "chunked", True)],
)
def test_the_reply_at_every_byte(grace: float, framing: Framing, always: bool) -> None:
    """I3, I8: the same, at each and every byte of a reply, in every way."""
    every_byte(grace, framing, always, "reply")


@pytest.mark.long
def test_the_request_at_every_byte() -> None:
    """I8: the same, at each and every byte of a request."""
    every_byte(0.0, "length", False, "request")


def every_byte(grace: float, framing: Framing, always: bool, of: Side) -> None:
    """At each byte it is cut off, and befalls it one in seven of the other ways, in turn."""
    with World(grace=grace) as world:
        clean = learned(world, framing)
        message = clean.reply if of == "reply" else clean.request
        for at in range(len(message) + 1):
            for number, broken in enumerate(breaks(of, at)):
                if broken.kind == "cut" or (number + at) % 7 == 0:
                    told(world, broken, clean, framing, always)


SILENT: list[tuple[Side, float]] = [
    ("reply", 0.0),
    ("reply", 0.3),
    ("reply", 0.9),
    ("request", 0.5),
]


@GRACES
@pytest.mark.parametrize(("of", "part"), SILENT)
def test_silence(grace: float, of: Side, part: float) -> None:
    """I5: who falls silent in the middle is waited for as long as the grant says, no longer."""
    with World(grace=grace, read=0.25) as world:
        clean = learned(world)
        at = int(part * len(clean.reply if of == "reply" else clean.request))
        told(world, Break("stall", at, of=of), clean, "length", False)


@GRACES
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("part", [0.0, 0.2, 0.8, 1.0])
def test_a_reply_without_end(grace: float, framing: Framing, part: float) -> None:
    """I3: a reply that never ends is no token, and is not taken in for ever."""
    with World(grace=grace) as world:
        clean = learned(world, framing)
        told(world, Break("endless", int(part * len(clean.reply))), clean, framing, False)


@GRACES
def test_the_request_twice(grace: float) -> None:
    """I8: a request that the network doubles ends a login only where the provider ends it."""
    with World(grace=grace) as world:
        clean = learned(world)
        broken = Break("again", len(clean.request), of="request")
        told(world, broken, clean, "length", False)
