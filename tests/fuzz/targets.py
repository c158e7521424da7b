"""What is fuzzed: one function of bytes for each reader of what others wrote.

A target returns for any bytes, and raises where something is not as promised.
To add one: write the function, seeds for it in `seeds.py`, and a line in
`TARGETS` at the end. `python -m tests.fuzz` and `test_corpus.py` find it there.
"""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import requests
from requests.adapters import HTTPAdapter

from requests_refresh import (
    ConfigurationError,
    InvalidReply,
    LoginRequired,
    RefreshError,
    RefreshRefused,
    RefreshTokenGrant,
    Token,
)
from requests_refresh.grants import discovery
from requests_refresh.grants.cookie import cookie_value
from requests_refresh.grants.failures import date_seconds, retry_after
from requests_refresh.grants.http import Endpoint
from requests_refresh.grants.replies import custom_token, decoded, is_markup, oauth_token
from requests_refresh.grants.settings import shown, url_problem
from requests_refresh.logins import browser, device, loopback
from requests_refresh.logins.loopback import Loopback
from requests_refresh.origins import Origin, origin_of, parse_origins
from requests_refresh.schemes import needs_new_token, parse_challenges
from requests_refresh.signing import nonce_in
from requests_refresh.stores.values import Values

from . import seeds
from .judges import (
    REFRESH,
    SECRET,
    check_silent,
    check_token,
    judged,
    raw_headers,
    same_json,
)
from .messages import SENT_AT, NoMessage, reply_of, response_of, split
from .reference import challenges_in

STATE = "the-state-of-this-login"
ISSUER = "https://auth.test"
WHERE = "https://auth.test/token"
FINAL = {  # RFC 6750 section 3.1, RFC 9470 section 3, RFC 9449 sections 7.1 and 9
    "insufficient_scope",
    "invalid_request",
    "insufficient_user_authentication",
    "invalid_dpop_proof",
    "use_dpop_nonce",
}
READS: list[dict[str, str]] = [
    {"access_token": "access", "refresh_token": "refresh"},
    {"access_token": "data.tokens.0.value", "refresh_token": "data.refresh", "scope": "scopes"},
    {"access_token": "accessToken", "expires_in": "expiresIn", "token_type": "type"},
]
ADAPTER = HTTPAdapter()


@dataclass(frozen=True)
class Target:
    """A reader to be fuzzed."""

    run: Callable[[bytes], None]
    seeds: list[bytes]
    words: list[bytes]  # what a fuzzer should know how to spell


def oauth_reply(data: bytes) -> None:
    """The reply of a token endpoint."""
    reply = reply_of(data, [REFRESH])
    result = judged(lambda old: oauth_token(reply, old, WHERE, [SECRET]))
    value = decoded(reply, forms=True)
    if isinstance(result, Token):
        assert reply.ok
        assert not value.get("error")
        assert result.access_token == value["access_token"]
        assert result.refresh_token == (value.get("refresh_token") or REFRESH)
        assert result.issued_at == SENT_AT
    elif isinstance(result, LoginRequired):
        assert not is_markup(reply)
        assert isinstance(value["error"], str)


def custom_reply(data: bytes) -> None:
    """The reply of an endpoint that knows no OAuth, with a new refresh token in a cookie."""
    reply = reply_of(data, [REFRESH])
    value = decoded(reply)
    cookie = cookie_value(reply.cookies, "refresh_token", SENT_AT)
    for read in READS:
        reader = partial(custom_token, read=read, login_over=None, refresh_token=cookie)
        result = judged(
            partial(lambda read, old: read(reply, old, WHERE, secrets=[SECRET]), reader)
        )
        if isinstance(result, Token):
            assert reply.ok
            assert cookie in (None, result.refresh_token)
        elif isinstance(result, LoginRequired):
            assert reply.status in (400, 401, 403)
            assert not is_markup(reply)
            assert value is not None or "html" not in reply.media


def metadata(data: bytes) -> None:
    """What a provider says of its endpoints, for a grant that is made of it."""
    discovery._known.clear()
    with patch.object(Endpoint, "ask", return_value=reply_of(data, [])):
        try:
            grant = RefreshTokenGrant.discover(ISSUER, client_id="sync", client_secret=SECRET)
        except (InvalidReply, RefreshRefused) as error:
            check_silent(error)
            return
    assert decoded(reply_of(data, []))["issuer"] == ISSUER
    for endpoint in filter(None, (grant._endpoint, grant._revocation)):
        assert url_problem(endpoint.url, "url") is None
        there = connected_to(endpoint.url)
        assert there is None or there[0] == "https"
    assert SECRET not in repr(grant)


