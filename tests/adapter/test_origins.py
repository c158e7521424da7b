"""I9: the token reaches declared origins only, at every hop, however a URL is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
import requests

from requests_refresh import ConfigurationError, HeaderScheme, RefreshAdapter, TokenSource

from .conftest import Mount
from .support import Issuer
from .wire import OK, PEM, Request, Wire, answering, reply


def source() -> TokenSource:
    return TokenSource(Issuer(), token="canary-token")


def carried(wire: Wire) -> list[bool]:
    """For each request that came: whether the token was anywhere on it."""
    return ["canary-token" in str(request) for request in wire.requests]


def redirecting(request: Request) -> bytes:
    """`/to?URL` goes there; anything else is fine."""
    path, _, url = unquote(request.target).partition("?")
    return reply(302, b"", f"Location: {url}") if path == "/to" else OK


@pytest.fixture
def api() -> Iterator[Wire]:
    with Wire(answering(redirecting)) as wire:
        yield wire


@pytest.fixture(params=["other port", "other host", "other name", "IPv6", "https"])
def foreign(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server that is not the API, with all that came to it checked at the end."""
    host = {"other host": "127.0.0.2", "IPv6": "::1"}.get(request.param, "127.0.0.1")
    with Wire(answering(redirecting), host=host, tls=request.param == "https") as wire:
        name = wire.url
        if request.param == "other name":
            name = name.replace("127.0.0.1", "localhost")
        yield name
        assert wire.requests
        assert not any(carried(wire))


SCHEMES = {"Bearer": None, "X-Auth-Token": HeaderScheme("X-Auth-Token")}


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())
def test_a_redirect_elsewhere_carries_no_token(
    scheme: HeaderScheme | None, foreign: str, api: Wire, mount: Mount
) -> None:
    """I9: the adapter is asked at every hop, is mounted everywhere, and still stays silent."""
    session = mount(source(), api.url, everywhere=True, scheme=scheme)
    session.verify = str(PEM)
    response = session.get(f"{api.url}to?{foreign}", timeout=10)
    assert response.content == b"fine"
    assert carried(api) == [True]
    assert "canary" not in str(response.request.headers)
    assert "canary" not in str(response.history[0].request.headers)


def test_a_redirect_back_carries_it_again(foreign: str, api: Wire, mount: Mount) -> None:
    """I9: away and back: the API's hops have the token, the foreign one has not."""
    session = mount(source(), api.url, everywhere=True)
    session.verify = str(PEM)
    response = session.get(f"{api.url}to?{foreign}to?{api.url}end", timeout=10)
    assert [len(response.history), response.content] == [2, b"fine"]
    assert carried(api) == [True, True]


def test_a_redirect_from_outside_to_the_api_carries_it(api: Wire, mount: Mount) -> None:
    """What comes to a declared origin gets the token, wherever it was sent from."""
    session = mount(source(), api.url)
    with Wire(answering(redirecting)) as other:
        assert session.get(f"{other.url}to?{api.url}", timeout=10).status_code == 200
        assert carried(other) == [False]
    assert carried(api) == [True]


def test_a_redirect_within_the_api_with_a_dead_token(mount: Mount) -> None:
    """Each hop is its own: a token that dies in between is renewed at the next."""
    living = ["canary-token"]

    def answer(request: Request) -> bytes:
        if request.token not in living:
            return reply(401)
        if request.target == "/":
            living[:] = ["new-1"]
            return reply(307, b"", "Location: /end")
        return OK

    issuer = Issuer()
    with Wire(answering(answer)) as wire:
        session = mount(TokenSource(issuer, token="canary-token"), wire.url)
        response = session.post(wire.url, data=b"abc", timeout=10)
        assert response.status_code == 200
        assert [request.body for request in wire.requests] == [b"abc"] * 3
    assert issuer.calls == 1


def test_a_downgrade_to_http_carries_no_token(mount: Mount) -> None:
    """I9: https to http on the same host and name is another origin."""
    with Wire(answering(redirecting), tls=True) as api, Wire(answering(redirecting)) as plain:
        session = mount(source(), api.url, everywhere=True)
        session.verify = str(PEM)
        assert session.get(f"{api.url}to?{plain.url}", timeout=10).content == b"fine"
        assert carried(api) == [True]
        assert carried(plain) == [False]


@pytest.mark.parametrize(
    "location", ["//{other}/", "///{other}/", "http:\\\\{other}/", "http://{host}@{other}/"]
)
def test_odd_locations_carry_no_token_elsewhere(location: str, api: Wire, mount: Mount) -> None:
    """I9: whatever requests makes of a Location, a foreign server sees no token."""
    with Wire(answering(redirecting)) as other:
        places = {"other": f"127.0.0.1:{other.port}", "host": f"127.0.0.1:{api.port}"}
        target = location.format(**places)
        session = mount(source(), api.url, everywhere=True)
        with contextlib.suppress(requests.RequestException):  # requests may refuse to go there
            session.get(f"{api.url}to?{target}", timeout=10)
        assert not any(carried(other))


LOOK_ALIKES = [
    "http://127.0.0.1:{port}@localhost:{other}/",
    "http://127.0.0.1:{port}%40@localhost:{other}/",
    "http://127.0.0.1:{port}@127.0.0.2:{other}/",
    "http://127.0.0.1:{other}/",
    "http://127.0.0.1:{other}/127.0.0.1:{port}/",
    "http://127.0.0.1:{other}/?http://127.0.0.1:{port}/",
    "http://127.0.0.1:{other}/#@127.0.0.1:{port}/",
    "http://localhost:{other}/",
    "http://localhost:{port}/",
    "http://127.0.1:{port}/",
    "http://0x7f000001:{port}/",
    "http://2130706433:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
]


