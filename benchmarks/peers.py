"""What a user would pick instead, each set up as its own documentation says, beside ours.

A `Peer` makes a `Contender` for one login on a `Server`. Refreshing a little
before the end is left as each has it, but for short-lived tokens, which its usual margin
would have refreshed at each request: there it is a quarter of the token's life
at most. Give whole seconds as lifetimes, as `int`: some peers round to them, and
requests-oauth2client takes a float for no lifetime at all.

The imports are late: a peer that is not installed is left out.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version_of
from types import SimpleNamespace
from typing import Any, Protocol

import requests
from requests import PreparedRequest
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.auth import AuthBase

from benchmarks.server import Server
from requests_refresh import MemoryStore, RefreshAdapter, RefreshTokenGrant, TokenSource

TIMEOUT = 30.0  # seconds, of each send, of all of them
CONNECTIONS = 4096  # that a pool keeps: more than any part has threads

Reply = Mapping[str, Any]  # an OAuth reply, as `Server.login` gives


class Contender(Protocol):
    """One login, ready to send. `get` may be called from any thread, and gives the status."""

    session: requests.Session

    def get(self, path: str) -> int: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Peer:
    """make(server, reply, transport): a Contender that is logged in with `reply`.

    transport: what sends to the API in place of the default adapter; who gives
        it closes it, though most sessions close it too.
    in_storms: False for the floor, which never refreshes.
    in_turn: in a storm its threads ask the provider one after the other.
    """

    name: str
    package: str | None
    make: Callable[[Server, Reply, BaseAdapter | None], Contender]
    in_storms: bool = True
    in_turn: bool = False


def peers() -> tuple[list[Peer], list[str]]:
    """Those whose package is installed, and the names of the others."""
    here = [peer for peer in PEERS if version(peer) is not None]
    return here, [peer.name for peer in PEERS if peer not in here]


def version(peer: Peer) -> str | None:
    """Of its package; "" for what has none, None for what is not installed."""
    with suppress(PackageNotFoundError):
        return "" if peer.package is None else _version_of(peer.package)
    return None


@dataclass
class _Sends:
    """A contender that is a session, and what else is to be closed after it."""

    session: requests.Session
    api: str
    also: list[Callable[[], None]] = field(default_factory=list)

    def get(self, path: str) -> int:
        return self.session.get(self.api + path, timeout=TIMEOUT).status_code

    def close(self) -> None:
        self.session.close()
        for close in self.also:
            close()


def _transport(given: BaseAdapter | None) -> BaseAdapter:
    return given or HTTPAdapter(pool_maxsize=CONNECTIONS)


def _life(reply: Reply) -> float:
    return float(reply.get("expires_in", 3600.0))


def _margin(usual: float, reply: Reply) -> float:
    """Seconds before the end at which a peer takes a token for dead: its usual ones, if it can."""
    return min(usual, _life(reply) / 4)


class _TokenAuth(AuthBase):
    """For peers that hand out a token and leave the sending to the user."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token()}"
        return request


def _bare(server: Server, reply: Reply, transport: BaseAdapter | None) -> Contender:
    session = requests.Session()
    session.mount(server.api, _transport(transport))
    session.headers["Authorization"] = f"Bearer {reply['access_token']}"
    return _Sends(session, server.api)


def _ours(server: Server, reply: Reply, transport: BaseAdapter | None) -> Contender:
    grant = RefreshTokenGrant(server.token_url, client_id="bench")
    tokens = TokenSource(grant, MemoryStore(), token=dict(reply))
    session = requests.Session()
    if transport is None:
        adapter = RefreshAdapter(tokens, origins=server.api, pool_maxsize=CONNECTIONS)
    else:
        adapter = RefreshAdapter(tokens, origins=server.api, inner=transport)
    session.mount(server.api, adapter)
    return _Sends(session, server.api, [tokens.close])


def _requests_oauthlib(server: Server, reply: Reply, transport: BaseAdapter | None) -> Contender:
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # it asks at each request; http to loopback
    module = importlib.import_module("requests_oauthlib")
    session = module.OAuth2Session(
        "bench",
        token={**reply, "expires_at": time.time() + _life(reply)},
        auto_refresh_url=server.token_url,
        auto_refresh_kwargs={"client_id": "bench"},
        token_updater=lambda token: None,  # where a user saves it; without one it raises
    )
    session.mount(server.api, _transport(transport))
    return _Sends(session, server.api)


