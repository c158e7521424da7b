"""What the property tests draw from: replies, tokens and the words of HTTP.

The same examples are drawn in every run, so a failure is never a matter of luck.
"""

from __future__ import annotations

import io
import json
from typing import Any

import requests
from hypothesis import settings
from hypothesis import strategies as st

from requests_refresh import Token
from requests_refresh.grants.http import Reply
from requests_refresh.grants.replies import oauth_token

steady = settings(derandomize=True, deadline=None, max_examples=100, database=None)

SENT_AT = 1_700_000_000.0
SECRETS = ["s3cret/refresh+token==", "s3cret client%id é", 'a"b\\s3cret']
OLD = Token("s3cret-access", refresh_token=SECRETS[0], scope="before")

# Of what a header and a form can carry, and JSON writes as it is.
words = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12)
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12).filter(
    lambda text: text == text.strip()
)
tokens68 = st.text("ABCxyz019-._~+/", min_size=1, max_size=12)
names = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
no_json = st.sampled_from([float("nan"), float("inf"), {1}, b"x", object(), "\ud800", 1 + 2j])


def reply_of(
    body: bytes, status: int = 200, media: str = "application/json", secrets: Any = ()
) -> Reply:
    """What an endpoint answered."""
    response = requests.Response()
    response.status_code = status
    response.raw = io.BytesIO(body)
    return Reply(
        status=status,
        media=media,
        body=body,
        problem=None,
        cookies=[],
        sent_at=SENT_AT,
        response=response,
        secrets=list(secrets),
    )


def asked(fields: Any, status: int = 200, previous: Token | None = OLD) -> Token:
    """What the grant makes of JSON from a token endpoint."""
    reply = reply_of(json.dumps(fields).encode(), status)
    return oauth_token(reply, previous, "https://auth.test/token", SECRETS)
