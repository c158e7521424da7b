"""`Token.from_reply` and the rules by which one token follows another."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from requests_refresh import InvalidReply, Token

from .support import SENT_AT, json_values, no_json, steady, texts

KNOWN = {"access_token", "refresh_token", "token_type", "expires_in", "expires_at", "scope"}
absent_or_empty = st.sampled_from([{}, {"refresh_token": None}, {"refresh_token": ""}])
unknown_names = texts.filter(lambda name: name not in KNOWN)
moments = st.floats(0, 4e9)
replies = st.fixed_dictionaries(
    {"access_token": texts},
    optional={
        "refresh_token": texts | st.sampled_from([None, ""]),
        "expires_in": st.integers(0, 10**6),
        "scope": st.none() | st.lists(texts, max_size=2).map(" ".join),
        "id_token": texts,
        "more": json_values,
    },
)


@steady
@given(st.lists(replies, min_size=1, max_size=5))
def test_a_login_goes_through_many_refreshes(came: list[dict[str, Any]]) -> None:
    """I7, RFC 6749 6: over any refreshes, the last refresh token, scope and extras are held."""
    token: Token | None = None
    for reply in came:
        token = Token.from_reply(reply, token, SENT_AT)
    assert token is not None
    refresh = [r["refresh_token"] for r in came if r.get("refresh_token")]
    scopes = [r["scope"] for r in came if r.get("scope") is not None]
    assert token.access_token == came[-1]["access_token"]
    assert token.refresh_token == (refresh[-1] if refresh else None)
    assert token.scope == (scopes[-1] if scopes else None)
    for name in ("id_token", "more"):
        values = [r[name] for r in came if name in r]
        assert (name in token.extra) is bool(values)
        assert not values or token.extra[name] == values[-1]
    life = came[-1].get("expires_in")
    assert token.expires_at == (None if life is None else SENT_AT + life)


@steady
@given(moments, st.integers(0, 10**9) | st.floats(0, 1e9), st.sampled_from(["", " ", "\t"]))
def test_a_life_counts_from_the_sending(sent: float, life: float, blank: str) -> None:
    """A number and its text say the same life, counted from when the request went out."""
    as_number = Token.from_reply({"access_token": "a", "expires_in": life}, issued_at=sent)
    text = f"{blank}{life!r}{blank}"
    as_text = Token.from_reply({"access_token": "a", "expires_in": text}, issued_at=sent)
    assert as_number == as_text
    assert (as_number.issued_at, as_number.expires_at) == (sent, sent + float(life))


@steady
@given(moments, st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_longer_life_ends_no_earlier(sent: float, one: int, other: int) -> None:
    """Of two lives the longer ends later, or at the same time if they are equal."""
    ends = [
        Token.from_reply({"access_token": "a", "expires_in": life}, issued_at=sent).expires_at
        for life in sorted([one, other])
    ]
    assert ends[0] is not None
    assert ends[1] is not None
    assert sent <= ends[0] <= ends[1]


@steady
@given(
    st.dictionaries(unknown_names, json_values, max_size=4),
    st.dictionaries(unknown_names, no_json | st.lists(no_json, min_size=1), max_size=3),
)
def test_unknown_names_are_kept_if_a_store_can_keep_them(
    good: dict[str, Any], bad: dict[str, Any]
) -> None:
    """RFC 6749 5.1: names that nobody knows cost no token, and what is JSON of them is kept."""
    token = Token.from_reply({**bad, **good, "access_token": "a"}, issued_at=SENT_AT)
    assert token.extra == good
    assert Token.from_mapping(json.loads(json.dumps(token.to_mapping()))) == token


@steady
@given(
    st.sampled_from(["access_token", "refresh_token", "token_type", "scope", "expires_in"]),
    json_values.filter(bool) | no_json,
)
def test_a_wrong_type_is_no_token(field: str, value: Any) -> None:
    """A known field that is not what the RFC says is InvalidReply, or read as it can be meant."""
    reply = {"access_token": "a", field: value}
    try:
        token = Token.from_reply(reply, issued_at=SENT_AT)
    except InvalidReply:
        return
    kept = token.to_mapping()
    if field == "expires_in":
        assert float(kept["expires_at"]) == SENT_AT + float(value)
    elif isinstance(value, list):
        assert (field, kept["scope"]) == ("scope", " ".join(value))
    else:
        assert isinstance(value, str)
        assert kept[field].lower() == value.lower()
