"""`TokenExchangeGrant`: whose token is exchanged, and what becomes of that one's troubles."""

from __future__ import annotations

import math
import pickle
import threading
from typing import Any

import pytest

from requests_refresh import (
    ConfigurationError,
    RefreshRefused,
    RefreshTimeout,
    RefreshTokenGrant,
    RefreshUnavailable,
    Token,
    TokenExchangeGrant,
    TokenSource,
    remaining,
)
from requests_refresh.errors import RefreshError
from tests.adapter.support import PATIENCE, advance, crowd, name_of, wait_until
from tests.grants.endpoint import TOKEN, Answer, EndpointServer
from tests.grants.support import ACCESS_TOKEN, TOKEN_EXCHANGE, Held, token_exchange

URL = "https://auth.example.com/token"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"


def late_token() -> str:
    return "read-late"


def test_what_goes_out(server: EndpointServer) -> None:
    """The subject token and what it is, and no more than that (RFC 8693 section 2.1)."""
    server.will(Answer())
    token_exchange(server.url)(None)
    assert server.only.form == {
        "grant_type": TOKEN_EXCHANGE,
        "subject_token": "theirs",
        "subject_token_type": ACCESS_TOKEN,
        "client_id": "sync",
    }


def test_all_that_can_be_asked_for(server: EndpointServer) -> None:
    """Actor, types, audience, resource and scope are in the form (RFC 8693 section 2.1)."""
    server.will(Answer())
    TokenExchangeGrant(
        server.url,
        subject_token="theirs",
        subject_token_type=ID_TOKEN,
        actor_token=lambda: Token("ours"),
        requested_token_type=ACCESS_TOKEN,
        audience="api",
        resource="https://api.example.com/",
        scope="read",
    )(None)
    assert server.only.form == {
        "grant_type": TOKEN_EXCHANGE,
        "subject_token": "theirs",
        "subject_token_type": ID_TOKEN,
        "actor_token": "ours",
        "actor_token_type": ACCESS_TOKEN,
        "requested_token_type": ACCESS_TOKEN,
        "audience": "api",
        "resource": "https://api.example.com/",
        "scope": "read",
    }


def test_the_actor_may_be_of_another_type(server: EndpointServer) -> None:
    """What is said of the actor token is sent as it is said."""
    server.will(Answer())
    token_exchange(server.url, actor_token="ours", actor_token_type=ID_TOKEN)(None)
    assert server.only.form["actor_token_type"] == ID_TOKEN


def test_what_comes_back(server: EndpointServer) -> None:
    """The issued type is kept with the token, and a refresh token is not (RFC 8693 section 2.2)."""
    server.will(
        Answer(body={**TOKEN, "issued_token_type": ACCESS_TOKEN, "refresh_token": "unasked"}),
        Answer(body={"access_token": "assertion", "token_type": "N_A"}),
    )
    grant = token_exchange(server.url)
    token = grant(Token("old", refresh_token="r", scope="old", extra={"id": 7}))
    assert (token.access_token, token.refresh_token, token.scope) == ("new-access", None, None)
    assert dict(token.extra) == {"issued_token_type": ACCESS_TOKEN}
    assert grant(None).token_type == "N_A"


def test_a_function_is_asked_each_time(server: EndpointServer) -> None:
    """A text or a Token that a function returns is what goes out, at each attempt anew."""
    given: list[Any] = ["first", Token("second")]
    grant = token_exchange(server.url, subject_token=lambda: given[len(server.seen)])
    server.will(Answer(503, ""), Answer())
    assert TokenSource(grant).token().access_token == "new-access"
    assert [request.form["subject_token"] for request in server.seen] == ["first", "second"]


RUBBISH: list[Any] = ["", None, 7, b"CANARY", "CANARY\n", Token(refresh_token="CANARY"), {}]


