"""`BrowserLogin`: which answers count, whose they are, and what they mean (RFC 6749, RFC 9207)."""

from __future__ import annotations

from collections.abc import Callable

import oauthlib.oauth2  # type: ignore[import-untyped]  # it has no types
import pytest

from requests_refresh import LoginRequired, RefreshRefused, RefreshUnavailable
from requests_refresh.logins import BrowserLogin
from requests_refresh.logins.browser import _WELCOME, _Answer
from tests.grants.endpoint import PATIENCE, Answer, EndpointServer
from tests.logins.support import ISSUED, Person, agrees, browser, fetch

WRONG: dict[str, Callable[[str, str], str]] = {
    "no state": lambda redirect, state: f"{redirect}?code=evil",
    "wrong state": lambda redirect, state: f"{redirect}?code=evil&state=x{state}",
    "error without state": lambda redirect, state: f"{redirect}?error=access_denied",
    "two states": lambda redirect, state: f"{redirect}?code=evil&state=x&state={state}",
    "two codes": lambda redirect, state: f"{redirect}?code=evil&code=good&state={state}",
    "no code": lambda redirect, state: f"{redirect}?state={state}",
    "nothing": lambda redirect, state: redirect,
    "endless": lambda redirect, state: f"{redirect}?state={state}&code=evil" + "&a=" * 60,
    "no bytes": lambda redirect, state: f"{redirect}?state=%ff%fe&code=evil",
    "another path": lambda redirect, state: f"{redirect}/x?code=evil&state={state}",
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_what_is_no_answer(server: EndpointServer, wrong: Callable[[str, str], str]) -> None:
    """What is not of this login is refused, changes nothing, and the right answer still counts."""
    refused: list[int] = []

    def act(redirect: str, query: dict[str, str]) -> str:
        refused.append(fetch(wrong(redirect, query["state"])).status)
        return agrees(redirect, query)

    server.will(Answer(200, ISSUED))
    person = Person(act)
    browser(server, open=person)()
    assert refused[0] in (400, 404)
    assert server.only.form["code"] == "CANARY+code"
    assert person.done.wait(PATIENCE)


def test_the_first_answer_counts() -> None:
    """A browser may load the page twice before it is looked at; it is thanked twice."""
    client = oauthlib.oauth2.WebApplicationClient("cli")
    answered = _Answer(client, "s")
    pages = {answered.taken("state=s&code=1"), answered.taken("state=s&code=2")}
    assert pages == {_WELCOME}
    assert answered.fields == {"state": "s", "code": "1"}


def ends_with(query: str) -> Person:
    return Person(lambda redirect, sent: f"{redirect}?{query}&state={sent['state']}")


ERROR = "error=access_denied&iss=https://evil.test"
ISSUER = "https://auth.example.com"


@pytest.mark.parametrize(
    "query",
    ["code=evil&iss=https://evil.test", "code=evil&iss=https://auth.example.com/", ERROR],
    ids=["other", "slash", "error"],
)
def test_an_answer_of_another_issuer(server: EndpointServer, query: str) -> None:
    """RFC 9207: an answer that names another issuer ends the login, and its code goes nowhere."""
    with pytest.raises(RefreshRefused, match="another provider's"):
        browser(server, open=ends_with(query), issuer=ISSUER)()
    assert server.seen == []


def test_an_answer_of_this_issuer(server: EndpointServer) -> None:
    """RFC 9207: the issuer itself may be named, and need not be by a provider that never does."""
    server.will(Answer(200, ISSUED), Answer(200, ISSUED), Answer(200, ISSUED))
    browser(server, open=ends_with(f"code=c&iss={ISSUER}"), issuer=ISSUER)()
    browser(server, open=ends_with("code=c"), issuer=ISSUER)()
    browser(server, open=ends_with("code=c&iss=https://whoever.test"))()


def test_an_issuer_that_names_itself(server: EndpointServer) -> None:
    """RFC 9207: with metadata that promises an `iss`, an answer without one is refused."""
    issuer = server.url.replace("/token", "")
    metadata = {
        "issuer": issuer,
        "token_endpoint": server.url,
        "authorization_endpoint": f"{issuer}/authorize",
        "authorization_response_iss_parameter_supported": True,
    }
    server.will(Answer(200, metadata), Answer(200, ISSUED))
    for query in (f"code=c&iss={issuer}", "code=c"):
        person = ends_with(query)
        login = BrowserLogin.discover(issuer, client_id="cli", open=person, timeout=20, wait=30)
        if "iss" in query:
            assert login().access_token == ISSUED["access_token"]
        else:
            with pytest.raises(RefreshRefused, match="did not say whose"):
                login()


@pytest.mark.parametrize("error", ["access_denied", "login_required", "made_up"])
def test_a_person_who_refuses(server: EndpointServer, error: str) -> None:
    """An error that comes back is LoginRequired, in the provider's words, made printable."""
    person = ends_with(f"error={error}&error_description=not%1b%5B31mtoday")
    with pytest.raises(LoginRequired, match=error) as caught:
        browser(server, open=person)()
    assert (caught.value.error, caught.value.error_description) == (error, "not[31mtoday")
    assert str(caught.value).isprintable()
    assert server.seen == []


@pytest.mark.parametrize("error", ["invalid_scope", "unauthorized_client", "invalid_request"])
def test_a_client_that_is_refused(server: EndpointServer, error: str) -> None:
    """An error about the client is RefreshRefused: a setting is wrong, not the person."""
    with pytest.raises(RefreshRefused, match=error) as caught:
        browser(server, open=ends_with(f"error={error}"))()
    assert caught.value.error == error


@pytest.mark.parametrize("error", ["server_error", "temporarily_unavailable"])
def test_a_provider_that_cannot(server: EndpointServer, error: str) -> None:
    """I8: an outage that the browser reports is RefreshUnavailable, and nothing is opened again."""
    with pytest.raises(RefreshUnavailable, match=error) as caught:
        browser(server, open=ends_with(f"error={error}"))()
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 1.0
