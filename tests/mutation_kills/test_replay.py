"""What a replay does in single steps: bodies, the reading of a refusal, and its cookies."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPMessage
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from requests import PreparedRequest, Request, Response

from requests_refresh import replay
from requests_refresh.replay import Body, hand_on_cookies, release


def body_of(data: Any) -> Body:
    if isinstance(data, list):  # of chunks, not of a form's fields
        request = Request("POST", "http://127.0.0.1/").prepare()
        request.body = data  # urllib3 sends it
        return Body(request)
    return Body(Request("POST", "http://127.0.0.1/", data=data).prepare())


def given(body: Body) -> list[bytes]:
    return [*body.to_send]


class Opened:
    """Counts how often it is begun."""

    def __init__(self) -> None:
        self.times = 0

    def __iter__(self) -> Iterator[bytes]:
        self.times += 1
        return iter([b"a", b"b"])


class Tells:
    """A stream that knows where it stands, and cannot go there."""

    def read(self, size: int = -1) -> bytes:
        return b""

    def tell(self) -> int:
        return 0

    def __iter__(self) -> Iterator[bytes]:
        return iter([])


class Unseekable(BytesIO):
    def seekable(self) -> bool:
        return False


class ByNumber:
    """Can be iterated over by the old protocol alone."""

    def __getitem__(self, number: int) -> bytes:
        return [b"a"][number]


def test_what_is_one_shot() -> None:
    """I11: what cannot go back to its begin, or does not say that it begins anew, is."""
    for once in (Tells(), Unseekable(b"a")):
        assert body_of(once).one_shot
    request = Request("POST", "http://127.0.0.1/").prepare()
    request.body = ByNumber()  # type: ignore[assignment]  # what iterates over it gets all
    assert Body(request).one_shot
    assert Body(PreparedRequest()).to_send is None
    assert not Body(PreparedRequest()).one_shot


@pytest.mark.parametrize(("chunk", "again"), [(b"a", False), (b"", True)])
def test_nothing_is_kept_aside_without_a_limit(chunk: bytes, again: bool) -> None:
    """I11: one byte is too much to be kept, none is not."""
    body = body_of(iter([chunk]))
    assert given(body) == [chunk]
    assert body.rewind() is again


def test_no_is_said_as_such() -> None:
    """I11: what cannot be rewound says False, be it closed, moved, or another than before."""
    closed, moved = BytesIO(b"ab"), BytesIO(b"ab")
    bodies = [body_of(closed), body_of(moved), body_of([b"a"])]
    closed.close()
    moved.seek = lambda *to: 1  # type: ignore[method-assign]  # it stays where it is
    moved.read(1)
    changed = bodies[2].to_send
    assert given(bodies[2]) == [b"a"]
    changed._body[0] = b"b"
    assert [body.rewind() for body in bodies] == [False] * 3
    assert replay._is_buffer(object()) is False
    assert replay._can_seek(Request("POST", "http://127.0.0.1/").prepare()) is False


def test_a_body_is_begun_once_for_each_pass() -> None:
    """I11: the look at how it begins is the begin of the pass; a further pass is its own."""
    opened = Opened()
    body = body_of(opened)
    assert body.rewind() is True  # before anything was sent
    for times in (1, 2):
        assert given(body) == [b"a", b"b"]
        assert opened.times == times
        assert body.rewind() is True
    assert given(body) == given(body) == [b"a", b"b"]  # the second is urllib3's, by max_retries


class Wire:
    """A refusal's raw response that gives a piece each 0.25 s, and notes how it is read."""

    headers: dict[str, str] = {}  # noqa: RUF012  # nobody changes it
    status, version, reason = 401, 11, "Unauthorized"

    def __init__(self, patch: pytest.MonkeyPatch, *pieces: Any) -> None:
        self.now = 1000.0
        self.pieces = list(pieces)
        self.timeouts: list[float] = []
        self.asked: list[int] = []
        self.connection: Any = SimpleNamespace(sock=self)
        patch.setattr(replay, "time", SimpleNamespace(monotonic=lambda: self.now))

    def settimeout(self, seconds: float) -> None:
        self.timeouts.append(seconds)

    def read1(self, most: int, decode_content: bool) -> bytes:
        self.asked.append(most)
        self.now += 0.25
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return bytes(piece[:most])

    def close(self) -> None:
        self.connection = None

    def refused(self, seconds: float) -> bytes:
        response = Response()
        response.raw, response.request = self, Request("GET", "http://127.0.0.1/").prepare()
        release(response, seconds)
        assert self.connection is None
        return response.content


@pytest.mark.parametrize(
    ("seconds", "timeouts"), [(0.5, [0.5, 0.25]), (5.0, [1.0, 0.75, 0.5, 0.25]), (0.0, [])]
)
def test_a_refusal_is_read_so_long(
    seconds: float, timeouts: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I5, I13: for what is left of the caller's time and a second at most, in all."""
    wire = Wire(monkeypatch, *[b"ab"] * 9)
    assert wire.refused(seconds) == b"ab" * len(timeouts)
    assert wire.timeouts == timeouts


@pytest.mark.parametrize(
    ("pieces", "asked"),
    [
        ([b"x" * 40000, b"y" * 40000, b"z"], [65536, 25536]),
        ([b"a", b"", b"z"], [65536, 65535]),
        ([b"a", OSError("reset"), b"z"], [65536, 65535]),
    ],
    ids=["long", "ends", "breaks"],
)
def test_a_refusal_is_read_so_far(
    pieces: list[Any], asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I13: to the bound, to its end, or to where it breaks; what came is kept."""
    wire = Wire(monkeypatch, *pieces)
    kept = wire.refused(5.0)
    assert wire.asked == asked
    assert kept == b"".join(piece for piece in pieces[:2] if isinstance(piece, bytes))[:65536]


def test_a_refusal_whose_connection_has_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """I13: it cannot be read within a time, so it is closed."""
    wire = Wire(monkeypatch, b"a")
    wire.connection = SimpleNamespace(sock=None)
    assert wire.refused(5.0) == b""


def answer(*lines: tuple[str, str]) -> Response:
    response, message = Response(), HTTPMessage()
    for name, value in lines:
        message[name] = value
    response.raw = SimpleNamespace(_original_response=SimpleNamespace(msg=message))
    return response


def test_the_cookies_of_a_refusal_join_those_of_the_answer() -> None:
    """I10: first those that the answer does not set itself, then its own; all else stays."""
    refusal = answer(
        ("Set-Cookie", "a=1; Path=/x"), ("Set-Cookie", "b=1; Path=/x"), ("X-Of", "the refusal")
    )
    final = answer(
        ("X-One", "1"), ("Set-Cookie", "a=2; Path=/y"), ("Set-Cookie", "b=2; path=/x"), ("X-2", "2")
    )
    hand_on_cookies(refusal, final)
    raw: Any = final.raw
    assert raw._original_response.msg.items() == [
        ("Set-Cookie", "a=1; Path=/x"),
        ("Set-Cookie", "a=2; Path=/y"),
        ("Set-Cookie", "b=2; path=/x"),
        ("X-One", "1"),
        ("X-2", "2"),
    ]


def test_an_answer_that_did_not_come_by_http_has_no_cookies() -> None:
    """I10: of an adapter of the user's own nothing is asked."""
    other = Response()
    final = answer(("Set-Cookie", "a=1"))
    hand_on_cookies(other, final)
    hand_on_cookies(final, other)
    hand_on_cookies(other, other)
    raw: Any = final.raw
    assert raw._original_response.msg.items() == [("Set-Cookie", "a=1")]
