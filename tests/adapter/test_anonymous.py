"""`anonymous`, netrc and auth=: which requests go with the token, and which without."""

from __future__ import annotations

import copy
import logging
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.auth import HTTPBasicAuth, HTTPDigestAuth

from requests_refresh import HeaderScheme, TokenSource, anonymous

from .conftest import Mount
from .support import Issuer, crowd
from .test_origins import redirecting
from .wire import OK, PATIENCE, REFUSED, Request, Wire, answering, reply, taking


@pytest.fixture
def api() -> Iterator[Wire]:
    with Wire(answering(redirecting)) as wire:
        yield wire


def tokens() -> TokenSource:
    return TokenSource(Issuer(), token="canary")


def test_anonymous_goes_without_a_token(api: Wire, mount: Mount) -> None:
    """I9: auth=anonymous: this one request has no token, the next has."""
    session = mount(tokens(), api.url)
    session.get(api.url, auth=anonymous, timeout=10)
    session.get(api.url, timeout=10)
    assert [request.token for request in api.requests] == [None, "canary"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_redirects_of_an_anonymous_request_are_anonymous(status: int, mount: Mount) -> None:
    """I9: away, back and on within the API: no hop of it has the token."""

    def answer(request: Request) -> bytes:
        if request.target == "/end":
            return OK
        step = int(request.target.strip("/") or 0)
        return reply(status, b"", f"Location: {'/end' if step > 2 else f'/{step + 1}'}")

    with Wire(answering(answer)) as api:
        session = mount(tokens(), api.url)
        response = session.post(api.url, auth=anonymous, data=b"x", timeout=10)
        assert response.status_code == 200
        assert [request.token for request in api.requests] == [None] * 5


def test_a_401_of_an_anonymous_request_is_none_of_ours(mount: Mount) -> None:
    """A refusal of a request that had no token starts nothing."""
    issuer = Issuer()
    with Wire(taking("canary")) as api:
        session = mount(TokenSource(issuer, token="canary"), api.url)
        assert session.get(api.url, auth=anonymous, timeout=10).status_code == 401
        assert session.get(api.url, timeout=10).status_code == 200
    assert issuer.calls == 0


def test_a_401_from_elsewhere_is_none_of_ours(mount: Mount) -> None:
    """A refusal by a server that never saw the token starts nothing."""
    issuer = Issuer()
    with Wire(answering(lambda request: REFUSED)) as other, Wire(taking("canary")) as api:
        session = mount(TokenSource(issuer, token="canary"), api.url, everywhere=True)
        assert session.get(other.url, timeout=10).status_code == 401
    assert issuer.calls == 0


def test_a_whole_session_may_be_anonymous(api: Wire, mount: Mount) -> None:
    """session.auth = anonymous holds for every request of the session."""
    session = mount(tokens(), api.url)
    session.auth = anonymous
    for _ in range(2):
        session.get(f"{api.url}to?/end", timeout=10)
    assert [request.token for request in api.requests] == [None] * 4


def test_anonymous_survives_pickles_and_copies(api: Wire, mount: Mount) -> None:
    """A request that is pickled or copied before it is sent stays anonymous."""
    session = mount(tokens(), api.url)
    made = session.prepare_request(requests.Request("GET", api.url, auth=anonymous))
    for request in (pickle.loads(pickle.dumps(made)), made.copy(), copy.deepcopy(made)):  # noqa: S301  # ours
        session.send(request, timeout=10)
    assert [request.token for request in api.requests] == [None] * 3
    assert pickle.loads(pickle.dumps(anonymous)) is anonymous  # noqa: S301  # ours
    assert copy.deepcopy(anonymous) is anonymous
    assert repr(anonymous) == "anonymous"


def test_anonymous_without_the_adapter_does_nothing(api: Wire) -> None:
    """A session with nothing mounted sends an anonymous request like any other."""
    assert requests.get(api.url, auth=anonymous, timeout=10).status_code == 200


OWN: dict[str, dict[str, Any]] = {
    "auth": {"auth": HTTPBasicAuth("u", "p")},
    "tuple": {"auth": ("u", "p")},
    "header": {"headers": {"authorization": "Bearer placeholder"}},
    "bytes": {"headers": {"Authorization": b"Bearer placeholder"}},
}


@pytest.mark.parametrize("own", OWN.values(), ids=OWN.keys())
def test_an_authorization_of_the_callers_is_overwritten_and_logged_once(
    own: dict[str, Any], api: Wire, mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    """A placeholder gives way to the token; a single line in the log says so."""
    session = mount(tokens(), api.url)
    for _ in range(3):
        session.get(api.url, timeout=10, **own)
    assert [request.headers["Authorization"] for request in api.requests] == ["Bearer canary"] * 3
    (line,) = [r for r in caplog.records if r.name == "requests_refresh"]
    assert line.levelno == logging.WARNING
    assert "anonymous" in line.getMessage()
    assert "placeholder" not in line.getMessage()


def test_a_crowd_is_told_once(
    api: Wire, mount: Mount, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four threads that have all found a header to overwrite, and nothing logged, make one line."""
    source = tokens()
    session = mount(source, api.url)
    source.token()
    together = threading.Barrier(4)

    class Meeting:
        """The lock that the decision is taken under; all four are there before one gets it."""

        def __init__(self, lock: Any) -> None:
            self.lock = lock

        def __enter__(self) -> None:
            together.wait(PATIENCE)
            self.lock.acquire()

        def __exit__(self, *exc: object) -> None:
            self.lock.release()

    monkeypatch.setattr(source, "_lock", Meeting(source._lock))
    crowd(lambda i: session.get(api.url, auth=("u", "p"), timeout=10), 4)
    assert len([r for r in caplog.records if r.name == "requests_refresh"]) == 1


def test_netrc_is_overwritten_at_every_hop(
    api: Wire, mount: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """netrc's Basic, which requests puts on redirects again, gives way to the token."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login u password p\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    session = mount(tokens(), api.url)
    session.get(f"{api.url}to?/end", timeout=10)
    assert [request.headers["Authorization"] for request in api.requests] == ["Bearer canary"] * 2
    session.get(api.url, auth=anonymous, timeout=10)
    assert "Authorization" not in api.requests[-1].headers


def test_another_header_leaves_authorization_alone(
    api: Wire, mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    """With X-Auth-Token, a Basic of the caller's goes beside it, and only a clash is logged."""
    session = mount(tokens(), api.url, scheme=HeaderScheme("X-Auth-Token"))
    session.get(api.url, auth=("u", "p"), timeout=10)
    assert api.requests[0].headers["Authorization"].startswith("Basic")
    assert api.requests[0].headers["X-Auth-Token"] == "canary"
    assert not caplog.records
    session.get(api.url, headers={"x-auth-token": "mine"}, timeout=10)
    assert api.requests[1].headers["X-Auth-Token"] == "canary"
    assert "X-Auth-Token" in caplog.text


def test_digest_auth_sends_again_through_the_adapter(mount: Mount) -> None:
    """HTTPDigestAuth re-enters through response.connection; its second request has the token."""

    def answer(request: Request) -> bytes:
        if request.headers.get("X-Auth-Token") != "new-1":
            return reply(419)
        if not request.headers.get("Authorization", "").startswith("Digest"):
            return reply(401, b"", 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"')
        return OK

    issuer = Issuer()
    scheme = HeaderScheme("X-Auth-Token", refused=lambda response: response.status_code == 419)
    with Wire(answering(answer)) as api:
        session = mount(
            TokenSource(issuer, token="canary"),
            api.url,
            scheme=scheme,
            pool_block=True,
            pool_maxsize=1,
        )
        response = session.get(api.url, auth=HTTPDigestAuth("u", "p"), timeout=10)
        assert response.status_code == 200
        assert api.connections == 1
    assert issuer.calls == 1
    assert "X-Auth-Token" not in response.request.headers
    assert "X-Auth-Token" not in response.history[0].request.headers