def _authlib(server: Server, reply: Reply, transport: BaseAdapter | None) -> Contender:
    module = importlib.import_module("authlib.integrations.requests_client")
    session = module.OAuth2Session(
        "bench",
        token={**reply, "expires_at": int(time.time() + _life(reply))},
        token_endpoint=server.token_url,
        token_endpoint_auth_method="none",
        leeway=_margin(60, reply),
    )
    session.mount(server.api, _transport(transport))
    return _Sends(session, server.api)


def _google(
    server: Server, reply: Reply, transport: BaseAdapter | None, non_blocking: bool = False
) -> Contender:
    helpers: Any = importlib.import_module("google.auth._helpers")
    # Its margin is a constant: three minutes and 45 seconds.
    helpers.REFRESH_THRESHOLD = timedelta(seconds=_margin(225, reply))
    expiry = datetime.now(timezone.utc) + timedelta(seconds=_life(reply))
    credentials = importlib.import_module("google.oauth2.credentials").Credentials(
        reply["access_token"],
        refresh_token=reply["refresh_token"],
        token_uri=server.token_url,
        client_id="bench",
        client_secret="none",
        expiry=expiry.replace(tzinfo=None),
    )
    if non_blocking:
        credentials.with_non_blocking_refresh()
    module = importlib.import_module("google.auth.transport.requests")
    session = module.AuthorizedSession(credentials)
    session.mount(server.api, _transport(transport))
    return _Sends(session, server.api, [session._auth_request_session.close])


def _google_non_blocking(server: Server, reply: Reply, transport: BaseAdapter | None) -> Contender:
    return _google(server, reply, transport, non_blocking=True)


def _requests_oauth2client(
    server: Server, reply: Reply, transport: BaseAdapter | None
) -> Contender:
    module = importlib.import_module("requests_oauth2client")
    client = module.OAuth2Client(
        server.token_url,
        "bench",
        testing=True,  # else it wants https of its endpoints
    )
    expires_at = datetime.now(timezone.utc) + timedelta(seconds=_life(reply))
    token = module.BearerToken(
        reply["access_token"], refresh_token=reply["refresh_token"], expires_at=expires_at
    )
    session = requests.Session()
    session.auth = module.OAuth2AccessTokenAuth(client, token, leeway=_margin(20, reply))
    session.mount(server.api, _transport(transport))
    return _Sends(session, server.api, [client.session.close])


def _requests_auth(server: Server, reply: Reply, transport: BaseAdapter | None) -> Contender:
    module = importlib.import_module("requests_auth")
    # It takes no login that was made elsewhere: the flow nearest to it is the password's, which
    # refreshes while it can and logs in anew with the password when it cannot. The login is put
    # where its first request would have put one.
    auth = module.OAuth2ResourceOwnerPasswordCredentials(
        server.token_url,
        "bench",
        "password",
        client_id="bench",
        early_expiry=_margin(30, reply),
        timeout=TIMEOUT,
    )
    module.OAuth2.token_cache._add_token(
        auth.state, reply["access_token"], time.time() + _life(reply), reply["refresh_token"]
    )
    session = requests.Session()
    session.auth = auth
    session.mount(server.api, _transport(transport))
    return _Sends(session, server.api, [auth.session.close, module.OAuth2.token_cache.clear])


