"""What the log says for programs: attributes on each record, beside the words."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import requests_refresh
from requests_refresh import LoginRequired, Token, TokenSource
from requests_refresh.logs import EVENTS, log


def test_the_levels_and_attributes(caplog: pytest.LogCaptureFixture) -> None:
    """A refresh is INFO, a lost login ERROR; each record tells whose it is and what happened."""

    def grant(token: Token | None) -> Token:
        if token is not None and token.refresh_token == "r2":
            raise LoginRequired("over")
        return Token("a2", refresh_token="r2")

    source = TokenSource(grant, identity="ann", token=Token(refresh_token="r1"))
    with caplog.at_level(logging.DEBUG, "requests_refresh"):
        first = source.token()
        with pytest.raises(LoginRequired):
            source.renew(first)
        source.close()
    told = [(r.levelname, vars(r)["identity"], vars(r)["refresh_event"]) for r in caplog.records]
    assert told == [("INFO", "ann", "refreshed"), ("ERROR", "ann", "login_lost")]


@pytest.mark.parametrize("message", ["no identity", "%s", 5])
def test_a_line_about_nobody(message: object, caplog: pytest.LogCaptureFixture) -> None:
    """What is about no login says so, and what is no text does no harm."""
    with caplog.at_level(logging.INFO, "requests_refresh"):
        log.info(message)
        log.info("%s: something new of %s", "ann", "hers")
    nobody, other = caplog.records
    assert (vars(nobody)["identity"], vars(nobody)["refresh_event"]) == (None, None)
    assert (vars(other)["identity"], vars(other)["refresh_event"]) == ("ann", None)


def test_every_event_is_one_that_is_logged() -> None:
    """No name is left over from a line that is no longer logged."""
    package = Path(requests_refresh.__file__).parent
    code = "".join(
        path.read_text("utf-8") for path in package.rglob("*.py") if path.name != "logs.py"
    )
    for text in EVENTS:
        assert f'"%s: {text}' in code
