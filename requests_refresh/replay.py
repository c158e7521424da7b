"""May this request be sent twice? Its body, its cookies, and the refusal's connection.

- A body is sent again to the byte or not at all (I11): a body that can be read
  once only is recognised before anything is sent, and may be kept aside.
- A refusal that is not handed on gives its connection back (I13), read within
  bounds of size and time, and stays readable for whoever gets it in the end.
- The cookies that a refusal sets are not lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import time
from collections.abc import Iterable, Iterator
from http.client import HTTPMessage
from typing import Any

from requests import PreparedRequest, Response
from requests.cookies import RequestsCookieJar, extract_cookies_to_jar, get_cookie_header
from requests.utils import rewind_body
from urllib3.response import HTTPResponse

_BLOCK = 65536
_LONGEST_REFUSAL = 65536  # bytes of a refusal's body that are read
_LONGEST_READ = 1.0  # seconds for that
_NOT_THE_SAME = (
    "the body does not give again what it gave when it was first sent, so sending it again was"
    " broken off; give bytes or a file that can seek"
)


class Body:
    """The body of one request: what to send, and whether it can be sent again.

    limit: how many bytes of a one-shot body may be kept aside.
    """

    def __init__(self, request: PreparedRequest, limit: int = 0) -> None:
        self._request = request
        body: Any = request.body
        self.to_send = body
        self._seeks = False
        if body is None or isinstance(body, str):
            pass
        elif _can_seek(request):
            self._seeks = True
        elif _is_buffer(body) and not hasattr(body, "read"):
            pass
        elif _is_iterable_again(body):
            self.to_send = _SameAgain(body)
        else:
            self.to_send = _KeptAside(body, limit)

    @property
    def one_shot(self) -> bool:
        """Whether a refusal could leave this body unsendable."""
        return isinstance(self.to_send, _KeptAside)

    def rewind(self) -> bool:
        """Make ready to be sent again; False if that cannot be done to the byte."""
        try:
            if self._seeks:
                rewind_body(self._request)
                body: Any = self._request.body
                if body.tell() != getattr(self._request, "_body_position", None):
                    return False
            if isinstance(self.to_send, _SameAgain):
                return self.to_send.begins_anew()
        except Exception:  # a closed file, a stream that cannot seek after all
            return False
        return not isinstance(self.to_send, _KeptAside) or not self.to_send.overflown


def _is_buffer(body: Any) -> bool:
    try:
        memoryview(body)
    except TypeError:
        return False
    return True


def _can_seek(request: PreparedRequest) -> bool:
    body: Any = request.body
    if not isinstance(getattr(request, "_body_position", None), int):
        return False
    seekable = getattr(body, "seekable", None)
    return hasattr(body, "seek") and (seekable is None or bool(seekable()))


def _is_iterable_again(body: Any) -> bool:
    # Told by what it has: asking it for an iterator may already read from it.
    return hasattr(body, "__iter__") and not hasattr(body, "read") and not hasattr(body, "__next__")


class _SameAgain:
    """A re-iterable body that must begin, when sent again, with what it gave at first.

    Some look re-iterable and are not, such as a progress bar around a file:
    they would end at once, or go on in the middle, and the server would take
    it for the whole.
    """

    def __init__(self, body: Iterable[Any]) -> None:
        self._body = body
        self._head: bytes | None = None  # the first chunk that was given
        self._begun: Iterator[bytes] | None = None  # for the next pass, where one is begun
        self._size = 0  # bytes of the longest pass
        self._digest = hashlib.sha256()  # of these

    def begins_anew(self) -> bool:
        """Begin the next pass; False if it begins otherwise than the first."""
        chunks = map(_as_bytes, self._body)
        head = next(chunks, None)
        if self._head is not None and head != self._head:
            return False
        self._begun = chunks if head is None else itertools.chain([head], chunks)
        return True

    def __iter__(self) -> Iterator[bytes]:
        chunks = self._begun or map(_as_bytes, self._body)
        self._begun = None
        left, digest = self._size, hashlib.sha256()
        for chunk in chunks:
            again, new = chunk[:left], chunk[left:]
            if again:
                left -= len(again)
                digest.update(again)
                if not left and digest.digest() != self._digest.digest():
                    raise OSError(_NOT_THE_SAME)
            if self._head is None:
                self._head = chunk
            self._digest.update(new)
            self._size += len(new)
            yield chunk
        if left:
            raise OSError(_NOT_THE_SAME)


class _KeptAside:
    """A one-shot body of which up to `limit` bytes are kept, to be sent again."""

    def __init__(self, body: Any, limit: int) -> None:
        self._rest = iter(_blocks(body) if hasattr(body, "read") else body)
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self.overflown = False

    def __iter__(self) -> Iterator[bytes]:
        if self.overflown:  # by urllib3, with max_retries
            raise OSError(_NOT_THE_SAME)
        yield from list(self._chunks)
        while True:
            try:
                data = _as_bytes(next(self._rest))
            except StopIteration:
                return
            except BaseException:
                self.overflown = True  # its end will look like an end
                raise
            self._size += len(data)
            if self._size > self._limit:
                self.overflown = True
                self._chunks.clear()
            else:
                self._chunks.append(data)
            yield data


def _blocks(body: Any) -> Iterator[Any]:
    while block := body.read(_BLOCK):
        yield block


def _as_bytes(chunk: Any) -> bytes:
    # A copy: the giver may fill the same buffer again. An int is no chunk.
    if isinstance(chunk, str):
        return chunk.encode()
    return bytes(chunk if isinstance(chunk, bytes) else memoryview(chunk))


def release(response: Response, seconds: float) -> None:
    """Read what little body a refusal has and give its connection back.

    seconds: how long that may take at most. What was read stays readable on
    `response`; where it was too long or too slow, the connection is closed
    and the body is cut off there.
    """
    raw = response.raw
    if getattr(raw, "connection", None) is None:
        return  # given back already, or never one of a pool's
    data = bytearray()
    try:
        _read_bounded(raw, min(seconds, _LONGEST_READ), data)
    finally:
        if raw.connection is not None:
            response.close()
    response.raw = HTTPResponse(
        body=io.BytesIO(data),
        headers=raw.headers,
        status=raw.status,
        version=raw.version,
        reason=raw.reason,
        preload_content=False,
        original_response=getattr(raw, "_original_response", None),
        enforce_content_length=False,
        request_method=response.request.method,
    )


def _read_bounded(raw: Any, seconds: float, data: bytearray) -> None:
    """Read into `data` until the connection is given back, or until a bound is reached."""
    end = time.monotonic() + seconds
    # Where the connection ends with this response, http.client has let go of its socket.
    with contextlib.suppress(Exception):  # whatever it is, this connection is not worth keeping
        sock = raw.connection.sock or raw._original_response.fp.raw._sock
        # Once given back it may be in the hands of another thread: not ours to set a timeout on.
        while raw.connection is not None and len(data) < _LONGEST_REFUSAL:
            left = end - time.monotonic()
            if left <= 0:
                return
            sock.settimeout(left)
            piece = raw.read1(_LONGEST_REFUSAL - len(data), decode_content=False)
            if not piece:
                return
            data += piece


def carry_cookies(refusals: Iterable[Response], request: PreparedRequest) -> str | None:
    """The Cookie header for sending `request` again after `refusals`.

    None: as it was; "": no such header. One that the caller wrote by hand is
    left alone.
    """
    if not any("Set-Cookie" in refusal.headers for refusal in refusals):
        return None
    bare = request.copy()
    standing = bare.headers.pop("Cookie", None)
    jar = RequestsCookieJar()
    jar.update(getattr(request, "_cookies", None) or {})
    if get_cookie_header(jar, bare) != standing:
        return None
    for refusal in refusals:
        extract_cookies_to_jar(jar, request, refusal.raw)
    return get_cookie_header(jar, bare) or ""


def hand_on_cookies(refusal: Response, final: Response) -> None:
    """Let the session see the refusal's cookies, as far as the final response sets no others.

    A session fills its jar from the header lines that the final response
    came with, so these get new company.
    """
    earlier = getattr(getattr(refusal.raw, "_original_response", None), "msg", None)
    later = getattr(getattr(final.raw, "_original_response", None), "msg", None)
    if earlier is None or later is None:
        return
    lines = later.get_all("Set-Cookie") or []
    # A jar deletes at once and adds at the end: what was set again or deleted must not come first.
    again = {_cookie_of(line) for line in lines}
    before = [line for line in earlier.get_all("Set-Cookie") or [] if _cookie_of(line) not in again]
    if before:
        message = HTTPMessage()
        for line in [*before, *lines]:
            message["Set-Cookie"] = line
        for name, value in later.items():
            if name.lower() != "set-cookie":
                message[name] = value
        final.raw._original_response.msg = message


def _cookie_of(line: str) -> tuple[str, ...]:
    """Which cookie a Set-Cookie line is about: its name, domain and path."""
    pair, *rest = (part.strip() for part in line.split(";"))
    scope = dict.fromkeys(("domain", "path"), "")
    scope.update(
        (name.strip().lower(), value) for name, _, value in (p.partition("=") for p in rest)
    )
    return pair.partition("=")[0].strip(), scope["domain"], scope["path"]