def _botocore(server: Server, reply: Reply, transport: BaseAdapter | None) -> Contender:
    module = importlib.import_module("botocore.credentials")
    provider = requests.Session()
    last = dict(reply)

    def metadata() -> dict[str, str]:
        expiry = datetime.now(timezone.utc) + timedelta(seconds=_life(last))
        keys = {"access_key": "bench", "secret_key": "bench"}  # it wants some; the token is used
        return keys | {"token": last["access_token"], "expiry_time": expiry.isoformat()}

    def refresh() -> dict[str, str]:
        form = {"grant_type": "refresh_token", "refresh_token": last["refresh_token"]}
        form |= {"client_id": "bench"}
        response = provider.post(server.token_url, data=form, timeout=TIMEOUT)
        response.raise_for_status()
        last.update(response.json())
        return metadata()

    credentials = module.RefreshableCredentials.create_from_metadata(
        metadata(),
        refresh_using=refresh,
        method="oauth",
        # Its usual ones. From the first on one thread refreshes, from the second on all wait.
        advisory_timeout=_margin(900, reply),
        mandatory_timeout=min(600, _life(reply) / 6),
    )
    session = requests.Session()
    session.auth = _TokenAuth(lambda: str(credentials.get_frozen_credentials().token))
    session.mount(server.api, _transport(transport))
    return _Sends(session, server.api, [provider.close])


class _EntraProvider:
    """What msal takes as `http_client`: the server as if it were Microsoft's.

    msal wants its endpoints to be https, whom the account belongs to in each
    reply (`client_info`), and takes a token for dead five minutes before its
    end, a constant; a shorter margin is made by replies that promise more.
    """

    def __init__(self, token_url: str, margin: float) -> None:
        self.token_url, self._more = token_url, 300 - margin
        self.authority = token_url.replace("http:", "https:").replace("/token", "/bench")
        self.session = requests.Session()

    def get(self, url: str, **options: Any) -> SimpleNamespace:
        endpoint = self.authority + "/token"
        found = {"issuer": self.authority, "authorization_endpoint": endpoint}
        return SimpleNamespace(
            status_code=200, headers={}, text=json.dumps(found | {"token_endpoint": endpoint})
        )

    def post(self, url: str, **options: Any) -> SimpleNamespace:
        response = self.session.post(self.token_url, timeout=TIMEOUT, **options)
        text = json.dumps(self.reply(response.json())) if response.ok else response.text
        return SimpleNamespace(
            status_code=response.status_code,
            headers=response.headers,
            text=text,
            raise_for_status=response.raise_for_status,
        )

    def reply(self, reply: Reply) -> dict[str, Any]:
        account = base64.urlsafe_b64encode(b'{"uid": "bench", "utid": "bench"}').decode()
        lasts = int(_life(reply) + self._more)
        return {**reply, "expires_in": lasts, "client_info": account}

    def close(self) -> None:
        self.session.close()


def _msal(server: Server, reply: Reply, transport: BaseAdapter | None) -> Contender:
    module = importlib.import_module("msal")
    provider = _EntraProvider(server.token_url, _margin(300, reply))
    app = module.PublicClientApplication(
        "bench", authority=provider.authority, instance_discovery=False, http_client=provider
    )
    login: dict[str, Any] = {
        "client_id": "bench",
        "scope": ["all"],
        "grant_type": "authorization_code",
    }
    login |= {"token_endpoint": provider.authority + "/token", "response": provider.reply(reply)}
    app.token_cache.add(login)  # as its own login flows do
    (account,) = app.get_accounts()

    def token() -> str:
        found = app.acquire_token_silent(["all"], account=account)
        if not found:
            raise PermissionError("msal has no token: a new login is wanted.")
        return str(found["access_token"])

    session = requests.Session()
    session.auth = _TokenAuth(token)
    session.mount(server.api, _transport(transport))
    return _Sends(session, server.api, [provider.close])


BARE = Peer("bare session", "requests", _bare, in_storms=False)
OURS = Peer("requests_refresh", "requests_refresh", _ours)
REQUESTS_OAUTHLIB = Peer("requests-oauthlib", "requests-oauthlib", _requests_oauthlib)
PEERS = [
    BARE,
    OURS,
    REQUESTS_OAUTHLIB,
    Peer("Authlib", "Authlib", _authlib),
    Peer("google-auth", "google-auth", _google),
    Peer("google-auth, non-blocking", "google-auth", _google_non_blocking),
    Peer("requests-oauth2client", "requests-oauth2client", _requests_oauth2client),
    Peer("requests-auth", "requests-auth", _requests_auth, in_turn=True),
    Peer("botocore", "botocore", _botocore),
    Peer("msal", "msal", _msal),
]
