"""Every row of the tables of error codes in docs/grants.md, through the whole stack."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import requests_refresh
from requests_refresh import (
    DPoP,
    LoginRequired,
    MemoryStore,
    RefreshAdapter,
    RefreshRefused,
    RefreshTokenGrant,
    RefreshUnavailable,
    Token,
    TokenSource,
)
from requests_refresh.errors import RefreshError
from requests_refresh.grants.replies import _FOR_LATER, FINAL
from tests.adapter.support import PATIENCE, wait_until
from tests.grants.endpoint import TOKEN, Answer, EndpointServer, running
from tests.grants.support import ASKED_ANEW, ec_key
from tests.logins.support import Clock, device

PAGE = Path(__file__).parents[2] / "docs" / "grants.md"
OLD = Token("old-access", refresh_token="old-refresh")
LATER = [("Retry-After", "60")]  # longer than a round waits, so each is asked once


def rows(title: str) -> list[list[str]]:
    """The cells of the table below that title, with no marks."""
    part = PAGE.read_text("utf-8").partition(f"### {title}\n")[2].partition("\n### ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines[2:]
    ]


TOKEN_ROWS = rows("In the reply to a refresh")
API_ROWS = rows("From the API")
DEVICE_ROWS = rows("While a person confirms a device")
REVOCATION_ROWS = rows("From the revocation endpoint")

STANDARD = {
    "RFC 6749 5.2": "invalid_request invalid_client invalid_grant unauthorized_client"
    " unsupported_grant_type invalid_scope",
    "RFC 6749 4.1.2.1": "invalid_request unauthorized_client access_denied"
    " unsupported_response_type invalid_scope server_error temporarily_unavailable",
    "RFC 6750 3.1": "invalid_token insufficient_scope",
    "RFC 7009 2.2.1": "unsupported_token_type",
    "RFC 8628 3.5": "authorization_pending slow_down access_denied expired_token",
    "RFC 8693 2.2.2": "invalid_request invalid_target",
    "RFC 8707 2": "invalid_target",
    "RFC 9449": "invalid_dpop_proof use_dpop_nonce",
    "RFC 9470 3": "insufficient_user_authentication",
    "OpenID Core 3.1.2.6": "interaction_required login_required account_selection_required"
    " consent_required invalid_request_uri invalid_request_object request_not_supported"
    " request_uri_not_supported registration_not_supported",
}


@pytest.mark.parametrize("standard", STANDARD)
def test_every_code_of_the_standards(standard: str) -> None:
    """Each code that a standard defines has a row, and the row names that standard."""
    named = {code: where for code, where, *_ in TOKEN_ROWS}
    for code in STANDARD[standard].split():
        assert standard in named[code]


def test_every_code_of_the_package() -> None:
    """What the package tells apart is in the table, and the table tells nothing twice."""
    codes = [row[0] for row in TOKEN_ROWS]
    assert len(codes) == len(set(codes))
    assert set(codes) >= FINAL | _FOR_LATER
    assert {row[2] for row in TOKEN_ROWS} == {row[2] for row in TOKEN_ROWS} & {
        "LoginRequired",
        "RefreshRefused",
        "RefreshUnavailable",
    }


@pytest.fixture
def api(other: EndpointServer) -> EndpointServer:
    return other


class Stack:
    """A session, its adapter and its source, and what became of the login."""

    def __init__(self, api: EndpointServer, grant: Any, token: Token, scheme: Any = None) -> None:
        self.store = MemoryStore()
        self.store.save("default", token)
        self.ended: list[LoginRequired] = []
        self.tokens = TokenSource(
            grant, self.store, on_logout=lambda source, error: self.ended.append(error)
        )
        self.url = api.url.removesuffix("token")
        self.session = requests.Session()
        self.session.mount(self.url, RefreshAdapter(self.tokens, origins=self.url, scheme=scheme))

    def get(self) -> requests.Response:
        return self.session.get(self.url + "items", timeout=PATIENCE)

    @property
    def stored(self) -> Token | None:
        return self.store.load("default")


@pytest.fixture
def stacks() -> Iterator[list[Stack]]:
    found: list[Stack] = []
    yield found
    for stack in found:
        stack.session.close()


def refused_by(stack: Stack, api: EndpointServer, kind: str) -> RefreshError:
    """What the caller of a request gets whose token the API has refused."""
    api.will(Answer(401, "", headers=[("WWW-Authenticate", 'Bearer error="invalid_token"')]))
    with pytest.raises(RefreshError) as caught:
        stack.get()
    assert type(caught.value) is getattr(requests_refresh, kind)
    assert caught.value.response is not None
    assert caught.value.response.status_code == 401
    return caught.value


@pytest.mark.parametrize("status", [400, 200])
@pytest.mark.parametrize(("code", "kind", "stored"), [(r[0], r[2], r[3]) for r in TOKEN_ROWS])
def test_in_the_reply_to_a_refresh(
    server: EndpointServer,
    api: EndpointServer,
    stacks: list[Stack],
    code: str,
    kind: str,
    stored: str,
    status: int,
) -> None:
    """The caller gets that error with the API's 401, and the stored token is or is not cleared."""
    server.will(Answer(status, {"error": code, "error_description": "said"}, headers=LATER))
    stack = Stack(api, RefreshTokenGrant(server.url, client_id="sync"), OLD)
    stacks.append(stack)
    error = refused_by(stack, api, kind)
    assert stack.stored == {"cleared": None, "stays": OLD}[stored]
    if isinstance(error, (LoginRequired, RefreshRefused)):
        assert (error.error, error.error_description) == (code, "said")
        assert code in str(error)
    if isinstance(error, RefreshUnavailable):
        assert error.retry_after == 60
    over = isinstance(error, LoginRequired)
    if over:
        wait_until(lambda: len(stack.ended) == 1)
    assert len(stack.ended) == over
    with pytest.raises(RefreshError):  # held back from, or over
        stack.tokens.renew(OLD)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("code", "kind"), [(r[0], r[4]) for r in TOKEN_ROWS], ids=[r[0] for r in TOKEN_ROWS]
)
@pytest.mark.parametrize("grant", ASKED_ANEW)
def test_with_no_refresh_token(
    server: EndpointServer,
    api: EndpointServer,
    stacks: list[Stack],
    grant: str,
    code: str,
    kind: str,
) -> None:
    """I8: nothing is ever cleared where there is no login that could end."""
    server.will(Answer(400, {"error": code}, headers=LATER))
    old = Token("old-access")
    stack = Stack(api, ASKED_ANEW[grant](server.url), old)
    stacks.append(stack)
    refused_by(stack, api, kind)
    assert stack.stored == old
    assert stack.ended == []


