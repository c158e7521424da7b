"""What begins a line of the log ends none: nobody forges a line by his name."""

from __future__ import annotations

import logging

import pytest

from requests_refresh import ConfigurationError, TokenPool, TokenSource

NAMES = ["bob\nERROR sync: the login is over", "bob\r", "\x1b[2Jbob", "bob\x85", "\ud800"]


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_an_identity_with_a_control_character(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An identity that could end a line or steer a terminal is refused, in a pool too."""
    caplog.set_level(logging.DEBUG)
    pool = TokenPool(lambda name: TokenSource(lambda token: "new", identity=name), maxsize=9)
    with pytest.raises(ConfigurationError, match="identity"):
        pool[NAMES[number]].token()
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["Bób O'Hara", "نور‌", "a:b/c%{}"])
def test_an_identity_of_any_script(name: str) -> None:
    """All other names are good, whatever they are written in."""
    assert TokenSource(lambda token: "new", identity=name).token().access_token == "new"