@pytest.mark.parametrize("number", range(len(RUBBISH)))
def test_a_function_that_returns_rubbish(server: EndpointServer, number: int) -> None:
    """What is no token to send is refused before anything is sent."""
    for name in ("subject_token", "actor_token"):
        grant = token_exchange(server.url, **{name: lambda: RUBBISH[number]})
        with pytest.raises(ConfigurationError, match=name) as caught:
            grant(None)
        assert "CANARY" not in str(caught.value)
    assert server.seen == []


WRONG: list[dict[str, Any]] = [
    {"subject_token": ""},
    {"subject_token": None},
    {"subject_token": "CANARY\n"},
    {"subject_token": Token("CANARY")},
    {"subject_token_type": ""},
    {"actor_token": ""},
    {"actor_token": b"CANARY"},
    {"actor_token_type": ACCESS_TOKEN},
    {"actor_token": "a", "actor_token_type": ""},
    {"requested_token_type": 7},
    {"client_id": ""},
    {"client_auth": "client_secret_post"},
    {"client_id": None, "client_auth": "tls_client_auth", "cert": "c.pem"},
]


@pytest.mark.parametrize("settings", WRONG, ids=name_of)
def test_settings_that_cannot_be_right(settings: dict[str, Any]) -> None:
    """Each is a ConfigurationError at once, which shows no token."""
    with pytest.raises(ConfigurationError) as caught:
        token_exchange(URL, **settings)
    assert "CANARY" not in str(caught.value)


def test_the_token_stays_behind(server: EndpointServer) -> None:
    """I9: a pickle has no token that was given as a text; a function travels by its name."""
    grant = pickle.loads(pickle.dumps(token_exchange(server.url)))  # noqa: S301 # made on this line
    with pytest.raises(ConfigurationError, match="subject_token was left behind"):
        grant(None)
    server.will(Answer())
    again = pickle.loads(pickle.dumps(token_exchange(server.url, subject_token=late_token)))  # noqa: S301 # as above
    again(None)
    assert server.only.form["subject_token"] == "read-late"


# ---------------------------------------------- another source's token


@pytest.fixture
def subject(other: EndpointServer) -> TokenSource:
    """Somebody's login at another server, whose access token is dead by the clock."""
    return TokenSource(
        RefreshTokenGrant(other.url, client_id="login"),
        token=Token("dead", refresh_token="r1", expires_at=1.0),
    )


def test_another_source_renews_first(
    server: EndpointServer, other: EndpointServer, subject: TokenSource
) -> None:
    """I1: a crowd at the second source makes one exchange, and that one refresh at the first."""
    other.will(Answer(body={**TOKEN, "access_token": "theirs-2", "refresh_token": "r2"}))
    held = Held()
    server.will(held)
    tokens = TokenSource(token_exchange(server.url, subject_token=subject.token))
    waiting: list[Any] = []
    asking = threading.Thread(
        target=lambda: waiting.extend(crowd(lambda _: tokens.token().access_token, 20)),
        daemon=True,
    )
    asking.start()
    assert held.asked.wait(PATIENCE)
    wait_until(lambda: tokens.stats.waits == 20)
    held.release()
    asking.join(PATIENCE)
    assert waiting == ["new-access"] * 20
    assert server.only.form["subject_token"] == "theirs-2"
    assert (len(other.seen), subject.stats.refreshes) == (1, 1)


def test_the_first_sources_login_is_over(
    server: EndpointServer, other: EndpointServer, subject: TokenSource
) -> None:
    """That ends no login here: RefreshRefused says where to log in, and what is stored stays."""
    ended: list[Any] = []
    other.will(Answer(400, {"error": "invalid_grant"}))
    old = Token("old", expires_at=1.0)
    tokens = TokenSource(
        token_exchange(server.url, subject_token=subject.token),
        token=old,
        on_logout=lambda *args: ended.append(args),
    )
    with pytest.raises(RefreshRefused, match="Log in there") as caught:
        tokens.token()
    assert caught.value.error == "invalid_grant"
    assert (server.seen, ended) == ([], [])
    assert tokens._place.load() == old


