"""`DeviceLogin` against a provider on loopback that answers as a test says (RFC 8628)."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from requests_refresh import (
    ConfigurationError,
    InvalidReply,
    LoginRequired,
    RefreshRefused,
    RefreshTimeout,
    RefreshUnavailable,
)
from requests_refresh.logins import DeviceLogin
from requests_refresh.logins import base as logins_base
from tests.grants.endpoint import Answer, Behaviour, EndpointServer, reset
from tests.logins.support import DEVICE, ISSUED, Clock, Prompts, device, says

PENDING = says("authorization_pending")


def test_a_login(server: EndpointServer) -> None:
    """The code is shown, the provider asked at its interval, and what it issues is kept."""
    clock, prompts = Clock(), Prompts()
    server.will(Answer(200, DEVICE), PENDING, PENDING, Answer(200, ISSUED))
    login = device(
        server, clock, show=prompts, scope=["read", "write"], resource="https://api.test/"
    )
    before = time.time()
    token = login()
    assert (token.access_token, token.refresh_token) == (
        ISSUED["access_token"],
        ISSUED["refresh_token"],
    )
    (prompt,) = prompts
    assert prompt.user_code == DEVICE["user_code"]
    assert prompt.verification_uri == DEVICE["verification_uri"]
    assert prompt.verification_uri_complete == DEVICE["verification_uri_complete"]
    assert before + 1800 <= prompt.expires_at <= time.time() + 1800
    assert sum(clock.slept) == 15.0
    begun, *polls = server.seen
    assert begun.path == "/device"
    assert begun.form == {
        "client_id": "tv",
        "scope": "read write",
        "resource": "https://api.test/",
    }
    for poll in polls:
        assert poll.path == "/token"
        assert poll.form == {
            "client_id": "tv",
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
            "device_code": DEVICE["device_code"],
            "resource": "https://api.test/",
        }


def test_a_client_with_a_secret(server: EndpointServer) -> None:
    """The client proves who it is at both endpoints, and `extra` goes to both."""
    server.will(Answer(200, DEVICE), Answer(200, ISSUED))
    device(server, Clock(), client_secret="s", extra={"tenant": "t"})()
    for seen in server.seen:
        assert seen.headers["Authorization"].startswith("Basic ")
        assert seen.form["tenant"] == "t"
        assert "client_id" not in seen.form


def test_names_and_forms_of_other_providers(server: EndpointServer) -> None:
    """Google's `verification_url`, numbers as texts, no interval, and pending with status 200."""
    prompts, clock = Prompts(), Clock()
    reply = {name: DEVICE[name] for name in ("device_code", "user_code")}
    reply |= {"verification_url": "https://www.google.test/device#/code", "expires_in": "600"}
    server.will(Answer(200, reply), says("Authorization_Pending", 200), Answer(200, ISSUED))
    device(server, clock, show=prompts)()
    assert prompts[0].verification_uri == reply["verification_url"]
    assert prompts[0].verification_uri_complete is None
    assert sum(clock.slept) == 10.0


def test_slow_down(server: EndpointServer) -> None:
    """`slow_down` adds five seconds, for good (RFC 8628 section 3.5)."""
    clock = Clock()
    server.will(
        Answer(200, DEVICE),
        says("slow_down"),
        PENDING,
        says("slow_down", 403),
        PENDING,
        Answer(200, ISSUED),
    )
    device(server, clock)()
    assert sum(clock.slept) == 5 + 10 + 10 + 15 + 15


def test_an_outage_while_polling(server: EndpointServer) -> None:
    """I8: a network that fails, 5xx and 429 slow the polling down, and do not end the login."""
    clock = Clock()
    server.will(
        Answer(200, DEVICE),
        reset,
        Answer(503),
        says("temporarily_unavailable"),
        Answer(429, headers=[("Retry-After", "77")]),
        PENDING,
        Answer(200, ISSUED),
    )
    device(server, clock)()
    assert sum(clock.slept) == 5 + 10 + 20 + 40 + 77 + 5


def test_polls_that_fail_come_a_minute_apart_at_most(server: EndpointServer) -> None:
    """The pause doubles up to a minute, unless the provider itself wants more."""
    clock = Clock()
    server.will(Answer(200, DEVICE), *[reset] * 6, Answer(200, ISSUED))
    device(server, clock)()
    assert sum(clock.slept) == 5 + 10 + 20 + 40 + 60 + 60 + 60


