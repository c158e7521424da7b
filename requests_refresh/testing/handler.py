"""The HTTP side of the test server: one connection, its requests, their answers.

A request is read to its end before anything is decided. Each endpoint is a
function from a request to an `Answer`; faults and latency stand around it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler
from typing import Any, cast
from urllib.parse import parse_qs, parse_qsl, unquote_plus

from .faults import Answer, Fault, Manner, make_answer
from .provider import Provider

CALL_OF = {
    "/login": "login",
    "/token": "token",
    "/refresh": "refresh",
    "/refresh-cookie": "cookie",
    "/logout": "logout",
    "/revoke": "revoke",
}
COOKIE = "refresh_token"
_NO_STORE = ("Cache-Control", "no-store")  # RFC 6749 section 5.1
_HANDLER_POLL = 0.05  # seconds; how soon a held call notices that the server stops
_LINGER_ZERO = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Backend(Provider):
    """What a connection needs of its server, beside the provider."""

    client_id: str | None
    client_secret: str | None
    users: Mapping[str, str] | None
    header: str
    prefix: str
    latency: Mapping[str, float]
    refusal: Fault
    closing: threading.Event


class _BadRequest(Exception):
    """Raised when a request cannot be read as HTTP."""


class Handler(BaseHTTPRequestHandler):
    """One keep-alive connection, on a thread of its own."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one write

    def __init__(self, sock: socket.socket, number: int, backend: Backend) -> None:
        self._number = number
        self._backend = backend
        # The base class keeps its `server` and never uses it.
        super().__init__(sock, ("", 0), cast(Any, backend))

    def log_message(self, *args: Any) -> None:
        """Write nothing: the server has a log of its own, for tests."""

    def answer(self) -> None:
        """Read a request, do it, answer it, whatever its method."""
        backend = self._backend
        path = self.path.partition("?")[0]
        call = CALL_OF.get(path) or ("api" if path.startswith("/api/") else "")
        try:
            body, length, digest = self._read_body(keep=call != "api")
        except _BadRequest:
            self.close_connection = True
            self._send(make_answer(400, {"error": "this is no HTTP request"}))
            return
        fault = backend.record(
            self._number, call, self.command, self.path, self.headers.items(), body
        )
        self._wait(backend.latency.get(path, backend.latency.get(call, 0.0)))

        def work() -> Answer:
            if call == "api":
                return self._api(path, length, digest)
            if not call:
                return make_answer(404, {"error": "there is nothing here"})
            if self.command != "POST":
                return make_answer(405, {"error": "POST, please"}, [("Allow", "POST")])
            reply = getattr(self, f"_{call}")(body)
            assert isinstance(reply, Answer)
            if call in ("token", "refresh", "cookie") and reply.status >= 400:
                backend.count(refresh_refused=1)
            return reply

        answer: Answer | None
        if fault is None:
            answer = work()
            manner: Manner = answer.manner
        else:
            answer = work() if fault.after_work else None
            self._wait(fault.delay)
            self._hold(fault.hold)
            manner = fault.reply
            if manner == "reset":
                self._reset()
                return
            if manner == "silence":
                self._silence()
                return
            answer = fault.answer() or answer or work()
        if call == "api":
            backend.count(api_200=answer.status == 200, api_401=answer.status == 401)
        self._send(answer, manner, fault.pause if fault else backend.refusal.pause)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    # The endpoints.

    def _api(self, path: str, length: int, digest: str) -> Answer:
        backend = self._backend
        value = self.headers.get(backend.header, "").strip()
        if backend.prefix:
            scheme, _, token = value.partition(" ")
            value = token.strip() if scheme.lower() == backend.prefix.lower() else ""
        identity = backend.check(value)
        if identity is None or path == "/api/always-401":
            answer = backend.refusal.answer() or make_answer(401)
            return Answer(answer.status, answer.headers, answer.body, backend.refusal.reply)
        if path == "/api/forbidden":
            challenge = 'Bearer realm="api", error="insufficient_scope", scope="more"'
            return make_answer(
                403, {"error": "insufficient_scope"}, [("WWW-Authenticate", challenge)]
            )
        if path == "/api/redirect":
            query = parse_qs(self.path.partition("?")[2])
            status = query.get("status", ["302"])[0]
            if "to" not in query or not status.isdecimal():
                return make_answer(400, {"error": "redirect?to=URL&status=NUMBER, please"})
            return make_answer(int(status), headers=[("Location", query["to"][0])])
        echo = {
            "method": self.command,
            "path": self.path,
            "identity": identity,
            "length": length,
            "sha256": digest,
        }
        return make_answer(200, echo)

    def _login(self, body: bytes) -> Answer:
        sent = self._json(body) if self._kind() == "application/json" else self._form(body)
        name, password = (sent or {}).get("username"), (sent or {}).get("password")
        users = self._backend.users
        known = isinstance(name, str) and bool(name) and (users is None or name in users)
        if not known or not password or (users is not None and users[cast(str, name)] != password):
            return make_answer(401, {"error": "wrong username or password"})
        reply = self._backend.login(cast(str, name))
        return make_answer(200, reply, [_NO_STORE, _cookie(reply["refresh_token"])])

    def _token(self, body: bytes) -> Answer:
        form, refused = self._client(body)
        if refused:
            return refused
        if "grant_type" not in form:
            return _error("invalid_request", "There is no grant_type.")
        if form["grant_type"] != "refresh_token":
            return _error("unsupported_grant_type", "Only refresh_token is known here.")
        if "refresh_token" not in form:
            return _error("invalid_request", "There is no refresh_token.")
        reply = self._backend.renew(form["refresh_token"], form.get("scope"))
        if isinstance(reply, str):
            return _error(reply, "The refresh token is unknown, spent or revoked.")
        return make_answer(200, reply, [_NO_STORE])

    def _refresh(self, body: bytes) -> Answer:
        token = (self._json(body) or {}).get("refresh")
        if not isinstance(token, str):
            return make_answer(400, {"refresh": ["This field is required."]})
        reply = self._backend.renew(token)
        if isinstance(reply, str):
            said = {"detail": "Token is invalid or expired", "code": "token_not_valid"}
            return make_answer(401, said)
        names = {"access_token": "access", "refresh_token": "refresh", "expires_in": "expires_in"}
        shown = {to: reply[name] for name, to in names.items() if name in reply}
        return make_answer(200, shown, [_NO_STORE])

    def _cookie(self, body: bytes) -> Answer:
        reply = self._backend.renew(self._cookie_sent())
        if isinstance(reply, str):
            gone = ("Set-Cookie", f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
            return make_answer(401, {"error": "log in again"}, [gone])
        headers = [_NO_STORE]
        if "refresh_token" in reply:
            headers.append(_cookie(reply["refresh_token"]))
        shown = {"accessToken": reply["access_token"]}
        if "expires_in" in reply:
            shown["expiresIn"] = reply["expires_in"]
        return make_answer(200, shown, headers)

    def _logout(self, body: bytes) -> Answer:
        bearer = self.headers.get("Authorization", "").partition(" ")[2].strip()
        for token in (bearer, (self._json(body) or {}).get("refresh"), self._cookie_sent()):
            if isinstance(token, str):
                self._backend.end_login_of(token)
        return make_answer(204)

    def _revoke(self, body: bytes) -> Answer:
        form, refused = self._client(body)
        if refused:
            return refused
        if "token" not in form:
            return _error("invalid_request", "There is no token.")
        self._backend.revoke_token(form["token"])
        return make_answer(200)

    # Reading.

    def _read_body(self, keep: bool) -> tuple[bytes, int, str]:
        """The body if it is to be kept, else none of it; its length; its SHA-256."""
        digest, length, kept = hashlib.sha256(), 0, []
        for part in self._parts():
            digest.update(part)
            length += len(part)
            if keep:
                kept.append(part)
        return b"".join(kept), length, digest.hexdigest()

    def _parts(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            yield from self._exactly(_number(self.headers.get("Content-Length", "0"), 10))
            return
        while size := _number(self.rfile.readline().split(b";")[0].decode("latin-1"), 16):
            yield from self._exactly(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            part = self.rfile.read(min(size, 65536))
            if not part:
                raise ConnectionError("the client went away in the middle of its body")
            size -= len(part)
            yield part

    def _kind(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def _json(self, body: bytes) -> dict[str, Any] | None:
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def _form(self, body: bytes) -> dict[str, str] | None:
        """The form, or None where it is none or names something twice (RFC 6749 section 3.2)."""
        if self._kind() != "application/x-www-form-urlencoded":
            return None
        pairs = parse_qsl(body.decode("latin-1"))
        return dict(pairs) if len(dict(pairs)) == len(pairs) else None

    def _cookie_sent(self) -> str:
        cookies = SimpleCookie(self.headers.get("Cookie", ""))
        return cookies[COOKIE].value if COOKIE in cookies else ""

    def _client(self, body: bytes) -> tuple[dict[str, str], Answer | None]:
        """The form of a client that proved itself, or the refusal (RFC 6749 section 2.3.1)."""
        form = self._form(body)
        if form is None:
            return {}, _error("invalid_request", "The body is no form, or names something twice.")
        name, secret = form.get("client_id"), form.get("client_secret")
        scheme, _, coded = self.headers.get("Authorization", "").partition(" ")
        basic = scheme.lower() == "basic"
        if basic:
            if secret is not None:
                return {}, _error("invalid_request", "The client shows its secret in two ways.")
            try:
                shown = base64.b64decode(coded, validate=True).decode().split(":", 1)
            except ValueError:
                shown = []
            name, secret = [unquote_plus(part) for part in shown] if len(shown) == 2 else ["", ""]
        wanted = self._backend.client_id, self._backend.client_secret
        if (wanted[0] is not None and name != wanted[0]) or (
            wanted[1] is not None and secret != wanted[1]
        ):
            challenge = [("WWW-Authenticate", 'Basic realm="auth"')] if basic else []
            return {}, _error("invalid_client", "The client is unknown.", 401, challenge)
        return form, None

    # Waiting and sending.

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._backend.closing.wait(seconds)

    def _hold(self, event: threading.Event | None) -> None:
        while event is not None and not self._backend.closing.is_set():
            if event.wait(_HANDLER_POLL):
                return

    def _reset(self) -> None:
        # With no time to linger, closing the socket sends RST in place of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.close_connection = True

    def _silence(self) -> None:
        self.close_connection = True
        self.rfile.read(1)  # until the client goes away or the server stops

    def _send(self, answer: Answer, manner: Manner = "whole", pause: float = 0.0) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        framed = {name.lower() for name, _ in answer.headers} & {
            "content-length",
            "transfer-encoding",
        }
        if not framed and answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection or manner == "cut":
            self.send_header("Connection", "close")
        self.end_headers()
        body = b"" if self.command == "HEAD" else answer.body
        if manner == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif manner == "drip":
            for at in range(len(body)):
                self.wfile.flush()
                if self._backend.closing.wait(pause):
                    return
                self.wfile.write(body[at : at + 1])
        else:
            self.wfile.write(body)


def _cookie(refresh_token: str) -> tuple[str, str]:
    return "Set-Cookie", f"{COOKIE}={refresh_token}; Path=/; HttpOnly; SameSite=Strict"


def _error(
    code: str, description: str, status: int = 400, headers: list[tuple[str, str]] | None = None
) -> Answer:
    """An error of a token endpoint (RFC 6749 section 5.2)."""
    body = {"error": code, "error_description": description}
    return make_answer(status, body, [_NO_STORE, *(headers or [])])


def _number(text: str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        raise _BadRequest from None
    if number < 0:
        raise _BadRequest
    return number
