"""A 401 that was read and given back, and reaches the caller all the same, is still whole."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest
import requests

from requests_refresh import LoginRequired, RefreshUnavailable, Token, TokenSource

from .conftest import Mount
from .support import Issuer
from .wire import REFUSED, Wire, reply, taking

BODY = b'{"error": "invalid_token"}'
KINDS = {
    "plain": reply(401, BODY, "Content-Type: application/json"),
    "gzip": reply(401, gzip.compress(BODY), "Content-Encoding: gzip"),
    "chunked": reply(
        401, b"1a\r\n" + BODY + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=False
    ),
    "closed": reply(401, BODY, "Connection: close"),
}
READ: dict[str, Callable[[requests.Response], bytes]] = {
    "content": lambda response: response.content,
    "text": lambda response: response.text.encode(),
    "iter_content": lambda response: b"".join(response.iter_content(3)),
    "iter_lines": lambda response: b"".join(response.iter_lines()),
    "raw": lambda response: bytes(response.raw.read(decode_content=True)),
    "raw.stream": lambda response: b"".join(response.raw.stream(5, decode_content=True)),
}


def over(old: Token | None) -> str:
    raise LoginRequired("over")


def down(old: Token | None) -> str:
    raise requests.ConnectionError("down")


@pytest.mark.parametrize("read", READ.values(), ids=READ.keys())
@pytest.mark.parametrize("refused", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("grant", [over, down])
def test_the_401_of_an_error_can_be_read(
    grant: Callable[[Token | None], str],
    refused: bytes,
    read: Callable[[requests.Response], bytes],
    mount: Mount,
) -> None:
    """error.response is the API's 401 with its body, and the caller's own request is on both."""
    with Wire(taking("new-1", refused=refused)) as wire:
        session = mount(TokenSource(grant, token="old", timeout=5), wire.url)
        request = session.prepare_request(requests.Request("GET", wire.url))
        with pytest.raises((LoginRequired, RefreshUnavailable)) as caught:
            session.send(request, timeout=10, stream=True)
        response = caught.value.response
        assert response is not None
        assert caught.value.request is request
        assert response.request is request
        assert response.status_code == 401
        assert read(response) == BODY


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("refused", KINDS.values(), ids=KINDS.keys())
def test_the_401_of_strikes_used_up_in_between_can_be_read(
    refused: bytes, stream: bool, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I12: where the last strike falls while the 401 is read, the caller gets that 401, whole."""
    issuer = Issuer()
    tokens = TokenSource(issuer, token="old", strikes=(1, 30.0))
    real = tokens._could_help

    def could_help(stale: Token, refreshed: bool) -> bool:
        helps = real(stale, refreshed)
        tokens._strikes.strike(Token("another"))  # as another thread does right then
        return helps

    monkeypatch.setattr(tokens, "_could_help", could_help)
    with Wire(taking("new-1", refused=refused)) as wire:
        session = mount(tokens, wire.url, pool_block=True, pool_maxsize=1)
        with session.get(wire.url, timeout=10, stream=stream) as response:
            assert response.status_code == 401
            assert (response.raw.read(decode_content=True) if stream else response.content) == BODY
        assert session.get(wire.url, timeout=10).content == BODY  # the pool's one is free
    assert issuer.calls == 0


def test_head_and_empty_401s_are_handed_on_empty(mount: Mount) -> None:
    """A refusal with no body has none when it is handed on."""
    head = reply(401, b"", "Content-Length: 7", length=False)
    with Wire(taking("new-1", refused=head)) as wire:
        session = mount(TokenSource(over, token="old"), wire.url)
        with pytest.raises(LoginRequired) as caught:
            session.head(wire.url, timeout=10)
        assert caught.value.response is not None
        assert caught.value.response.content == b""


def test_a_long_401_is_cut_off(mount: Mount) -> None:
    """I13: of a 401 that is longer than 64 KiB, an error's response has the beginning."""
    with Wire(taking("new-1", refused=reply(401, b"x" * 100_000))) as wire:
        session = mount(TokenSource(over, token="old"), wire.url)
        with pytest.raises(LoginRequired) as caught:
            session.get(wire.url, timeout=10)
        assert caught.value.response is not None
        assert caught.value.response.content == b"x" * 65536


def test_the_last_401_is_the_one_that_is_handed_on(mount: Mount) -> None:
    """Of two refusals, the later is on the error."""
    tokens = TokenSource(Issuer(), token="old")
    with Wire(taking("none", refused=REFUSED)) as wire:
        session = mount(tokens, wire.url)
        assert session.get(wire.url, timeout=10).content == b"refused"
        assert [request.token for request in wire.requests] == ["old", "new-1"]