@pytest.mark.parametrize(
    "error", ["access_denied", "expired_token", "authorization_declined", "invalid_grant"]
)
def test_a_person_who_refuses(server: EndpointServer, error: str) -> None:
    """No, and a code that has expired, are LoginRequired, in the provider's words."""
    server.will(Answer(200, DEVICE), says(error, error_description="not today"))
    with pytest.raises(LoginRequired, match=rf"\({error}: not today\)") as caught:
        device(server, Clock())()
    assert (caught.value.error, caught.value.error_description) == (error, "not today")
    assert "refresh token" not in str(caught.value)


@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client", "invalid_scope"])
def test_a_client_that_is_refused(server: EndpointServer, error: str) -> None:
    """Other errors are RefreshRefused: a setting is wrong, at either endpoint."""
    server.will(Answer(200, DEVICE), says(error))
    with pytest.raises(RefreshRefused, match=error):
        device(server, Clock())()
    server.will(says(error, 401))
    with pytest.raises(RefreshRefused, match=error):
        device(server, Clock())()


def test_a_code_that_expires(server: EndpointServer) -> None:
    """When too little of the code's life is left for another poll, it is LoginRequired at once."""
    clock = Clock()
    server.will(Answer(200, {**DEVICE, "expires_in": 14}), PENDING, PENDING)
    with pytest.raises(LoginRequired, match="before anybody confirmed"):
        device(server, clock)()
    assert sum(clock.slept) == 10.0
    assert len(server.seen) == 3


