"""AuthServer's faults: what goes wrong, at which call, and what is done before it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from requests.exceptions import RequestException

from requests_refresh.testing import AuthServer, Fault

JOIN = 30.0  # seconds; only a hanging test needs them
LOST = requests.exceptions.ConnectionError


def refresh(server: AuthServer, token: str, timeout: float = JOIN) -> requests.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return requests.post(server.token_url, data=form, timeout=timeout)


def test_status_headers_and_body_for_the_next_calls(server: AuthServer) -> None:
    """503 with Retry-After to the next two refreshes: nothing is spent, the third is granted."""
    token = server.login()["refresh_token"]
    server.faults("token", Fault(status=503, headers={"Retry-After": "7"}, body="no"), times=2)
    for _ in range(2):
        answer = refresh(server, token)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
        assert (answer.text, answer.headers["Content-Type"]) == ("no", "text/plain; charset=utf-8")
    assert refresh(server, token).status_code == 200
    counts = server.counts
    assert (counts.refresh_calls, counts.refreshes, counts.refresh_refused) == (3, 1, 0)


def test_headers_of_a_fault_may_be_pairs_and_frame_the_body_themselves(server: AuthServer) -> None:
    """A fault may send two challenges, its own type, and a length that lies."""
    challenges = [("WWW-Authenticate", "Basic"), ("WWW-Authenticate", "Bearer")]
    headers = [*challenges, ("Content-Type", "application/json"), ("Content-Length", "2")]
    server.faults("/api/x", Fault(status=401, headers=headers, body=b"{}"))
    answer = requests.get(server.api + "x", timeout=JOIN)
    assert answer.raw.headers.getlist("WWW-Authenticate") == ["Basic", "Bearer"]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {}
    assert server.counts.api_401 == 1


def test_the_first_refresh_is_held_until_the_event(server: AuthServer) -> None:
    """A held call has arrived and is counted, its work is not done; the event lets it go on."""
    token, go = server.login()["refresh_token"], threading.Event()
    server.faults("token", Fault(hold=go), at=1)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(refresh, server, token)
        assert server.wait_for("refresh_calls").refreshes == 0
        go.set()
        assert held.result(JOIN).status_code == 200


def test_after_work_holds_the_answer_only(server: AuthServer) -> None:
    """`after_work`: the rotation is done while its reply is still held."""
    token, go = server.login()["refresh_token"], threading.Event()
    server.faults("token", Fault(hold=go, after_work=True))
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(refresh, server, token)
        server.wait_for("refreshes")
        go.set()
        assert held.result(JOIN).json()["refresh_token"] != token


@pytest.mark.parametrize("done", [False, True])
def test_reset(server: AuthServer, done: bool) -> None:
    """A reset before the work spends nothing; after it, the reply is lost and the token spent."""
    token = server.login()["refresh_token"]
    server.faults("token", Fault(reply="reset", after_work=done))
    with pytest.raises(LOST, match="reset by peer"):
        refresh(server, token)
    assert server.counts.refreshes == done
    assert refresh(server, token).status_code == (400 if done else 200)


def test_a_reply_cut_in_the_middle(server: AuthServer) -> None:
    """A cut reply was a full refresh at the provider, and half a body at the client."""
    token = server.login()["refresh_token"]
    server.faults("token", Fault(reply="cut"))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        refresh(server, token)
    assert server.counts.refreshes == 1


def test_silence(server: AuthServer) -> None:
    """Silence ends with the client's patience, and then its connection is given back."""
    token = server.login()["refresh_token"]
    server.faults("token", Fault(reply="silence"))
    with pytest.raises(requests.exceptions.ReadTimeout):
        refresh(server, token, timeout=0.1)
    assert server.wait_for(lambda counts: counts.connections_open == 0).refreshes == 0


def test_drip_sends_it_all_in_time(server: AuthServer) -> None:
    """A dripping answer is whole in the end."""
    server.faults("api", Fault(status=401, body={"error": "x"}, reply="drip", pause=0.001))
    assert requests.get(server.api + "x", timeout=JOIN).json() == {"error": "x"}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(reply="silence"),
        Fault(delay=3600.0),
        Fault(hold=threading.Event()),
    ],
)
def test_stop_ends_every_fault(server: AuthServer, fault: Fault) -> None:
    """A fault that would last for ever ends with the server."""
    server.faults("api", fault)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(requests.get, server.api + "x", timeout=JOIN)
        server.wait_for("api_requests")
        server.stop()
        assert isinstance(asked.exception(JOIN), (RequestException, type(None)))
    assert server.counts.connections_open == 0


def test_stop_ends_a_drip(server: AuthServer) -> None:
    """An answer whose headers have come and whose body drips for ever ends with the server."""
    server.faults("api", Fault(status=200, body=b"x" * 100, reply="drip", pause=3600.0))
    with requests.get(server.api + "x", stream=True, timeout=JOIN) as answer:
        server.stop()
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            answer.content  # noqa: B018  # reading it is what fails
    assert server.counts.connections_open == 0


def test_a_delay_comes_before_the_answer(server: AuthServer) -> None:
    """The call lasts at least as long as the delay."""
    server.faults("api", Fault(delay=0.05))
    began = time.monotonic()
    requests.get(server.api + "x", timeout=JOIN)
    assert time.monotonic() - began >= 0.05


def statuses(server: AuthServer, calls: int, path: str = "x") -> list[int]:
    return [requests.get(server.api + path, timeout=JOIN).status_code for _ in range(calls)]


def test_which_call_a_fault_befalls(server: AuthServer) -> None:
    """`at` counts every call and goes first; `times` counts those that no earlier fault took."""
    server.faults("api", Fault(status=501), times=2)
    server.faults("/api/x", Fault(status=503), at=2)
    server.faults("api", Fault(status=504), at=5)
    server.faults("api", Fault(status=502), times=1)
    assert statuses(server, 6) == [501, 503, 501, 502, 504, 401]


def test_faults_for_good_until_cleared(server: AuthServer) -> None:
    """`times=None` lasts until `clear_faults`; a path is not its neighbour."""
    server.faults("/api/x", Fault(status=500), times=None)
    assert statuses(server, 3) == [500] * 3
    assert statuses(server, 1, "y") == [401]
    assert statuses(server, 1, "x?a=1") == [500]
    server.clear_faults()
    assert statuses(server, 1) == [401]


@pytest.mark.parametrize(("where", "at"), [("tokens", None), ("token", 0)])
def test_a_fault_that_could_never_come_is_an_error(
    server: AuthServer, where: str, at: int | None
) -> None:
    """A misspelt call or an impossible number is told at once."""
    with pytest.raises(ValueError, match="call"):
        server.faults(where, Fault(), at=at)


def test_a_late_refusal_can_be_played(server: AuthServer) -> None:
    """A 401 decided on before a refresh and sent after it: what a late 401 is."""
    reply, go = server.login(), threading.Event()
    headers = {"Authorization": f"Bearer {reply['access_token']}"}
    server.expire()
    server.faults("/api/late", Fault(hold=go, after_work=True))
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(requests.get, server.api + "late", headers=headers, timeout=JOIN)
        server.wait_for("expiries")
        assert refresh(server, reply["refresh_token"]).status_code == 200
        go.set()
        answer: Any = late.result(JOIN)
    assert answer.status_code == 401
