"""The one place that sends to a token endpoint and takes in its reply.

Each request has a session of its own, closed afterwards, so threads and forks
share nothing. Nothing but what the grant gives goes out: no netrc, no cookies,
no redirect followed, no retry by urllib3. Proxies and the CA bundle of the
environment count, except that plain http, which is for this host only, uses
no proxy that was not given. A reply is bounded in bytes and in time, however
slowly it drips, and is taken as it comes: never decompressed.

Name look-up is the system's to bound, and a host with several addresses has
the connect timeout for each of them.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
import urllib3

from ..errors import (
    ConfigurationError,
    RefreshError,
    RefreshRefused,
    RefreshTimeout,
    RefreshUnavailable,
)
from ..gate import remaining
from .failures import is_for_later, kind_of, retry_after
from .settings import Timeout, shown
from .wire import BoundedAdapter, Wire

LONGEST_REPLY = 2**20  # bytes

Auth = Callable[[requests.PreparedRequest], requests.PreparedRequest]

_LOST = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    http.client.HTTPException,
)
_PLAIN_HEADERS = {"accept", "accept-encoding", "connection", "content-length", "content-type"}
_SECRET_FIELDS = {
    *("assertion", "client_assertion", "client_secret", "code", "code_verifier", "device_code"),
    *("actor_token", "password", "refresh_token", "subject_token", "token"),
}


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """What an endpoint answered. Made of bytes that nobody has judged yet."""

    status: int
    media: str  # the content type without its parameters, in small letters
    body: bytes
    problem: str | None  # why the body cannot be read, if it cannot
    cookies: list[str]  # the Set-Cookie headers
    sent_at: float  # seconds since the epoch
    response: requests.Response  # the same, for a predicate of the user's
    secrets: list[str]  # what was sent beyond what the grant itself knows

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class Endpoint:
    """A URL that issues tokens, and how it is reached. Any thread may use it."""

    def __init__(
        self,
        url: str,
        *,
        method: str,
        timeout: Timeout,
        verify: bool | str,
        cert: str | tuple[str, str] | None,
        proxies: Mapping[str, str] | None,
    ) -> None:
        self.url = url
        self.shown = shown(url)
        self.method = method
        self.timeout = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        self._verify = verify
        self._cert = cert
        self._proxies = dict(proxies or {})

    def __repr__(self) -> str:
        return f"<Endpoint {self.method} {self.shown}>"

    def ask(
        self,
        headers: Mapping[str, str],
        body: bytes | None,
        auth: Auth | None,
        end: float = math.inf,
    ) -> Reply:
        """Send one request and take in the reply, whatever it says.

        end: the moment, on the monotonic clock, at which it is over in any case.

        Blocks for connect + read seconds at most, or what remains of the round.
        Raises RefreshTimeout, with nothing sent, if nothing remains;
        RefreshUnavailable for a network that fails and for a status that says
        so; RefreshRefused for a redirect; and whatever `auth` raises.
        """
        with _Session() as session:
            request = session.prepare_request(
                requests.Request(
                    self.method,
                    self.url,
                    headers={
                        "Accept": "application/json",
                        **headers,
                        "Accept-Encoding": "identity",
                    },
                    data=body,
                    auth=partial(_authenticated, auth),
                )
            )
            left = min(remaining(), end - time.monotonic())
            if left <= 0:
                raise RefreshTimeout(
                    f"No time was left to ask {self.shown} for a token. Nothing was sent and the"
                    " login is intact. Try again, or allow more time."
                )
            connect, read = (min(seconds, left) for seconds in self.timeout)
            wire = Wire(connect, read, time.monotonic() + min(sum(self.timeout), left))
            adapter = BoundedAdapter(wire)
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            sent_at = time.time()
            try:
                response = session.send(
                    request,
                    timeout=(connect, read),
                    allow_redirects=False,
                    **self._settings(session),
                )
                with response:
                    return self._taken_in(response, request, sent_at)
            except RefreshError:
                raise
            except _LOST as exc:
                failure = self._failure(exc, wire.opened)
            except ValueError:  # http.client's, for a header that `auth` set; it quotes the header
                failure = self._unsendable("ValueError")
            raise failure

    def _settings(self, session: requests.Session) -> dict[str, Any]:
        found = session.merge_environment_settings(
            self.url, dict(self._proxies), True, self._verify, self._cert
        )
        settings = {**found, "stream": True}
        if urlsplit(self.url).scheme == "http":
            settings["proxies"] = dict(self._proxies)
        return settings

    def _taken_in(
        self, response: requests.Response, request: requests.PreparedRequest, sent_at: float
    ) -> Reply:
        status = response.status_code
        if is_for_later(status):
            raise RefreshUnavailable(
                f"{self.shown} answered {status}: it cannot answer now. The login is intact; try"
                " again later.",
                retry_after=retry_after(response.headers),
            )
        if 300 <= status < 400:
            raise RefreshRefused(
                f"{self.shown} answered {status}, a redirect, which is never followed with a"
                " secret. The login is intact. Check the URL, and what stands in front of it."
            )
        coding = response.headers.get("Content-Encoding", "").strip().lower()
        body, problem = b"", "it is compressed, which it was asked not to be"
        if coding in ("", "identity"):
            body, problem = _read(response)
        secrets = _secrets_in(response.request) + _secrets_in(request)
        return Reply(
            status=status,
            media=response.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
            body=body,
            problem=problem or None,
            cookies=response.raw.headers.getlist("Set-Cookie"),
            sent_at=sent_at,
            response=_bare(response, body),
            secrets=secrets,
        )

    def _failure(self, exc: Exception, opened: bool) -> RefreshError:
        if opened:
            return RefreshUnavailable(
                f"The answer of {self.shown} was lost ({kind_of(exc)}). The login is kept;"
                " whether the provider has renewed it is unknown. Try again later.",
                outcome_unknown=True,
            )
        if isinstance(exc, (requests.ConnectionError, requests.Timeout)):
            return RefreshUnavailable(
                f"{self.shown} could not be reached ({kind_of(exc)}). Nothing was sent and the"
                " login is intact. Try again later; if it stays so, check the URL, the proxy and"
                " the certificates."
            )
        return self._unsendable(type(exc).__name__)

    def _unsendable(self, kind: str) -> RefreshError:
        return RefreshError(
            f"The request to {self.shown} could not be sent ({kind}). The login is intact. Check"
            " verify, cert, proxies and auth of the grant."
        )


class _Session(requests.Session):
    """A session that knows no redirects: even looking at one would read its body unbounded."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def _authenticated(
    auth: Auth | None, request: requests.PreparedRequest
) -> requests.PreparedRequest:
    """With any auth at all, requests does not ask netrc."""
    signed = request if auth is None else auth(request)
    if isinstance(signed, requests.PreparedRequest):
        return signed
    kind = type(signed).__name__
    del auth, request, signed
    raise ConfigurationError(
        f"auth returned {kind} in place of the request that it was given. Nothing was sent and the"
        " login is intact. Let it return that."
    )