def test_the_rounds_time_is_over(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the round's time is over it is RefreshTimeout, which says what to do."""
    clock = Clock()
    monkeypatch.setattr(logins_base, "remaining", lambda: 1012.0 - clock.now)
    server.will(Answer(200, DEVICE), PENDING, PENDING)
    with pytest.raises(RefreshTimeout, match=r"tokens\.login\(login\(\)\)"):
        device(server, clock)()
    assert sum(clock.slept) == 10.0


def test_the_process_ends(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """I14: the end of the process waits for the round, so the round does not wait for a person."""
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        monkeypatch.setattr("requests_refresh.lifecycle._ending_since", 1.0)

    server.will(Answer(200, DEVICE))
    login = device(server, clock)
    login._sleep = sleep
    with pytest.raises(RefreshTimeout, match="process is ending"):
        login()
    assert len(clock.slept) == 1


def test_no_code_can_be_had(server: EndpointServer, nobody: str) -> None:
    """I8: an outage before a code was shown is for renewal to try again; nothing was shown."""
    prompts = Prompts()
    server.will(Answer(503, headers=[("Retry-After", "9")]), says("slow_down"))
    with pytest.raises(RefreshUnavailable) as caught:
        device(server, show=prompts)()
    assert caught.value.retry_after == 9.0
    with pytest.raises(RefreshUnavailable):
        device(server, show=prompts)()
    gone = DeviceLogin(server.url, device_url=f"http://{nobody}/", client_id="tv", show=prompts)
    with pytest.raises(RefreshUnavailable):
        gone()
    assert prompts == []


def test_no_code_for_this_login(server: EndpointServer) -> None:
    """A final error of the device endpoint is LoginRequired."""
    server.will(says("access_denied", 403))
    with pytest.raises(LoginRequired, match="access_denied"):
        device(server)()


ESCAPE = "\x1b]8;;https://evil.test\x07"
HOSTILE: dict[str, Any] = {
    "no code": {"device_code": None},
    "empty code": {"device_code": ""},
    "code of another type": {"device_code": ["x"]},
    "code with a line": {"device_code": "a\nb"},
    "no user code": {"user_code": ""},
    "blank user code": {"user_code": "  "},
    "escape in user code": {"user_code": f"A{ESCAPE}B"},
    "line in user code": {"user_code": "A\nYou won. Open https://evil.test"},
    "right to left": {"user_code": "AB\u202eCD"},
    "endless user code": {"user_code": "A" * 5000},
    "a user code just too long": {"user_code": "A" * 65},
    "no uri": {"verification_uri": None},
    "plain http": {"verification_uri": "http://auth.example.com/device"},
    "script": {"verification_uri": "javascript:alert(1)"},
    "a user name": {"verification_uri": "https://auth.example.com@evil.test/"},
    "escape in uri": {"verification_uri": f"https://auth.example.com/{ESCAPE}"},
    "space in uri": {"verification_uri": "https://auth.example.com/ or https://evil.test/"},
    "not ASCII": {"verification_uri": "https://\u0430uth.example.com/"},
    "complete uri plain": {"verification_uri_complete": "http://evil.test/?c=1"},
    "complete uri escape": {"verification_uri_complete": f"https://a.test/{ESCAPE}"},
    "no life": {"expires_in": None},
    "life of nothing": {"expires_in": 0},
    "life below": {"expires_in": -1},
    "life of another type": {"expires_in": True},
    "life as rubbish": {"expires_in": "soon"},
    "endless life": {"expires_in": 1e400},
    "huge life": {"expires_in": 10**400},
    "a year": {"expires_in": 31536000},
    "life as NaN": {"expires_in": math.nan},
    "interval below": {"interval": -5},
    "interval as NaN": {"interval": math.nan},
    "interval as a list": {"interval": [5]},
    "interval beyond the life": {"interval": 1800},
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_values(server: EndpointServer, change: dict[str, Any]) -> None:
    """What a terminal or a person could be misled by is refused, and nothing is shown."""
    prompts = Prompts()
    server.will(Answer(200, {**DEVICE, **change}))
    with pytest.raises(InvalidReply, match="no code that could be shown") as caught:
        device(server, Clock(), show=prompts)()
    assert prompts == []
    assert str(caught.value).isprintable()
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [
        Answer(200, "<html>login</html>", "text/html"),
        Answer(200, [DEVICE]),
        Answer(200, "[" * 100_000),
        Answer(200, "x" * (2**20 + 1)),
        Answer(200, "access_token=a&device_code=d", "application/x-www-form-urlencoded"),
        Answer(200, {"access_token": "a"}),
    ],
    ids=["page", "list", "deep", "huge", "form", "token"],
)
def test_no_reply_of_a_device_endpoint(server: EndpointServer, reply: Behaviour) -> None:
    """What is no such reply at all is InvalidReply."""
    server.will(reply)
    with pytest.raises(InvalidReply, match="device authorization endpoint"):
        device(server)()


def test_an_interval_of_nothing(server: EndpointServer) -> None:
    """An interval of 0 is no leave to ask without end: a second it is, at least."""
    clock = Clock()
    server.will(Answer(200, {**DEVICE, "interval": 0}), PENDING, Answer(200, ISSUED))
    device(server, clock)()
    assert sum(clock.slept) == 2.0


def test_rubbish_in_place_of_a_token(server: EndpointServer) -> None:
    """A reply with neither token nor error ends the login as InvalidReply."""
    server.will(Answer(200, DEVICE), Answer(200, {"token": "x"}))
    with pytest.raises(InvalidReply):
        device(server, Clock())()


def test_the_prompt_on_standard_error(
    server: EndpointServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without `show`, two plain lines say all that a person needs, and the code is none of it."""
    bare = {**DEVICE, "verification_uri_complete": None, "expires_in": 60}
    server.will(Answer(200, DEVICE), Answer(200, ISSUED), Answer(200, bare), Answer(200, ISSUED))
    device(server, Clock(), show=None)()
    device(server, Clock(), show=None)()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "To log in, open https://auth.example.com/device and enter WDJB-MJHT",
        "(within 30 min, or open https://auth.example.com/device?user_code=WDJB-MJHT)",
        "To log in, open https://auth.example.com/device and enter WDJB-MJHT",
        "(within 1 min)",
    ]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"device_url": "http://auth.example.com/device"}, "device_url"),
        ({"show": "loudly"}, "show"),
        ({"token_url": "ftp://x/"}, "token_url"),
        ({"client_id": ""}, "client_id"),
    ],
)
def test_settings_that_cannot_be_right(settings: dict[str, Any], problem: str) -> None:
    """A wrong setting is said at construction."""
    right: dict[str, Any] = {"device_url": "https://a.test/device", "client_id": "tv"}
    given = {"token_url": "https://a.test/token", **right, **settings}
    with pytest.raises(ConfigurationError, match=problem):
        DeviceLogin(given.pop("token_url"), **given)