@pytest.mark.parametrize("code", sorted(FINAL))
def test_relogin_is_asked(
    server: EndpointServer, api: EndpointServer, stacks: list[Stack], code: str
) -> None:
    """Where a login ends and there is a `relogin`, nobody notices."""
    server.will(Answer(400, {"error": code}))
    api.will(Answer(401, ""), Answer(200, {}))
    stack = Stack(api, RefreshTokenGrant(server.url, client_id="sync"), OLD)
    stacks.append(stack)
    stack.tokens._renewal._relogin = lambda: "from-relogin"
    assert stack.get().status_code == 200
    assert api.seen[1].headers["Authorization"] == "Bearer from-relogin"
    assert stack.ended == []


@pytest.mark.parametrize(
    ("code", "status", "does", "gets", "stored"),
    [(r[0], int(r[2]), *r[3:]) for r in API_ROWS],
    ids=[f"{r[0]}-{r[2]}" for r in API_ROWS],
)
def test_from_the_api(
    server: EndpointServer,
    api: EndpointServer,
    stacks: list[Stack],
    code: str,
    status: int,
    does: str,
    gets: str,
    stored: str,
) -> None:
    """The library does what the row says: it refreshes, proves again, or hands the answer on."""
    bound = "dpop" in code
    word = "DPoP" if bound else "Bearer"
    challenge = word if code == "none" else f'{word} error="{code}"'
    headers = [("WWW-Authenticate", challenge)]
    headers += [("DPoP-Nonce", "n-1")] if code == "use_dpop_nonce" else []
    api.will(Answer(status, "", headers=headers), Answer(200, {}))
    server.will(Answer())
    old = OLD
    if bound:
        extra = {"dpop_jwk": ec_key().as_dict(private=True)}
        old = Token("old-access", refresh_token="old-refresh", token_type="DPoP", extra=extra)
    grant = RefreshTokenGrant(server.url, client_id="sync")
    stack = Stack(api, grant, old, DPoP() if bound else None)
    stacks.append(stack)
    got = stack.get().status_code
    assert got == {"this response": status, "the answer to that": 200}[gets]
    refreshes = {"nothing": 0, "proves again, sends again": 0, "refreshes, sends again": 1}[does]
    assert len(server.seen) == refreshes
    assert len(api.seen) == (1 if does == "nothing" else 2)
    assert (stack.stored == old) == (stored == "stays")
    if stored == "replaced":
        assert stack.stored is not None
        assert stack.stored.access_token == TOKEN["access_token"]
    assert stack.ended == []


