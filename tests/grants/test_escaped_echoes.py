"""I9: a secret that a provider repeats is not quoted, in whatever way the repetition is escaped."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest

from requests_refresh import RefreshError, RefreshTokenGrant, Token
from requests_refresh.grants.replies import quotable
from tests.grants.endpoint import Answer, EndpointServer

REFRESH = "abc/def+CANARY=="  # as base64 has it
PASSWORD = 'CANARY "pä\\ss" & <more>\''

ESCAPES: dict[str, Callable[[str], str]] = {
    "URL": quote,
    "URL in a URL": lambda text: quote(quote(text, safe=""), safe=""),
    "URL in small letters": lambda text: quote(text, safe="").lower(),
    "JSON of PHP": lambda text: json.dumps(text).replace("/", "\\/"),
    "JSON of JavaScript": lambda text: json.dumps(json.dumps(text, ensure_ascii=False)),
    "JSON by numbers": lambda text: "".join(
        sign if sign.isalnum() else f"\\u{ord(sign):04x}" for sign in text
    ),
    "HTML": lambda text: html.escape(html.escape(text)),
    "HTML by numbers": lambda text: "".join(
        sign if sign.isalnum() else f"&#{ord(sign)};" for sign in text
    ),
    "HTML by hexadecimal numbers": lambda text: "".join(
        sign if sign.isalnum() else f"&#x{ord(sign):X};" for sign in text
    ),
}


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES.keys())
def test_a_password(escape: Callable[[str], str]) -> None:
    """What cannot be cut out is not quoted at all."""
    assert quotable(f"no {escape(PASSWORD)} here", [PASSWORD]) is None


@pytest.mark.parametrize("name", ["URL", "JSON of PHP", "HTML by numbers"])
def test_a_refresh_token(server: EndpointServer, name: str) -> None:
    """A provider that quotes the request it got, as its framework writes it."""
    server.will(
        Answer(400, {"error": "invalid_request", "error_description": ESCAPES[name](REFRESH)})
    )
    with pytest.raises(RefreshError) as caught:
        RefreshTokenGrant(server.url, client_id="sync")(Token(refresh_token=REFRESH))
    assert "CANARY" not in f"{caught.value} {vars(caught.value)}"


def test_what_is_no_secret_stays() -> None:
    """Escapes that say no secret are quoted as they came."""
    said = "100%25 of a%20b &amp; \\u0041\\/&#0; &#x10ffff;"
    assert quotable(said, [REFRESH, "\\", ""]) == said.replace("\\", "***")


def test_two_that_overlap() -> None:
    """One secret within another, or at its end, leaves nothing of either."""
    assert quotable("abcdef abcde cdef x", ["abcde", "cdef"]) == "***f *** *** x"


def test_two_that_overlap_escaped() -> None:
    """The same where both are found below the escapes: nothing is quoted."""
    assert quotable("no %61%62%63%64 x", ["abc", "bcd"]) is None


def test_too_long_to_search() -> None:
    """Of an error text without measure nothing is quoted."""
    assert quotable("a" * 2**17, [REFRESH]) is None
