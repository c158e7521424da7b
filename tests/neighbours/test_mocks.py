"""requests-mock and responses beside us: what works, and what bypasses the mounted adapter."""

from __future__ import annotations

import requests
import requests_mock
import responses

from requests_refresh import RefreshAdapter, Token, TokenSource

API = "https://api.example.com/"


def source() -> TokenSource:
    return TokenSource(lambda token: Token("new", refresh_token="r"), token=Token("old"))


def test_requests_mock_as_inner() -> None:
    """I2: its adapter as `inner` is asked with a token, refuses it, and is asked again."""
    mock, tokens = requests_mock.Adapter(), source()
    mock.register_uri("GET", API, [{"status_code": 401}, {"text": "ok"}])
    with requests.Session() as session:
        session.mount(API, RefreshAdapter(tokens, origins=API, inner=mock))
        assert session.get(API).text == "ok"
    sent = [request.headers["Authorization"] for request in mock.request_history]
    assert sent == ["Bearer old", "Bearer new"]
    tokens.close()


def test_the_mocker_of_requests_mock_bypasses() -> None:
    """`Mocker()` takes the place of `get_adapter`, so what is mounted is not asked at all."""
    tokens = source()
    with requests.Session() as session, requests_mock.Mocker() as mock:
        session.mount(API, RefreshAdapter(tokens, origins=API))
        mock.get(API, status_code=401)
        assert session.get(API).status_code == 401
        assert "Authorization" not in mock.last_request.headers
    assert tokens.stats.replays == 0
    tokens.close()


@responses.activate
def test_responses_stands_in_for_the_wire() -> None:
    """I2: it takes the place of `HTTPAdapter.send`, below us: tokens and repetitions work."""
    tokens = source()
    responses.get(API, status=401)
    responses.get(API, body="ok")
    with requests.Session() as session:
        session.mount(API, RefreshAdapter(tokens, origins=API))
        assert session.get(API).text == "ok"
    sent = [call.request.headers["Authorization"] for call in responses.calls]
    assert sent == ["Bearer old", "Bearer new"]
    tokens.close()
