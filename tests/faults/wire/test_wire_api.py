"""Faults on the wire between us and the API: its refusal, its answer, and the request itself.

What a caller gets is measured by what a bare session gets through the same
proxy with the same fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import requests

from requests_refresh import RefreshError
from tests.adapter.support import advance

from .proxy import ENDING, SAFETY, Break, Exchange, Framing, Side
from .world import Login, World, assert_no_secret, bare, breaks, close, good, positions, sent

Told = tuple[object, ...]


def told(came: object) -> Told:
    """What tells one outcome from another: all of a response but its date, or how it failed."""
    if isinstance(came, requests.Response):
        headers = sorted(pair for pair in came.headers.items() if pair[0].lower() != "date")
        return (came.status_code, came.reason, headers, came.content)
    assert isinstance(came, BaseException)
    return (type(came), re.sub(r"0x[0-9a-f]+|port=\d+", "", str(came)))


def bare_with(token: str | None) -> requests.Session:
    """A session that puts the token on its requests as the last header, as we do."""

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    http = bare()
    http.auth = sign
    return http


def by_bare(
    login: Login, token: str | None, broken: Break, framing: Framing, **options: bool
) -> requests.Response | BaseException:
    """What becomes of the same request without us."""
    login.world.api.begin(lambda number: broken if number == 1 else None, framing)
    http = bare_with(token)
    came = sent(http, login.world.api.url("api/x"), 0, SAFETY, **options)
    if isinstance(came, requests.Response):
        came.close()
    close(http)
    login.world.api.quiet()
    return came


def clean(world: World, framing: Framing, dead: bool) -> Exchange:
    """An exchange without a fault, with a token that lives or is dead."""
    with world.login() as login:
        if dead:
            world.server.revoke_access()
        by_bare(login, login.first.access_token, Break("delay", 0), framing)
        return world.api.exchanges[0]


def befall_answer(world: World, broken: Break, framing: Framing) -> None:
    """The token lives: what comes is what a bare session would have got."""
    with world.login() as login:
        expected = by_bare(login, login.first.access_token, broken, framing)
        world.api.begin(lambda number: broken if number == 1 else None, framing)
        came = login.send()
        refused = isinstance(expected, requests.Response) and expected.status_code == 401
        if refused:  # what was garbled was the token itself, or how it is put
            assert good(came, 0)
        elif broken.kind == "reset":
            assert type(came) is type(expected)  # what is told of it depends on the moment
        else:
            assert told(came) == told(expected)
        assert login.did("refreshes") == refused
        check_after(login, came)


def befall_refusal(world: World, broken: Break, framing: Framing) -> None:
    """The token is dead: what still is a refusal, is mended; else as by a bare session."""
    with world.login() as login:
        world.server.revoke_access()
        expected = by_bare(login, login.first.access_token, broken, framing, stream=True)
        refused = isinstance(expected, requests.Response) and expected.status_code == 401
        if not refused:
            expected = by_bare(login, login.first.access_token, broken, framing)
        world.api.begin(lambda number: broken if number == 1 else None, framing)
        came = login.send()
        if refused and broken.kind == "reset":
            # The RST may overtake the refusal.
            assert good(came, 0) or isinstance(came, requests.ConnectionError)
        elif refused:
            assert good(came, 0), (came, expected)
            assert login.did("refreshes") == 1
            assert len(world.api.exchanges) == 2
        else:
            assert type(came) is type(expected)
            if isinstance(came, requests.Response):
                assert told(came) == told(expected)
            assert login.did("refreshes") == 0
        check_after(login, came)


def check_after(login: Login, came: object) -> None:
    """Nothing of the login is lost or shown, and the next requests work, in several threads."""
    assert not isinstance(came, RefreshError)
    token = login.store.load("default")
    assert token is not None
    if isinstance(came, BaseException):
        assert_no_secret(came, [token.access_token, token.refresh_token])
    login.world.api.begin()
    advance(login.source, 200)
    assert all(good(one, number) for number, one in enumerate(login.crowd()))


def ways(message: bytes, of: Side, every: int, shift: int, share: int) -> Iterator[Break]:
    for at in positions(len(message), every, shift):
        for number, broken in enumerate(breaks(of, at)):
            if (number + at // every) % share == 0:
                yield broken


def sweep(dead: bool, of: Side, framing: Framing, every: int, share: int) -> None:
    with World() as world:
        exchange = clean(world, framing, dead)
        message = exchange.reply if of == "reply" else exchange.request
        for broken in ways(message, of, every, 3, share):
            if broken.kind in ENDING and broken.at == len(exchange.reply):
                continue  # an answer that is whole, and a connection that ends a little later
            try:
                (befall_refusal if dead else befall_answer)(world, broken, framing)
            except AssertionError as failure:
                raise AssertionError(f"{broken}, {framing}: {failure}") from failure


FRAMINGS = pytest.mark.parametrize("framing", ["length", "chunked", "close"])


@FRAMINGS
def test_the_refusal(framing: Framing) -> None:
    """I12, I13: a 401 is a 401, whatever becomes of the rest of it; one refresh, two sends."""
    sweep(True, "reply", framing, 29, 4)


@FRAMINGS
def test_the_answer(framing: Framing) -> None:
    """I2: a 200 that is broken is its caller's, as a bare session has it, and refreshes nothing."""
    sweep(False, "reply", framing, 37, 4)


@pytest.mark.parametrize("dead", [False, True], ids=["alive", "dead"])
def test_the_request(dead: bool) -> None:
    """I11: a request that the network breaks is sent again only after a 401, and to the byte."""
    sweep(dead, "request", "length", 53, 4)


@pytest.mark.long
@pytest.mark.parametrize(
    ("dead", "framing"), [(True, "length"), (True, "chunked"), (False, "close")]
)
def test_the_reply_at_every_byte(dead: bool, framing: Framing) -> None:
    """I12, I13: the same, at every byte of the API's 401 and 200."""
    sweep(dead, "reply", framing, 1, 7)


@pytest.mark.long
def test_the_request_at_every_byte() -> None:
    """I11: the same, at every byte of the request to the API."""
    sweep(True, "request", "length", 1, 7)


@FRAMINGS
@pytest.mark.parametrize("kind", ["stall", "endless"])
def test_a_refusal_that_does_not_end(kind: str, framing: Framing) -> None:
    """I13: a 401 whose body stops or never ends is left there; several threads get their 200."""
    with World() as world:
        head = clean(world, framing, dead=True).reply.index(b"\r\n\r\n") + 4
        broken = Break("stall" if kind == "stall" else "endless", head + 5)
        with world.login() as login:
            world.server.revoke_access()
            world.api.begin(lambda number: broken if number <= 3 else None, framing)
            came = login.crowd(3)
            assert all(good(one, number) for number, one in enumerate(came))
            assert login.did("refreshes") == 1


@pytest.mark.parametrize("part", [0.0, 0.1, 0.7])
def test_an_api_that_falls_silent(part: float) -> None:
    """I5: each caller has its own timeout, as with a bare session, and no refresh is made of it."""
    with World() as world:
        at = int(part * len(clean(world, "length", dead=False).reply))
        with world.login() as login:
            world.api.begin(lambda number: Break("stall", at))
            http = bare_with(login.first.access_token)
            expected = sent(http, world.api.url("api/x"), 0, 0.1)
            close(http)
            came = login.crowd(3, timeout=0.1)
            assert {type(one) for one in came} == {type(expected)}
            assert login.did("refreshes") == 0
            check_after(login, came[0])