@pytest.mark.parametrize(
    ("said", "gets"), [(r[0], r[2]) for r in REVOCATION_ROWS], ids=[r[0] for r in REVOCATION_ROWS]
)
def test_from_the_revocation_endpoint(server: EndpointServer, said: str, gets: str) -> None:
    """The login is over here in any case; where the provider did not end it, that is said."""
    done = Answer(200, b"", None)
    code = said.partition(" ")[0]
    answer = Answer(int(code), "") if code.isdigit() else Answer(400, {"error": code})
    server.will(*((done, answer) if said.endswith("for the access token") else (answer, done)))
    store = MemoryStore()
    grant = RefreshTokenGrant(server.url, client_id="sync", revocation_url=server.url)
    tokens = TokenSource(grant, store, token=OLD)
    tokens.token()
    cause = re.search(r"caused by (\w+)", gets)
    if cause is None:
        assert gets == "nothing more"
        tokens.logout(revoke=True)
    else:
        with pytest.raises(RefreshError, match="ended here") as caught:
            tokens.logout(revoke=True)
        assert type(caught.value) is RefreshError
        assert type(caught.value.__cause__) is getattr(requests_refresh, cause[1])
    assert len(server.seen) == 2
    assert store.load("default") is None


PAUSES = {  # before the first question and the second, where the provider names no interval
    "asks again after the interval": 5 + 5,
    "asks again, from now on 5 s later": 5 + 10,
    "asks again after a pause that grows": 5 + 10,
    "ends": 5,
}


@pytest.mark.parametrize(
    ("code", "does", "gets"), [(r[0], *r[2:]) for r in DEVICE_ROWS], ids=[r[0] for r in DEVICE_ROWS]
)
def test_while_a_person_confirms(server: EndpointServer, code: str, does: str, gets: str) -> None:
    """What a device login does about the code, and what it waits before it asks again."""
    clock = Clock()
    device_code = {
        "device_code": "device-code",
        "user_code": "ABCD",
        "verification_uri": "https://a.example",
        "expires_in": 600,
    }
    server.will(Answer(body=device_code), Answer(400, {"error": code}), Answer())
    grant = RefreshTokenGrant(server.url, client_id="tv")
    store = MemoryStore()
    tokens = TokenSource(grant, store, relogin=device(server, clock))
    if gets == "a token, in the end":
        assert tokens.token().access_token == "new-access"
        assert store.load("default") is not None
    else:
        with pytest.raises(RefreshError) as caught:
            tokens.token()
        assert type(caught.value) is getattr(requests_refresh, gets)
        assert store.load("default") is None
    assert sum(clock.slept) == pytest.approx(PAUSES[does])


def test_statuses_that_say_later() -> None:
    """408, 425, 429 and 5xx are RefreshUnavailable, whatever code comes with them."""
    with running() as server:
        for status in (408, 425, 429, 500, 503):
            server.will(Answer(status, {"error": "invalid_grant"}))
            with pytest.raises(RefreshUnavailable):
                RefreshTokenGrant(server.url, client_id="sync")(OLD)