@pytest.mark.parametrize("url", LOOK_ALIKES)
def test_look_alikes_get_no_token(url: str, api: Wire, mount: Mount) -> None:
    """I9: prefixes, user names, other ports and other spellings of a host are other origins."""
    with Wire(answering(redirecting), host="0.0.0.0") as other:  # noqa: S104  # 127.0.0.2 as well
        session = mount(source(), api.url, everywhere=True)
        target = url.format(port=api.port, other=other.port)
        # Not every resolver knows all of these spellings.
        with contextlib.suppress(requests.ConnectionError):
            session.get(target, timeout=10)
        assert not any(carried(other))
        assert not any(carried(api))


@pytest.mark.parametrize(
    "url",
    [
        "HTTP://127.0.0.1:{port}/",
        "http://user@127.0.0.1:{port}/",
        "http://user:password@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}",
        "http://127.0.0.1:{port}?query",
        "  http://127.0.0.1:{port}/",
        "http://127.0.0.1:{port}//127.0.0.2/",
        "http://127.0.0.1:{port}/api/../admin",
    ],
)
def test_the_same_origin_otherwise_written_gets_it(url: str, api: Wire, mount: Mount) -> None:
    """Scheme, host and port are compared, parsed; the rest of a URL means nothing."""
    session = mount(source(), api.url, everywhere=True)
    assert session.get(url.format(port=api.port), timeout=10).status_code == 200
    assert carried(api) == [True]


def test_hosts_are_compared_in_small_letters(mount: Mount) -> None:
    """A name in capitals is the same name, in an origin and in a URL."""
    with Wire(answering(redirecting)) as wire:
        origin = f"HTTP://LocalHost:{wire.port}/path"
        session = mount(source(), origin, everywhere=True)
        for name in ("localhost", "LOCALHOST"):
            session.get(f"http://{name}:{wire.port}/", timeout=10)
        assert carried(wire) == [True, True]


def test_an_ipv6_origin(mount: Mount) -> None:
    """An address in brackets is an origin like any other."""
    with Wire(answering(redirecting), host="::1") as wire:
        session = mount(source(), wire.url)
        session.get(wire.url, timeout=10)
        assert carried(wire) == [True]


def test_an_international_name_is_compared_as_it_is_sent() -> None:
    """The origin of a name beyond ASCII is its punycode, which is what requests sends to."""
    adapter = RefreshAdapter(source(), origins="https://Bücher.example/")
    assert adapter._origins == {("https", "xn--bcher-kva.example", 443)}


def test_default_ports_are_filled_in() -> None:
    """No port, an empty one, and the default are the same origin; requests takes 0 for none."""
    for url in (
        "https://a.example",
        "https://a.example:/",
        "https://a.example:443/x",
        "https://a.example:0",
    ):
        assert RefreshAdapter(source(), origins=url)._origins == {("https", "a.example", 443)}


def test_several_origins(api: Wire, mount: Mount) -> None:
    """The token goes to each origin that is declared, and to no third."""
    with Wire(answering(redirecting)) as second, Wire(answering(redirecting)) as third:
        session = mount(source(), api.url, second.url, everywhere=True)
        for url in (api.url, second.url, third.url):
            session.get(url, timeout=10)
        assert [carried(wire) for wire in (api, second, third)] == [[True], [True], [False]]


BAD_ORIGINS = [
    "http://api.example.com/",
    "http://10.0.0.1/",
    "http://127.0.0.1.evil.test/",
    "http://localhost.evil.test/",
    "http://127.0.0.1@evil.test/",
    "http://0.0.0.0/",
    "http://[::]/",
    "http://[fe80::1]/",
    "http://128.0.0.1/",
    "ftp://127.0.0.1/",
    "http+unix://%2Frun%2Fapi.sock/",
    "file:///etc/passwd",
    "api.example.com",
    "api.example.com:443",
    "//api.example.com/",
    "/path",
    "https://",
    "https:///path",
    "https://:443/",
    "https://[::1/",
    "https://a.example:99999/",
    "https://a.example:port/",
    "https://*.example/",
    "",
    " ",
    None,
    7,
    b"https://a.example/",
    [],
    ["https://a.example/", None],
    ["https://a.example/", "http://b.example/"],
]


@pytest.mark.parametrize("origins", BAD_ORIGINS, ids=repr)
def test_an_origin_that_may_see_no_token_is_refused_at_once(origins: object) -> None:
    """I9: plain http that is not loopback, no scheme, no host: ConfigurationError at once."""
    with pytest.raises(ConfigurationError):
        RefreshAdapter(source(), origins=origins)  # type: ignore[arg-type]  # that is the test


def test_the_error_of_an_origin_shows_no_secret() -> None:
    """I9: a password or key in an origin's URL is not in the message."""
    with pytest.raises(ConfigurationError) as caught:
        RefreshAdapter(source(), origins="http://user:canary@api.example.com/?key=canary")
    assert "canary" not in str(caught.value)
    assert "http://api.example.com" in str(caught.value)


@pytest.mark.parametrize(
    "origin", ["http://localhost/", "http://x.localhost/", "http://127.9.9.9/", "http://[::1]:80/"]
)
def test_plain_http_is_for_loopback(origin: str) -> None:
    """I9: plain http is taken for this host itself."""
    assert RefreshAdapter(source(), origins=origin)._origins
