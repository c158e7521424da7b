"""I11: a body is sent again to the byte, or not at all; every kind that requests can send."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from requests_refresh import TokenSource
from requests_refresh.testing import AuthServer

from .bodies import KINDS, Again, Kind, Progress, opened
from .conftest import Mount
from .support import Issuer
from .wire import OK, REFUSED, Connection, Request, Wire, taking

DATA = b"".join(b"%06x" % n for n in range(40_000))  # no part of it repeats
ONE_SHOT = [kind for kind in KINDS if not kind.again]
LIMITED = [kind for kind in ONE_SHOT if kind.name not in ("progress bar", "eager")]
LOOKS_REITERABLE = [kind for kind in ONE_SHOT if kind.name in ("progress bar", "eager")]


@pytest.fixture(autouse=True)
def close_files() -> Iterator[None]:
    """Close what the bodies have opened."""
    yield
    while opened:
        opened.pop().close()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sent_plainly(server: AuthServer, kind: Kind) -> dict[str, Any]:
    """What the server gets of such a body from plain requests, with a living token."""
    token = server.source().token().access_token
    arguments = kind.make(DATA)
    headers = {**arguments.pop("headers", {}), "Authorization": f"Bearer {token}"}
    response = requests.post(server.api, headers=headers, timeout=10, **arguments)
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_body_that_is_not_refused_goes_as_requests_sends_it(
    kind: Kind, server: AuthServer, mount: Mount
) -> None:
    """I11: while the token lives, each kind of body reaches the server to the byte."""
    session = mount(server.source(), server.api)
    found = session.post(server.api, timeout=10, **kind.make(DATA)).json()
    if kind.wire:
        assert (found["length"], found["sha256"]) == (len(DATA), sha(DATA))
    else:
        assert found["length"] == sent_plainly(server, kind)["length"]


@pytest.mark.parametrize("kind", [k for k in KINDS if k.again], ids=lambda kind: kind.name)
def test_a_body_that_can_be_sent_again_is(kind: Kind, server: AuthServer, mount: Mount) -> None:
    """I11: after a 401, what can be sent again reaches the server to the byte, from its offset."""
    tokens = server.source()
    session = mount(tokens, server.api)
    server.revoke_access()
    response = session.post(server.api, timeout=10, **kind.make(DATA))
    assert response.status_code == 200
    found = response.json()
    if kind.wire:
        assert (found["length"], found["sha256"]) == (len(DATA), sha(DATA))
    else:
        assert found["length"] == sent_plainly(server, kind)["length"]
    assert tokens.stats.replays == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ONE_SHOT, ids=lambda kind: kind.name)
def test_a_one_shot_body_gets_the_401_untouched(
    kind: Kind, stream: bool, server: AuthServer, mount: Mount
) -> None:
    """I11: what cannot be sent again is not; its 401 can be read, and a round is started."""
    tokens = server.source()
    session = mount(tokens, server.api)
    server.revoke_access()
    response = session.post(server.api, stream=stream, timeout=10, **kind.make(DATA))
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    if stream:
        assert b"invalid_token" in response.raw.read()
    else:
        assert response.json() == {"error": "invalid_token"}
    response.close()
    assert tokens.stats.unreplayable == 1
    assert server.counts.api_requests == 1
    server.wait_for("refreshes")
    assert session.post(server.api, timeout=10, **kind.make(DATA)).status_code == 200


@pytest.mark.parametrize("kind", LIMITED, ids=lambda kind: kind.name)
def test_what_is_kept_aside_is_sent_again(kind: Kind, server: AuthServer, mount: Mount) -> None:
    """I11: with a replay_limit that holds all of it, a one-shot body goes again to the byte."""
    tokens = server.source()
    exact = sent_plainly(server, kind)["length"]
    session = mount(tokens, server.api, replay_limit=exact)
    server.revoke_access()
    response = session.post(server.api, timeout=10, **kind.make(DATA))
    assert response.status_code == 200
    found = response.json()
    assert found["length"] == exact
    if kind.wire:
        assert found["sha256"] == sha(DATA)
    assert tokens.stats.unreplayable == 0


@pytest.mark.parametrize("kind", LIMITED, ids=lambda kind: kind.name)
def test_what_is_over_the_limit_is_not_sent_again(
    kind: Kind, server: AuthServer, mount: Mount
) -> None:
    """I11: one byte over the replay_limit, the body reaches the server once, whole, and no more."""
    exact = sent_plainly(server, kind)["length"]
    tokens = server.source()
    session = mount(tokens, server.api, replay_limit=exact - 1)
    found = session.post(server.api, timeout=10, **kind.make(DATA)).json()
    assert found["length"] == exact
    if kind.wire:
        assert found["sha256"] == sha(DATA)
    server.revoke_access()
    before = server.counts.api_requests
    assert session.post(server.api, timeout=10, **kind.make(DATA)).status_code == 401
    assert server.counts.api_requests == before + 1
    assert tokens.stats.unreplayable == 1


BIG = b"".join(b"%08x" % n for n in range(2**20))  # 8 MB: more than any socket takes in


def refusing_early(connection: Connection) -> None:
    """Answers 401 on the head of a request and hangs up; takes the new token's whole."""
    head = connection.head()
    assert head is not None
    if head.token == "old":
        connection.file.read(1000)  # so that the body has begun
        connection.send(REFUSED)
        return
    body = connection.body_of(head)
    if body is None:
        connection.wire.broken_off += 1
        return
    whole = Request(head.method, head.target, head.headers, head.connection, body)
    connection.wire.note(whole, instead_of=head)
    connection.send(OK)