def test_a_login_at_the_first_is_enough(
    server: EndpointServer, other: EndpointServer, subject: TokenSource
) -> None:
    """When somebody has logged in at the first source again, the second goes on by itself."""
    other.will(Answer(400, {"error": "invalid_grant"}))
    tokens = TokenSource(token_exchange(server.url, subject_token=subject.token))
    with pytest.raises(RefreshRefused):
        tokens.token()
    subject.login(Token("theirs-3", refresh_token="r3"))
    advance(tokens, 3600)
    server.will(Answer())
    assert tokens.token().access_token == "new-access"
    assert server.only.form["subject_token"] == "theirs-3"


def test_a_living_token_outlives_the_first_login(
    server: EndpointServer, other: EndpointServer, subject: TokenSource
) -> None:
    """What was exchanged lives on by its own clock, whatever became of the login behind it."""
    server.will(Answer())
    tokens = TokenSource(token_exchange(server.url, subject_token=lambda: "theirs"))
    token = tokens.token()
    subject.logout()
    assert tokens.token() is token


def test_the_first_source_is_out_of_reach(
    server: EndpointServer, other: EndpointServer, subject: TokenSource
) -> None:
    """I8: an outage there is an outage here: nothing is cleared, and Retry-After is heeded."""
    other.will(Answer(503, "", headers=[("Retry-After", "77")]))
    ended: list[Any] = []
    tokens = TokenSource(
        token_exchange(server.url, subject_token=subject.token),
        token=Token("old", expires_at=1.0),
        on_logout=lambda *args: ended.append(args),
    )
    with pytest.raises(RefreshUnavailable) as caught:
        tokens.token()
    assert caught.value.retry_after == 77
    assert (server.seen, ended, len(other.seen)) == ([], [], 1)
    stored = tokens._place.load()
    assert stored is not None
    assert stored.access_token == "old"


def test_its_own_token_is_no_subject(server: EndpointServer) -> None:
    """A source whose grant asks that very source is told so, and nobody hangs."""
    found: list[TokenSource] = []
    tokens = TokenSource(token_exchange(server.url, subject_token=lambda: found[0].token()))
    found.append(tokens)
    with pytest.raises(RefreshError, match="would wait for itself"):
        tokens.token()
    assert server.seen == []


def test_who_asks_may_look_at_the_time(server: EndpointServer) -> None:
    """`remaining()` tells a function for the subject token how long its round still has."""
    seen: list[float] = []

    def bounded() -> str:
        seen.append(remaining())
        return "theirs"

    server.will(Answer(), Answer())
    TokenSource(token_exchange(server.url, subject_token=bounded), timeout=40).token()
    token_exchange(server.url, subject_token=bounded)(None)
    assert 0 < seen[0] <= 40
    assert seen[1] == math.inf


def test_a_first_source_that_hangs(server: EndpointServer, other: EndpointServer) -> None:
    """I3: callers end at their own deadline, and the round when the first source answers."""
    held = Held()
    other.will(held)
    subject = TokenSource(
        RefreshTokenGrant(other.url, client_id="login"), token=Token(refresh_token="r")
    )
    tokens = TokenSource(token_exchange(server.url, subject_token=subject.token))
    with pytest.raises(RefreshTimeout, match="the renewal goes on"):
        tokens.token(timeout=0.05)
    assert held.asked.wait(PATIENCE)
    server.will(Answer())
    held.release()
    assert tokens.token().access_token == "new-access"
    assert (len(other.seen), len(server.seen)) == (1, 1)


def test_no_time_is_left_to_exchange(server: EndpointServer) -> None:
    """I5: a subject token that comes when the round is over is not exchanged any more."""
    found: list[TokenSource] = []

    def slow() -> str:
        advance(found[0], 60)  # longer than the round's time
        return "theirs"

    tokens = TokenSource(token_exchange(server.url, subject_token=slow))
    found.append(tokens)
    with pytest.raises(RefreshTimeout):
        tokens.token()
    assert server.seen == []
