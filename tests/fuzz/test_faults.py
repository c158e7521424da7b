"""What fuzzing has found, each as small as it gets, with the promise that was broken."""

from __future__ import annotations

import pytest

from .targets import run

# name -> the target, the input, and why it failed
FAULTS = {
    "a surrogate that a provider sends beside an error": (
        "oauth_reply",
        b'400\n\n{"error":"invalid_grant","access_token":"\\ud800"}',
        "quote_plus fails on a lone surrogate: the error becomes one of which nothing is known",
    ),
    "the same from an endpoint that knows no OAuth": (
        "custom_reply",
        b'401\n\n{"detail":"over","refresh_token":"\\ud800"}',
        "as above, so that the login that is over never ends",
    ),
    "an origin with a password beyond Latin-1": (
        "urls",
        "https://user:pa\u20ac@api.test/".encode(),
        "requests fails with a UnicodeEncodeError that holds the password",
    ),
    "a plain endpoint of a secure issuer, in capitals": (
        "metadata",
        b'200\n\n{"issuer":"https://auth.test","token_endpoint":"HTTP://127.0.0.1/"}',
        "the scheme of an endpoint is compared with small letters only",
    ),
    "a redirect whose names are cut by a line's end": (
        "redirect",
        b"GET /callback?code\n=c&state=the-state-of-this-login HTTP/1.1\r\n\r\n",
        "urlsplit drops a line end, parse_qsl does not: what was checked is not what is kept",
    ),
    "a redirect with a fragment": (
        "redirect",
        b"GET /callback?code=c&state=the-state-of-this-login#x HTTP/1.1\r\n\r\n",
        "as above, for what comes behind a #",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_mended(name: str) -> None:
    """What was found once by fuzzing is read as promised from then on."""
    target, data, _ = FAULTS[name]
    assert run(target, data)