EARLY = [kind for kind in KINDS if kind.wire and "str" not in kind.name and kind.name != "eager"]


@pytest.mark.parametrize("limit", [0, 2**20, 2**24])
@pytest.mark.parametrize("kind", EARLY, ids=lambda kind: kind.name)
def test_a_401_before_the_body_was_read(kind: Kind, limit: int, mount: Mount) -> None:
    """I11: a body broken off by an early 401 starts again from its beginning, or not at all."""
    tokens = TokenSource(Issuer(), token="old")
    with Wire(refusing_early) as wire:
        session = mount(tokens, wire.url, replay_limit=limit)
        response = session.post(wire.url, timeout=10, **kind.make(BIG))
        whole = [sha(request.body) for request in wire.requests if request.token == "new-1"]
    fits = limit > len(BIG) and kind in LIMITED
    if kind.again or fits or (kind in LIMITED and whole):  # the 401 may come before the limit
        assert response.status_code == 200
        assert whole == [sha(BIG)]
    else:
        assert response.status_code == 401
        assert response.content == b"refused"
        assert whole == []


def test_a_body_that_only_begins_the_same_is_broken_off(mount: Mount) -> None:
    """I11: a body whose second pass is shorter than its first never counts as whole."""

    class Shrinking:
        def __init__(self) -> None:
            self.passes = 0

        def __iter__(self) -> Any:
            self.passes += 1
            return iter([b"head", b"middle", b"end"][: 4 - self.passes])

    with Wire(taking("new-1")) as wire:
        session = mount(TokenSource(Issuer(), token="old"), wire.url)
        with pytest.raises(requests.ConnectionError, match="does not give again"):
            session.post(wire.url, data=Shrinking(), timeout=10)
        wire.wait_for(lambda w: w.broken_off == 1)


def test_a_body_that_changes_in_the_middle_is_broken_off(mount: Mount) -> None:
    """I11: a body whose second pass differs behind its first chunk never counts as whole."""

    class Changing:
        def __init__(self) -> None:
            self.passes = 0

        def __iter__(self) -> Any:
            self.passes += 1
            return iter([b"head", b"pass %d" % self.passes, b"end"])

    with Wire(taking("new-1")) as wire:
        session = mount(TokenSource(Issuer(), token="old"), wire.url)
        with pytest.raises(requests.ConnectionError, match="does not give again"):
            session.post(wire.url, data=Changing(), timeout=10)
        wire.wait_for(lambda w: w.broken_off == 1)