def _read(response: requests.Response) -> tuple[bytes, str]:
    """The body and what is wrong with it, if anything."""
    body = b""
    while len(body) <= LONGEST_REPLY:
        piece = response.raw.read(LONGEST_REPLY + 1 - len(body), decode_content=False)
        if not piece:
            return body, ""
        body += piece
    return b"", f"it is longer than {LONGEST_REPLY} bytes"


def _bare(response: requests.Response, body: bytes) -> requests.Response:
    """The response for a predicate of the user's: with the body, without the request."""
    bare = requests.Response()
    bare.status_code, bare.reason, bare.url = response.status_code, response.reason, response.url
    bare.headers, bare.encoding = response.headers, response.encoding
    bare.raw = io.BytesIO(body)
    return bare


def _secrets_in(request: requests.PreparedRequest) -> list[str]:
    """What an auth object, a header or the form may have sent that must not be quoted."""
    found: list[str] = []
    for name, value in request.headers.items():
        if name.lower() in _PLAIN_HEADERS or name.lower() == "user-agent":
            continue
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        found += [text, *text.split()[1:]]
        if text.startswith("Basic "):
            with contextlib.suppress(ValueError):
                found.append(base64.b64decode(text[6:]).decode("latin-1").partition(":")[2])
    if isinstance(request.body, (bytes, str)):
        text = request.body if isinstance(request.body, str) else request.body.decode("latin-1")
        found += [value for name, value in parse_qsl(text) if name in _SECRET_FIELDS]
    return found