def redirect(data: bytes) -> None:
    """What comes to the port that waits for the browser's answer."""
    client = browser._oauthlib().WebApplicationClient("sync")
    for names_issuer in (True, False):
        answer = browser._Answer(client, STATE)
        waiting: Any = SimpleNamespace(_path="/callback")
        reply = Loopback._reply_to(waiting, data, answer.taken)
        assert reply in (browser._WELCOME, loopback._BAD, loopback._NOT_FOUND)  # it echoes nothing
        assert (reply == browser._WELCOME) is (answer.fields is not None)
        if answer.fields is not None:
            assert data.startswith(b"GET /callback?")
            assert answer.fields["state"] == STATE
            login = browser.BrowserLogin(
                "https://auth.test/token",
                authorize_url="https://auth.test/authorize",
                client_id="sync",
                issuer=ISSUER,
            )
            login._names_issuer = names_issuer
            code, said = "", ""
            try:
                code = login._code_in(answer.fields, [STATE])
            except RefreshError as error:
                said = str(error)
            assert STATE not in said
            assert code or said
            if code:
                assert answer.fields.get("iss", ISSUER) == ISSUER
                assert "iss" in answer.fields or not names_issuer


def challenges(data: bytes) -> None:
    """WWW-Authenticate: several headers, or several in one."""
    _, headers, _ = split(b"401\n" + data)
    values = headers.getlist("WWW-Authenticate")
    for value in values:
        assert parse_challenges(value) == challenges_in(value)
    response = response_of(b"401\n" + data)
    for apart in (True, False):
        if apart:
            response.raw = raw_headers(values)
        else:
            response.raw = None
            values = [", ".join(values)]
        errors = {
            parameters.get("error", "").lower()
            for value in values
            for scheme, parameters in challenges_in(value)
            if scheme in ("bearer", "dpop")
        }
        response.status_code = 401
        assert needs_new_token(response) or errors & FINAL
        assert not needs_new_token(response) or "invalid_token" in errors or not errors & FINAL
        response.status_code = 403
        assert not needs_new_token(response)


def token_reply(data: bytes) -> None:
    """JSON for `Token.from_reply`: a reply, or a list of a reply and the token before it."""
    value = json_of(data)
    previous = None
    if isinstance(value, list) and len(value) == 2:
        with suppress(ConfigurationError):
            previous = Token.from_mapping(value[1])
            value = value[0]
    if previous is not None and Values(None).pack("x", previous) is None:
        return  # none that a store ever held
    try:
        token = Token.from_reply(value, previous, SENT_AT)
    except InvalidReply as error:
        check_silent(error)
        return
    check_token(token)
    assert token.issued_at == SENT_AT
    if previous is not None:
        assert token.refresh_token == (value.get("refresh_token") or previous.refresh_token)
        if value.get("scope") is None:
            assert token.scope == previous.scope
    if value.get("expires_in") is not None:
        assert token.expires_at == SENT_AT + float(value["expires_in"])


def stored_token(data: bytes) -> None:
    """JSON for `Token.from_mapping`, and the text of a store."""
    text = data.decode("utf-8", "replace")
    found = Values(None).unpack("somebody", text)
    assert isinstance(found, (Token, str))
    try:
        token = Token.from_mapping(json_of(data))
    except ConfigurationError as error:
        check_silent(error)
        return
    again = Token.from_mapping(token.to_mapping())
    assert same_json(again.to_mapping(), token.to_mapping())
    kept = Values(None).pack("somebody", token)
    assert kept is None or Values(None).unpack("somebody", kept) == token


def header_times(data: bytes) -> None:
    """Retry-After, Date, and the cookies that say until when they live."""
    _, headers, _ = split(b"503\n" + data)
    plain = requests.structures.CaseInsensitiveDict(headers)
    seconds = retry_after(plain)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))
    if seconds is not None and "Date" in plain:
        assert retry_after(plain) == seconds or date_seconds(plain["Date"]) is None
    cookies = headers.getlist("Set-Cookie")
    now = date_seconds(headers.get("Date", "")) or SENT_AT
    value = cookie_value(cookies, "refresh_token", now)
    if value is not None:
        assert value.strip('"')
        assert ";" not in value
        assert any(value in cookie.partition(";")[0].partition("=")[2] for cookie in cookies)
        dead = [f"{cookie.partition(';')[0]}; Max-Age=0" for cookie in cookies]
        assert cookie_value(dead, "refresh_token", now) is None
        assert cookie_value([*cookies, *dead], "refresh_token", now) == value


