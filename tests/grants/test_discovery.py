"""`discover`: where a provider's endpoints are, as it says itself, and whether that is believed."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from requests_refresh import (
    ConfigurationError,
    InvalidReply,
    RefreshRefused,
    RefreshTokenGrant,
    RefreshUnavailable,
    Token,
)
from requests_refresh.errors import RefreshError
from requests_refresh.grants import discovery
from tests.grants.endpoint import PEM, Answer, EndpointServer, drip, raw, running, silence

OPENID, OAUTH = "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"
OLD = Token("old-access", refresh_token="old-refresh")


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    """Each test begins and ends with nothing kept."""
    discovery._known.clear()
    yield
    discovery._known.clear()


def issuer_of(server: EndpointServer, path: str = "") -> str:
    return server.url.removesuffix("/token") + path


def metadata(server: EndpointServer, path: str = "", **changes: Any) -> dict[str, Any]:
    return {
        "issuer": issuer_of(server, path),
        "token_endpoint": server.url,
        "revocation_endpoint": issuer_of(server) + "/revoke",
        **changes,
    }


def found(server: EndpointServer, path: str = "", **changes: Any) -> Answer:
    return Answer(body=metadata(server, path, **changes))


NOT_FOUND = Answer(404, "Not Found", "text/plain")

PLACES: list[tuple[str, list[str]]] = [
    ("", [OPENID, OAUTH]),
    ("/", [OPENID, OAUTH]),
    ("/tenant", ["/tenant" + OPENID, OAUTH + "/tenant", OPENID + "/tenant"]),
    ("/tenant/", ["/tenant" + OPENID, OAUTH + "/tenant", OPENID + "/tenant"]),
    ("/a/b", ["/a/b" + OPENID, OAUTH + "/a/b", OPENID + "/a/b"]),
]
EACH_PLACE = [(path, places, number) for path, places in PLACES for number in range(len(places))]


@pytest.mark.parametrize(
    ("path", "places", "number"), EACH_PLACE, ids=[f"{path}-{n}" for path, _, n in EACH_PLACE]
)
def test_where_it_is_looked_for(
    server: EndpointServer, path: str, places: list[str], number: int
) -> None:
    """OpenID's place, RFC 8414's (section 3.1) and its compatible one (section 5), in turn."""
    server.will(*[NOT_FOUND] * number, found(server, path))
    grant = RefreshTokenGrant.discover(issuer_of(server, path), client_id="sync")
    assert [request.path for request in server.seen] == places[: number + 1]
    for request in server.seen:
        assert (request.method, request.body) == ("GET", b"")
        assert request.headers["Accept"] == "application/json"
        assert not {"Authorization", "Cookie"} & request.headers.keys()
    server.will(Answer())
    assert grant(OLD).access_token == "new-access"
    assert server.seen[-1].path == "/token"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 410])
def test_a_place_where_it_is_not(server: EndpointServer, status: int) -> None:
    """What says "not here" in whatever way is asked no further, and the next place is."""
    server.will(Answer(status, ""), found(server))
    assert RefreshTokenGrant.discover(issuer_of(server), client_id="sync")


def test_it_is_nowhere(server: EndpointServer) -> None:
    """No metadata at all is RefreshRefused, with what to do instead, and is asked for again."""
    for _ in range(2):
        server.will(NOT_FOUND, NOT_FOUND)
        with pytest.raises(RefreshRefused, match="give the endpoints yourself"):
            RefreshTokenGrant.discover(issuer_of(server), client_id="sync")
    assert len(server.seen) == 4


def test_a_page_for_everything(server: EndpointServer) -> None:
    """A web application that answers each path with its page hides no metadata elsewhere."""
    server.will(Answer(200, "<!DOCTYPE html><html>", "text/html"), found(server))
    assert RefreshTokenGrant.discover(issuer_of(server), client_id="sync")


def test_nothing_but_pages(server: EndpointServer) -> None:
    """A web application alone is no issuer."""
    page = Answer(200, "<!DOCTYPE html><html>", "text/html")
    server.will(page, page)
    with pytest.raises((InvalidReply, RefreshRefused), match="the question"):
        RefreshTokenGrant.discover(issuer_of(server), client_id="sync")


MISMATCHES = ["", "/", "/other", "?x", "#", "/../", None, 7, ["self"]]


@pytest.mark.parametrize("number", range(len(MISMATCHES)))
def test_another_issuer(server: EndpointServer, number: int) -> None:
    """The issuer in it is the one that was asked for, to the letter (RFC 8414 section 3.3)."""
    said: Any = MISMATCHES[number]
    if isinstance(said, str):
        said = issuer_of(server, "/tenant") + said if said else issuer_of(server)
    server.will(found(server, issuer=said))
    with pytest.raises(InvalidReply, match="another issuer's"):
        RefreshTokenGrant.discover(issuer_of(server, "/tenant"), client_id="sync")
    server.will(found(server, "/tenant"))  # nothing of it was kept
    assert RefreshTokenGrant.discover(issuer_of(server, "/tenant"), client_id="sync")


def test_a_slash_makes_a_difference(server: EndpointServer) -> None:
    """An issuer with a slash at its end is another one than that without."""
    server.will(found(server, "/tenant"))
    with pytest.raises(InvalidReply, match="a slash at the end makes a difference"):
        RefreshTokenGrant.discover(issuer_of(server, "/tenant/"), client_id="sync")


ISSUERS: list[Any] = ["", "auth.example.com", "http://auth.example.com", None, 7, b"https://a.b"]
ISSUERS += ["https://a.example?x=1", "https://a.example?", "https://a.example#x", "https://u@a.b"]


@pytest.mark.parametrize("issuer", ISSUERS, ids=repr)
def test_what_is_no_issuer(issuer: Any) -> None:
    """An issuer is an https URL with no query and no fragment (RFC 8414 section 2)."""
    with pytest.raises(ConfigurationError, match="issuer"):
        RefreshTokenGrant.discover(issuer, client_id="sync")


@pytest.mark.parametrize("settings", [{"timeout": 0}, {"proxies": "x"}, {"timeout": "5"}], ids=str)
def test_settings_are_looked_at_first(server: EndpointServer, settings: dict[str, Any]) -> None:
    """What cannot be right is said before anything is asked."""
    with pytest.raises(ConfigurationError):
        RefreshTokenGrant.discover(issuer_of(server), client_id="sync", **settings)
    assert server.seen == []


# ---------------------------------------------- hostile metadata

WRONG_TYPES: list[Any] = [7, True, {}, [], ["https://a.example"], "", "no URL", " ", "a\nb"]
WRONG_TYPES += ["ftp://a.example/", "http://a.example/", "https://a.example/#x", "https://u@a.b/"]


@pytest.mark.parametrize("name", ["token_endpoint", "revocation_endpoint"])
@pytest.mark.parametrize("value", WRONG_TYPES, ids=repr)
def test_endpoints_that_cannot_be(server: EndpointServer, name: str, value: Any) -> None:
    """I9: an endpoint that is not fit for a secret is not used, and the message names it."""
    server.will(found(server, **{name: value}))
    with pytest.raises(InvalidReply, match=name):
        RefreshTokenGrant.discover(issuer_of(server), client_id="sync")


@pytest.mark.parametrize("name", ["issuer", "token_endpoint"])
def test_what_must_be_there(server: EndpointServer, name: str) -> None:
    """Without an issuer or a token endpoint it is of no use; null is as good as nothing."""
    fields = metadata(server)
    fields[name] = None
    server.will(Answer(body=fields))
    with pytest.raises(InvalidReply):
        RefreshTokenGrant.discover(issuer_of(server), client_id="sync")
    del fields[name]
    server.will(Answer(body=fields))
    with pytest.raises(InvalidReply):
        RefreshTokenGrant.discover(issuer_of(server), client_id="sync")


@pytest.mark.parametrize("value", [7, "x", None, [], [7], {"a": {}}, [["a"], {}]], ids=repr)
def test_other_fields_of_any_type(server: EndpointServer, value: Any) -> None:
    """Fields that are of no use to a grant, or are lists of rubbish, do no harm."""
    names = ["mtls_endpoint_aliases", "token_endpoint_auth_methods_supported", "jwks_uri", "x"]
    server.will(found(server, **dict.fromkeys(names, value)), Answer())
    grant = RefreshTokenGrant.discover(
        issuer_of(server), client_id="sync", client_secret="s", cert=str(PEM)
    )
    assert grant(OLD).access_token == "new-access"
    assert server.seen[-1].headers["Authorization"].startswith("Basic ")


HOSTILE: dict[str, tuple[Any, type[RefreshError]]] = {
    "not JSON": (Answer(200, "token_endpoint=https://a.example"), InvalidReply),
    "a list": (Answer(200, []), InvalidReply),
    "a text": (Answer(200, '"x"'), InvalidReply),
    "empty": (Answer(200, b""), InvalidReply),
    "no content": (Answer(204, b""), InvalidReply),
    "deep": (Answer(200, "[" * 100_000), InvalidReply),
    "deep objects": (Answer(200, '{"a":' * 100_000), InvalidReply),
    "huge": (Answer(200, b" " * (2**20 + 1) + b"{}"), InvalidReply),
    "huge number": (Answer(200, '{"issuer": ' + "9" * 100_000 + "}"), InvalidReply),
    "compressed": (Answer(200, b"x", headers=[("Content-Encoding", "gzip")]), InvalidReply),
    "damaged": (Answer(200, b'{"issuer": "\xff"}'), InvalidReply),
    "redirect": (Answer(302, "", headers=[("Location", "/elsewhere")]), RefreshRefused),
    "teapot": (Answer(418, ""), RefreshRefused),
    "error": (Answer(500, ""), RefreshUnavailable),
    "later": (Answer(429, "", headers=[("Retry-After", "9")]), RefreshUnavailable),
    "cut": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), RefreshUnavailable),
    "not HTTP": (raw(b"hello\r\n\r\n"), RefreshUnavailable),
    "dripping": (drip(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 5000, 20), RefreshUnavailable),
    "silent": (silence, RefreshUnavailable),
}


@pytest.mark.parametrize(("behaviour", "kind"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_answers(server: EndpointServer, behaviour: Any, kind: type[RefreshError]) -> None:
    """Bounded in bytes and time, never followed elsewhere, and not remembered."""
    server.will(behaviour)
    with pytest.raises(RefreshError) as caught:
        RefreshTokenGrant.discover(issuer_of(server), client_id="sync", timeout=(5, 0.3))
    assert type(caught.value) is kind
    assert len(server.seen) == 1
    server.will(found(server))
    assert RefreshTokenGrant.discover(issuer_of(server), client_id="sync")


def test_nobody_is_there(nobody: str) -> None:
    """A provider that cannot be reached is RefreshUnavailable."""
    with pytest.raises(RefreshUnavailable, match="could not be reached"):
        RefreshTokenGrant.discover(f"http://{nobody}", client_id="sync")


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
@pytest.mark.parametrize("name", ["token_endpoint", "revocation_endpoint"])
def test_plain_http_under_https(scheme: str, name: str) -> None:
    """I9: an issuer with TLS has no endpoints without, be they on this host."""
    with running(tls=True) as server:
        server.will(found(server, **{name: f"{scheme}://127.0.0.1:1/token"}))
        with pytest.raises(InvalidReply, match=f"{name} is plain http"):
            RefreshTokenGrant.discover(issuer_of(server), client_id="sync", verify=str(PEM))


def test_another_host_may_do_the_work(server: EndpointServer, other: EndpointServer) -> None:
    """The endpoints may be anywhere that the issuer says, as long as they are fit for a secret."""
    server.will(found(server, token_endpoint=other.url))
    other.will(Answer())
    RefreshTokenGrant.discover(issuer_of(server), client_id="sync")(OLD)
    assert other.only.form["refresh_token"] == "old-refresh"


@pytest.mark.parametrize("answer", [Answer(500, ""), Answer(200, {}), "no issuer"], ids=range(3))
def test_no_secret_in_a_frame(server: EndpointServer, answer: Any) -> None:
    """I9: an error of discovery shows no secret that was given for the grant."""
    if isinstance(answer, Answer):
        server.will(answer)
    issuer = answer if isinstance(answer, str) else issuer_of(server)
    secrets: dict[str, Any] = {"client_secret": "CANARY", "proxies": {"x": "http://u:CANARY@p"}}
    with pytest.raises(RefreshError) as caught:
        RefreshTokenGrant.discover(issuer, client_id="sync", **secrets)
    assert caught.value.__traceback__ is not None
    below = caught.value.__traceback__.tb_next
    shown = traceback.TracebackException(RefreshError, caught.value, below, capture_locals=True)
    assert "CANARY" not in "".join(shown.format())
