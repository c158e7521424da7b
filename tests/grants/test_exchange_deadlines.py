"""Sources whose grants wait for other sources: each round ends when its own time is over."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from requests_refresh import RefreshTimeout, Token, TokenSource
from tests.grants.endpoint import PATIENCE, Answer, EndpointServer
from tests.grants.support import token_exchange


@pytest.mark.parametrize("method", ["token", "renew"])
def test_a_round_does_not_outlast_its_time(server: EndpointServer, method: str) -> None:
    """I5: a round that waits for another source's ends with its own deadline, not that one's."""
    stale, go_on = Token("a0", refresh_token="r0", expires_at=1.0), threading.Event()

    def hanging(old: Token | None) -> Any:
        assert go_on.wait(PATIENCE)
        return {"access_token": "theirs", "refresh_token": "r1"}

    subject = TokenSource(hanging, token=stale)
    ask = {"token": subject.token, "renew": lambda: subject.renew(stale)}[method]
    tokens = TokenSource(token_exchange(server.url, subject_token=ask), timeout=0.3)
    with pytest.raises(RefreshTimeout):
        tokens.token()
    tick = threading.Event()
    ended = any(tokens._idle or tick.wait(0.01) for _ in range(200))  # at about the same time
    go_on.set()
    subject.close()
    server.will(Answer())
    assert ended
    assert server.seen == []
    assert tokens.token().access_token == "new-access"
    assert subject.stats.refreshes == 1  # the round that was not waited for went on
    tokens.close()