def urls(data: bytes) -> None:
    """A URL that somebody declares, or that stands on a request."""
    text = data.decode("utf-8", "replace")
    found, there = origin_of(text), connected_to(text, by_hand=True)
    if found is not None and can_be_declared(found):
        assert there is None or there == lowered(found)
    with suppress(ConfigurationError):
        (declared,) = parse_origins(text)
        assert may_see_a_secret(declared)
        assert connected_to(text) in (None, lowered(declared))
    if url_problem(text, "url") is None:
        there = connected_to(text)
        assert there is None or may_see_a_secret(there)
        assert "?" not in shown(text)


def connected_to(url: str, by_hand: bool = False) -> Any:
    """Scheme, host and port of the pool that requests would take; None if it sends nothing."""
    try:
        request = requests.Request("GET", "http://x.test/" if by_hand else url).prepare()
        if by_hand:
            request.url = url
        pool = ADAPTER.get_connection_with_tls_context(request, verify=True)
    except Exception:  # its caller would get this, and no server anything
        return None
    host = pool.host.lower()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return pool.scheme, host, pool.port


def lowered(origin: Origin) -> Origin:
    """Behind a percent sign, the case of a host is kept by the one and not by the other."""
    return origin[0], origin[1].lower(), origin[2]


def can_be_declared(origin: Origin) -> bool:
    """Whether a token could ever go there: the same, written plainly, is taken as an origin."""
    scheme, host, port = origin
    with suppress(ConfigurationError):
        name = f"[{host}]" if ":" in host else host
        return parse_origins(f"{scheme}://{name}:{port}/") == {origin}
    return False


def may_see_a_secret(origin: Origin) -> bool:
    """https, or this host itself."""
    scheme, host, _ = origin
    if scheme == "https" or host == "localhost" or host.endswith(".localhost"):
        return scheme in ("http", "https")
    return scheme == "http" and ipaddress.ip_address(host).is_loopback


def device_reply(data: bytes) -> None:
    """What a provider wants a person to be shown, and how long."""
    found = device._device_in(json_of(data), SENT_AT)
    if isinstance(found, str):
        return
    prompt = found.prompt
    for text in (prompt.user_code, prompt.verification_uri, prompt.verification_uri_complete or ""):
        assert text.isprintable()
        assert len(text) <= device._LONGEST_SHOWN
    assert url_problem(prompt.verification_uri.partition("#")[0], "it") is None
    assert 1 <= found.interval < found.life <= device._LONGEST_LIFE
    assert math.isfinite(prompt.expires_at)
    assert repr(found).count(found.code) == repr(prompt).count(found.code) or len(found.code) < 8


def nonce(data: bytes) -> None:
    """What a server wants in the next proof: it goes into a JWT, never into a header."""
    found = nonce_in({"DPoP-Nonce": data.decode("latin-1")})
    assert found is None or (found.isascii() and found.isprintable() and 0 < len(found) <= 1024)
    assert found is None or not set(found) & set(' "\\')


def json_of(data: bytes) -> Any:
    """The JSON value, NaN and Infinity among them. Raises NoMessage for what is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise NoMessage from None


TARGETS: Mapping[str, Target] = {
    "oauth_reply": Target(oauth_reply, seeds.OAUTH, seeds.REPLY_WORDS),
    "custom_reply": Target(custom_reply, seeds.CUSTOM, seeds.REPLY_WORDS),
    "metadata": Target(metadata, seeds.METADATA, seeds.METADATA_WORDS),
    "redirect": Target(redirect, seeds.REDIRECTS, seeds.REDIRECT_WORDS),
    "challenges": Target(challenges, seeds.CHALLENGES, seeds.CHALLENGE_WORDS),
    "token_reply": Target(token_reply, seeds.TOKENS, seeds.REPLY_WORDS),
    "stored_token": Target(stored_token, seeds.STORED, seeds.REPLY_WORDS),
    "device_reply": Target(device_reply, seeds.DEVICES, seeds.DEVICE_WORDS),
    "nonce": Target(nonce, seeds.NONCES, seeds.NONCE_WORDS),
    "header_times": Target(header_times, seeds.TIMES, seeds.TIME_WORDS),
    "urls": Target(urls, seeds.URLS, seeds.URL_WORDS),
}


def run(name: str, data: bytes) -> bool:
    """Run a target; False for bytes that are no message at all."""
    try:
        TARGETS[name].run(data)
    except NoMessage:
        return False
    return True
