"""What goes over the wire: where tokens and proofs go, what is proved, what is sent again."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from requests_refresh import DPoP, TokenSource, anonymous
from tests.adapter.conftest import Mount
from tests.dpop.conftest import source_for
from tests.dpop.server import FIXED, NEVER, ONCE_UNANNOUNCED, DPoPServer

DATA = b"0123456789" * 10_000


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_proof_for_each_attempt(server: DPoPServer, session: requests.Session) -> None:
    """A nonce, a dead token and a request of its own have a proof each (RFC 9449 4.2)."""
    server.wants(FIXED, FIXED)
    server.revoke()
    assert session.post(server.url + "x?a=b", data=b"x", timeout=30).status_code == 200
    assert session.get(server.url, timeout=30).status_code == 200
    told = [seen.proof for seen in server.seen]
    assert len({proof["jti"] for proof in told}) == len(told) == 6
    assert [proof["htm"] for proof in told] == ["POST"] * 5 + ["GET"]
    assert len({seen.key for seen in server.seen}) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "get"])
def test_every_method(server: DPoPServer, session: requests.Session, method: str) -> None:
    """`htm` is the method of the request, HEAD too, also after a challenge for a nonce."""
    server.wants(FIXED, ONCE_UNANNOUNCED)
    server.revoke()
    assert session.request(method, server.url + "x?y=z", timeout=30).status_code == 200
    assert server.seen[-1].method == method.upper()


PATHS = ["", "?", "?a=b&c=d#e", "a/b;c=d/?e=/f?g", "a b/%7Ec/%c3%a4", "(a)[b]|c'*!$&,:@", "a/../b"]


@pytest.mark.parametrize("path", PATHS)
def test_the_url_without_its_query(
    server: DPoPServer, session: requests.Session, path: str
) -> None:
    """`htu` is the URL as the server sees it, without query and fragment (RFC 9449 4.2)."""
    assert session.get(server.url + path, timeout=30).status_code == 200
    assert session.get(server.url, params={"q": "x y/ä"}, timeout=30).status_code == 200


def test_slashes_that_requests_takes_off(server: DPoPServer, session: requests.Session) -> None:
    """`htu` has the path that is sent: requests makes one slash of those that it begins with."""
    answer = session.get(server.url + "/a//b", timeout=30)
    server.faults.clear()
    assert server.seen[-1].path == "/a//b"
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["a/%7Eb/%C3%A4", "a/../b", "a|b", "c'(d)*", "e;f=g?h=i"])
def test_a_redirect_within(server: DPoPServer, session: requests.Session, path: str) -> None:
    """Each hop within the origin has a proof of its own, for its own URL."""
    server.wants(api=FIXED)
    answer = session.post(
        server.url + "redirect", params={"to": server.url + path}, data=DATA, timeout=30
    )
    assert answer.status_code == 200
    assert answer.json() == {"method": "POST", "sent": digest(DATA)}
    assert len({seen.proof["htu"] for seen in server.seen if seen.proof}) == 1


@pytest.mark.parametrize("path", ["%c3%a4", "a[1]"])
def test_a_redirect_to_what_is_quoted_on_its_way(
    server: DPoPServer, session: requests.Session, path: str
) -> None:
    """`htu` has the path that is sent: urllib3 quotes what a redirect has left unquoted."""
    answer = session.get(server.url + "redirect", params={"to": server.url + path}, timeout=30)
    server.faults.clear()
    assert answer.status_code == 200


def test_a_redirect_out(server: DPoPServer, tokens: TokenSource, mount: Mount) -> None:
    """I9: another origin gets neither token nor proof, and its nonces are not taken."""
    with DPoPServer(server.issued) as foreign:
        foreign.wants(api=NEVER)
        session = mount(tokens, server.url, everywhere=True, scheme=DPoP())
        for to in (foreign.url, foreign.url.replace("127.0.0.1", "localhost")):
            answer = session.get(server.url + "redirect", params={"to": to}, timeout=30)
            assert answer.status_code == 401
            assert (answer.request.url, answer.history[0].status_code) == (to, 307)
        assert len(foreign.seen) == 2
        for seen in foreign.seen:
            assert not {"Authorization", "Dpop"} & seen.headers.keys()
        assert session.get(server.url, timeout=30).status_code == 200
        assert "nonce" not in server.seen[-1].proof


def test_anonymous_requests(server: DPoPServer, session: requests.Session) -> None:
    """I9: who asks for no token gets no proof either."""
    assert session.get(server.url, auth=anonymous, timeout=30).status_code == 401
    assert not {"Authorization", "Dpop"} & server.seen[-1].headers.keys()


def test_the_callers_request_stays_as_it_was(server: DPoPServer, session: requests.Session) -> None:
    """I10: neither the request nor what a response holds of it has a token or a proof."""
    server.wants(FIXED, FIXED)
    server.revoke()
    request = session.prepare_request(
        requests.Request("PUT", server.url, data=DATA, headers={"X": "y"})
    )
    before = dict(request.headers)
    answer = session.send(request, timeout=30)
    assert answer.status_code == 200
    assert answer.request is request
    assert dict(request.headers) == before
    assert answer.history == []


def from_file(path: Path) -> Any:
    path.write_bytes(b"not this" + DATA)
    file = path.open("rb")
    file.seek(8)
    return file


def from_memory(path: Path) -> Any:
    body = io.BytesIO(b"not this" + DATA)
    body.seek(8)
    return body


BODIES: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda path: DATA,
    "file": from_file,
    "memory": from_memory,
}


@pytest.mark.parametrize("make", BODIES.values(), ids=BODIES.keys())
def test_a_body_is_sent_again_to_the_byte(
    server: DPoPServer, session: requests.Session, tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    """I11: after a nonce, a dead token and a nonce again, all of the body arrives each time."""
    server.wants(FIXED, ONCE_UNANNOUNCED)
    server.revoke()
    body = make(tmp_path / "body")
    answer = session.post(server.url, data=body, timeout=30)
    if hasattr(body, "close"):
        body.close()
    assert answer.json()["sent"] == digest(DATA)
    calls = [seen for seen in server.seen if seen.path == "/"]
    assert [seen.body for seen in calls] == [DATA] * 4


def chunks() -> Iterator[bytes]:
    yield DATA
    yield DATA


def test_a_body_that_can_be_sent_once(server: DPoPServer, session: requests.Session) -> None:
    """I11: it is not sent again for a nonce: its caller gets the 401, and the next one goes."""
    server.wants(api=FIXED)
    answer = session.post(server.url, data=chunks(), timeout=30)
    assert answer.status_code == 401
    assert "use_dpop_nonce" in answer.headers["WWW-Authenticate"]
    assert len(server.seen) == 1
    answer = session.post(server.url, data=chunks(), timeout=30)
    assert answer.json()["sent"] == digest(DATA + DATA)
    assert server.counts["token_requests"] == 0


def test_a_body_that_is_kept_aside(server: DPoPServer, tokens: TokenSource, mount: Mount) -> None:
    """I11: with replay_limit a one-shot body goes again, for a nonce as for a dead token."""
    server.wants(FIXED, ONCE_UNANNOUNCED)
    server.revoke()
    session = mount(tokens, server.url, scheme=DPoP(), replay_limit=10**6)
    answer = session.post(server.url, data=chunks(), timeout=30)
    assert answer.json()["sent"] == digest(DATA + DATA)


def test_no_connection_is_held(server: DPoPServer, tokens: TokenSource, mount: Mount) -> None:
    """I13: a pool of one connection that blocks serves each resend, and one connection does."""
    server.wants(api=ONCE_UNANNOUNCED)
    session = mount(tokens, server.url, scheme=DPoP(), pool_block=True, pool_maxsize=1)
    for method in ("GET", "HEAD", "POST"):
        answer = session.request(method, server.url, timeout=30)
        assert answer.status_code == 200
    streamed = session.get(server.url, stream=True, timeout=30)
    assert streamed.json()["method"] == "GET"
    assert {seen.connection for seen in server.seen} == {1}
    assert server.counts["api_nonces"] == 4


def test_the_401_that_is_handed_on_is_whole(
    server: DPoPServer, tokens: TokenSource, mount: Mount
) -> None:
    """I13: the last challenge reaches its caller readable, and its connection comes back."""
    server.wants(api=NEVER)
    session = mount(tokens, server.url, scheme=DPoP(), pool_block=True, pool_maxsize=1)
    for stream in (True, False, True):
        answer = session.get(server.url, stream=stream, timeout=30)
        assert (answer.status_code, answer.json()) == (401, {})
    assert server.counts["connections"] == 1


@pytest.fixture
def sixth() -> Iterator[DPoPServer]:
    """A server at ::1."""
    try:
        server = DPoPServer(host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with server:
        yield server


def test_a_host_in_brackets(sixth: DPoPServer, mount: Mount) -> None:
    """`htu` of an IPv6 host has its brackets, at the API and at the token endpoint."""
    sixth.wants(FIXED, FIXED)
    session = mount(source_for(sixth), sixth.url, scheme=DPoP())
    sixth.revoke()
    assert session.get(sixth.url + "a?b", timeout=30).status_code == 200
    assert sixth.faults == []


def test_a_user_in_the_url(server: DPoPServer, tokens: TokenSource, mount: Mount) -> None:
    """I9: a user and password in a URL are in no proof."""
    session = mount(tokens, server.url, everywhere=True, scheme=DPoP())
    url = server.url.replace("//", "//user:canary-password@")
    assert session.get(url, timeout=30).status_code == 200
    assert "canary" not in str(server.seen[-1].proof)


class Counting(HTTPAdapter):
    """An adapter of a user's."""

    sends = 0

    def send(self, *args: Any, **options: Any) -> requests.Response:
        """Send, and count it."""
        self.sends += 1
        return super().send(*args, **options)


def test_an_inner_adapter(server: DPoPServer, tokens: TokenSource, mount: Mount) -> None:
    """An inner adapter does all the sends, those for a nonce too, and stays open."""
    server.wants(FIXED, ONCE_UNANNOUNCED)
    server.revoke()
    inner = Counting()
    session = mount(tokens, server.url, scheme=DPoP(), inner=inner)
    assert session.get(server.url, timeout=30).status_code == 200
    session.close()
    assert inner.sends == len([seen for seen in server.seen if seen.path == "/"]) == 4
    assert inner.poolmanager.pools
    inner.close()


def test_a_proof_of_the_callers_is_replaced(server: DPoPServer, session: requests.Session) -> None:
    """A stale proof or token among the caller's headers does not go along with ours."""
    stale = {"dpop": "stale", "AUTHORIZATION": "DPoP stale"}
    assert session.get(server.url, headers=stale, timeout=30).status_code == 200
