"""The reply reader, whatever a provider puts together."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from requests_refresh import (
    InvalidReply,
    LoginRequired,
    RefreshError,
    RefreshRefused,
    RefreshUnavailable,
    Token,
)
from requests_refresh.grants.http import Reply
from requests_refresh.grants.replies import custom_token, oauth_token, pick, quotable

from .support import OLD, SECRETS, SENT_AT, asked, json_values, reply_of, steady, texts, words

WHERE = "https://auth.test/token"
CODES = {
    "invalid_grant": LoginRequired,
    "bad_refresh_token": LoginRequired,
    "temporarily_unavailable": RefreshUnavailable,
    "slow_down": RefreshUnavailable,
    "invalid_client": RefreshRefused,
    "invalid_scope": RefreshRefused,
}
READERS: list[Callable[[Reply], Token]] = [
    lambda reply: oauth_token(reply, OLD, WHERE, SECRETS),
    lambda reply: custom_token(
        reply, OLD, WHERE, read={"access_token": "a"}, login_over=None, secrets=SECRETS
    ),
]
statuses = st.sampled_from([200, 201, 299, 400, 401, 403, 404, 422])
paddings = st.text(" \t\r\n", max_size=3)


@steady
@given(
    st.fixed_dictionaries(
        {"access_token": words},
        optional={
            "refresh_token": words,
            "token_type": st.sampled_from(["bearer", "DPoP", "mac"]),
            "expires_in": st.integers(0, 10**9).map(str),
            "scope": st.lists(words, max_size=3).map(" ".join),
            "other": texts,
        },
    )
)
def test_a_form_says_what_json_says(fields: dict[str, str]) -> None:
    """RFC 6749 5.1: the same fields make the same token, be they sent as JSON or as a form."""
    fields = {name: value for name, value in fields.items() if value}  # a form has no empty ones
    form = reply_of(urlencode(fields).encode(), media="application/x-www-form-urlencoded")
    assert oauth_token(form, OLD, WHERE, SECRETS) == asked(fields)


@steady
@given(
    st.sampled_from(sorted(CODES)),
    st.sampled_from([str.lower, str.upper, str.title]),
    paddings,
    statuses,
    st.dictionaries(words, json_values, max_size=3),
)
def test_an_error_counts_before_the_status(
    code: str, case: Any, padding: str, status: int, more: dict[str, Any]
) -> None:
    """RFC 6749 5.2: an error code says what it says, with any 2xx or 4xx, beside a token too."""
    fields = {**more, "access_token": "a", "error": padding + case(code) + padding}
    with pytest.raises(CODES[code]):
        asked(fields, status)


@steady
@given(json_values, statuses)
def test_it_is_a_token_or_one_of_four_errors(value: Any, status: int) -> None:
    """Any JSON from a token endpoint is a token or an error that says what became of the login."""
    try:
        token = asked(value, status)
    except (LoginRequired, RefreshRefused, RefreshUnavailable, InvalidReply):
        return
    assert isinstance(token, Token)
    assert status < 300


@steady
@given(
    st.text(" \t\r\n", max_size=5),
    st.text(max_size=20),
    st.sampled_from(["text/html", "application/json", "application/xml", ""]),
    st.sampled_from([200, 400, 401, 403, 500]),
)
@example("", "html><form action=/login?error=invalid_grant&access_token=a>", "", 200)
def test_markup_ends_no_login(blanks: str, text: str, media: str, status: int) -> None:
    """I8: a page, whatever it is called and holds, is neither a token nor the end of a login."""
    reply = reply_of(f"{blanks}<{text}&error=invalid_grant".encode(), status, media)
    for read in READERS:
        with pytest.raises((InvalidReply, RefreshRefused)):
            read(reply)


@steady
@given(
    st.sampled_from([*SECRETS, "s3cret-access", "new s3cret", "sent s3cret"]),
    st.sampled_from([str, quote_plus, str.upper, str.lower, "\x00".join, "\u200b".join]),
    st.sampled_from(["error", "error_description", "detail", "message", "code"]),
    st.text(max_size=30),
    st.text(max_size=250),
    st.sampled_from([200, 400, 401]),
)
def test_no_secret_is_quoted(
    secret: str, written: Any, field: str, before: str, after: str, status: int
) -> None:
    """I9: what was sent or issued is shown by no error, however a provider writes it back."""
    fields = {"error": "invalid_grant", "access_token": "new s3cret"}
    fields[field] = before + written(secret) + after
    if field in ("code", "detail", "message") and status != 200:
        del fields["error"]
    body = json.dumps(fields).encode()
    reply = reply_of(body, status, secrets=["sent s3cret"])
    for read in READERS:
        with pytest.raises(RefreshError) as caught:
            read(reply)
        said = " ".join((str(caught.value), repr(caught.value), repr(vars(caught.value)))).lower()
        for form in (secret, quote_plus(secret), repr(secret)[1:-1]):
            assert form.lower() not in said


@steady
@given(st.text(max_size=500), st.lists(st.text(max_size=4), max_size=3))
def test_what_is_quoted_is_short_and_printable(text: str, secrets: list[str]) -> None:
    """A log line holds 200 characters of a provider's text at most, and none that does harm."""
    said = quotable(text, secrets)
    assert said is None or (0 < len(said) <= 200 and said.isprintable() and said == said.strip())


@steady
@given(st.lists(words.filter(lambda part: "." not in part), min_size=1, max_size=5), words)
def test_a_value_is_found_where_the_path_leads(parts: list[str], value: str) -> None:
    """A dotted path goes through mappings, and through a list where its part is a number."""
    nested: Any = value
    for part in reversed(parts):
        nested = [None, nested] if part == "1" else {part: nested}
    path = ".".join(parts)
    assert pick(nested, path) == value
    assert pick(nested, path + ".more") is None
    reply = reply_of(json.dumps(nested).encode())
    token = custom_token(
        reply, OLD, WHERE, read={"access_token": path}, login_over=None, secrets=()
    )
    assert (token.access_token, token.refresh_token) == (value, OLD.refresh_token)
    assert token.issued_at == SENT_AT


@steady
@given(json_values, st.lists(words, min_size=1, max_size=4).map(".".join))
def test_a_path_never_fails(value: Any, path: str) -> None:
    """A path that leads nowhere, in any JSON, is None and no error."""
    found = pick(value, path)
    assert found is None or repr(found) in repr(value)