def test_a_body_that_fails_when_begun_again_gets_the_401(mount: Mount) -> None:
    """I11: a body that cannot begin again is not sent again; the caller gets the 401."""

    class Once:
        def __init__(self) -> None:
            self.passes = 0

        def __iter__(self) -> Any:
            self.passes += 1
            if self.passes > 1:
                raise OSError("spent")
            return iter([b"all"])

    with Wire(taking("new-1")) as wire:
        session = mount(TokenSource(Issuer(), token="old"), wire.url)
        assert session.post(wire.url, data=Once(), timeout=10).status_code == 401


def test_a_file_closed_meanwhile_gets_the_401(server: AuthServer, mount: Mount) -> None:
    """I11: a file that can no longer seek is not sent again; the caller gets the 401."""
    tokens = server.source()

    class Closing(Progress):
        def tell(self) -> int:
            return self._file.tell()

        def seek(self, position: int) -> None:
            raise ValueError("closed")

        def read(self, size: int) -> bytes:
            return self._file.read(size)

    session = mount(tokens, server.api)
    server.revoke_access()
    assert session.post(server.api, data=Closing(DATA), timeout=10).status_code == 401
    assert tokens.stats.unreplayable == 1


def test_an_empty_body_can_be_sent_again(server: AuthServer, mount: Mount) -> None:
    """I11: an iterator that gave nothing gives nothing again, and an empty pass is one."""
    session = mount(server.source(), server.api)
    bodies: list[Any] = [iter([]), [], (b"" for _ in range(1)), Again(b"")]
    for body in bodies:
        server.revoke_access()
        response = session.post(server.api, data=body, timeout=10)
        assert response.status_code == 200
        assert response.json()["length"] == 0


@pytest.mark.parametrize("limit", [0, 10, 2**20])
def test_ints_are_no_chunks(limit: int, server: AuthServer, mount: Mount) -> None:
    """I11: an iterator of ints, which requests cannot send, does not go out as zero bytes."""
    session = mount(server.source(), server.api, replay_limit=limit)
    ints: Any = iter([65, 66])
    with pytest.raises(TypeError):
        session.post(server.api, data=ints, timeout=10)


def test_a_buffer_used_again_is_copied(server: AuthServer, mount: Mount) -> None:
    """I11: what is kept aside is a copy: a body that fills one buffer again and again is right."""

    def filling() -> Any:
        buffer = bytearray(4)
        for n in range(100):
            buffer[:] = b"%04d" % n
            yield buffer

    session = mount(server.source(), server.api, replay_limit=1000)
    server.revoke_access()
    found = session.post(server.api, data=filling(), timeout=10).json()
    assert found["sha256"] == sha(b"".join(b"%04d" % n for n in range(100)))


def test_urllib3_sends_no_one_shot_body_again(mount: Mount) -> None:
    """I11: with max_retries, urllib3 would send a spent generator as an empty body."""
    retry: Any = importlib.import_module("urllib3.util").Retry
    bodies: list[bytes] = []

    def serve(connection: Connection) -> None:
        request = connection.request()
        if request is not None:
            bodies.append(request.body)
            if len(bodies) == 1:
                return  # no answer: the connection is lost
            connection.send(OK)

    with Wire(serve) as wire:
        session = mount(
            TokenSource(Issuer(), token="old"), wire.url, max_retries=retry(2, allowed_methods=None)
        )
        with pytest.raises(requests.ConnectionError, match="does not give again"):
            session.put(wire.url, data=iter([b"a", b"b"]), timeout=10)
        wire.wait_for(lambda w: w.broken_off == 2)
    assert bodies == [b"ab"]
