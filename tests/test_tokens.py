"""`Token`: an OAuth reply becomes one, rubbish does not, and no secret of it is ever shown."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import math
import pickle
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requests_refresh import ConfigurationError, InvalidReply, Token

CANARY = "canary-7c1f"


def shown(error: BaseException) -> str:
    """All that a log of `error` with its locals could show, its chain included."""
    lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    return "".join(lines) + repr(error) + str(error) + repr(vars(error)) + repr(error.args)


# ------------------------------------------------------------------- replies


def test_an_oauth_reply() -> None:
    """RFC 6749 5.1: its fields become the token's, and other fields are its extra."""
    token = Token.from_reply(
        {
            "access_token": "a",
            "refresh_token": "r",
            "token_type": "Bearer",
            "expires_in": 60,
            "scope": "x y",
            "id_token": "i",
            "more": {"deep": [1, None]},
        },
        issued_at=1000,
    )
    assert (token.access_token, token.refresh_token, token.scope) == ("a", "r", "x y")
    assert (token.issued_at, token.expires_at, token.token_type) == (1000.0, 1060.0, "Bearer")
    assert token.extra == {"id_token": "i", "more": {"deep": [1, None]}}


@pytest.mark.parametrize("given_type", ["bearer", "BEARER", "Bearer", "bEaReR", None, ""])
def test_the_type_is_case_insensitive(given_type: str | None) -> None:
    """RFC 6749 5.1: the type says the same in any case, and a missing one means Bearer."""
    reply = {"access_token": "a", "token_type": given_type}
    assert Token.from_reply(reply).token_type == "Bearer"


@pytest.mark.parametrize(("given_type", "kept"), [("dpop", "DPoP"), ("MAC", "MAC")])
def test_other_types_are_kept(given_type: str, kept: str) -> None:
    """A type other than Bearer is kept: DPoP as RFC 9449 writes it, an unknown one as it came."""
    assert Token.from_reply({"access_token": "a", "token_type": given_type}).token_type == kept


@pytest.mark.parametrize("seconds", [90, 90.0, "90", "90.0", " 90 ", "9e1"])
def test_numeric_strings_are_numbers(seconds: object) -> None:
    """A lifetime as a string is the number that it says."""
    token = Token.from_reply({"access_token": "a", "expires_in": seconds}, issued_at=10.0)
    assert token.expires_at == 100.0


@pytest.mark.parametrize("seconds", [0, "0", 0.0])
def test_a_lifetime_of_nothing(seconds: object) -> None:
    """An `expires_in` of 0 is a token that is dead at once, and not one without an end."""
    reply = {"access_token": "a", "expires_in": seconds}
    assert Token.from_reply(reply, issued_at=10.0).expires_at == 10.0


@pytest.mark.parametrize("reply", [{}, {"expires_in": None}])
def test_a_missing_lifetime(reply: dict[str, Any]) -> None:
    """A reply that says no lifetime is a token that says no end."""
    assert Token.from_reply({"access_token": "a", **reply}).expires_at is None


def test_the_dict_of_another_client() -> None:
    """`expires_at`, as other OAuth clients keep it, counts where there is no `expires_in`."""
    assert Token.from_reply({"access_token": "a", "expires_at": "77"}).expires_at == 77.0
    both = {"access_token": "a", "expires_at": 77, "expires_in": 5}
    assert Token.from_reply(both, issued_at=100).expires_at == 105.0


def test_the_time_of_issue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The life of a token counts from when it was asked for; now, if nobody says when."""
    monkeypatch.setattr(time, "time", lambda: 500.0)
    token = Token.from_reply({"access_token": "a", "expires_in": 5})
    assert (token.issued_at, token.expires_at) == (500.0, 505.0)


@pytest.mark.parametrize("came", [{}, {"refresh_token": None}, {"refresh_token": ""}])
def test_the_refresh_token_is_kept(came: dict[str, Any]) -> None:
    """RFC 6749 6: where no new refresh token came, or an empty one, the old one is good."""
    before = Token("old", refresh_token="r", scope="s", extra={"id_token": "i", "n": 1})
    after = Token.from_reply({"access_token": "new", "n": 2, **came}, before)
    assert (after.access_token, after.refresh_token, after.scope) == ("new", "r", "s")
    assert after.extra == {"id_token": "i", "n": 2}


def test_the_refresh_token_is_replaced() -> None:
    """RFC 6749 6: where a new refresh token came, the old one is gone."""
    before = Token("old", refresh_token="r1", scope="s")
    after = Token.from_reply({"access_token": "n", "refresh_token": "r2", "scope": "t"}, before)
    assert (after.refresh_token, after.scope) == ("r2", "t")


@pytest.mark.parametrize(
    ("scope", "kept"),
    [(["a", "b"], "a b"), (("a",), "a"), ([], ""), ("", ""), ("a b", "a b"), (None, None)],
)
def test_scopes(scope: object, kept: str | None) -> None:
    """A list of scopes is the string of them; an empty scope is no rubbish."""
    assert Token.from_reply({"access_token": "a", "scope": scope}).scope == kept


RUBBISH: dict[str, Any] = {
    "a list": [],
    "a text": CANARY,
    "none": None,
    "empty": {},
    "no access token": {"refresh_token": CANARY},
    "null": {"access_token": None},
    "an empty access token": {"access_token": ""},
    "blank": {"access_token": "  "},
    "a number": {"access_token": 12345},
    "a nested access token": {"access_token": {"value": CANARY}},
    "a list for an access token": {"access_token": [CANARY]},
    "true": {"access_token": True},
    "bytes": {"access_token": CANARY.encode()},
    "CR LF": {"access_token": f"{CANARY}\r\nX-Evil: 1"},
    "a newline at the end": {"access_token": f"{CANARY}\n"},
    "a NUL": {"access_token": f"{CANARY}\x00"},
    "a DEL": {"access_token": f"{CANARY}\x7f"},
    "a C1": {"access_token": f"{CANARY}\x85"},
    "a lone surrogate": {"access_token": f"{CANARY}\ud800"},
    "a space at the end": {"access_token": f"{CANARY} "},
    "a refresh token that is a number": {"access_token": CANARY, "refresh_token": 5},
    "a refresh token with CR LF": {"access_token": CANARY, "refresh_token": "r\r\n"},
    "a type that is a number": {"access_token": CANARY, "token_type": 5},
    "a type with LF": {"access_token": CANARY, "token_type": "Bearer\nX: 1"},
    "a scope that is a mapping": {"access_token": CANARY, "scope": {"a": 1}},
    "a scope of numbers": {"access_token": CANARY, "scope": [1]},
    "a scope with LF": {"access_token": CANARY, "scope": "a\nb"},
}
LIFETIMES: dict[str, Any] = {
    "-1": -1,
    "'-1'": "-1",
    "NaN": math.nan,
    "'nan'": "nan",
    "infinity": math.inf,
    "'inf'": "inf",
    "1e400": "1e400",
    "a number of 500 digits": 10**500,
    "too long": 1e13,
    "true": True,
    "nested": {"seconds": 5},
    "a list": [5],
    "words": "an hour",
    "an empty text": "",
}


@pytest.mark.parametrize("reply", RUBBISH.values(), ids=RUBBISH.keys())
def test_rubbish_is_refused(reply: Any) -> None:
    """I9: what is no token is an InvalidReply, which shows nothing of it."""
    with pytest.raises(InvalidReply) as caught:
        Token.from_reply(reply, Token(f"{CANARY}-a", refresh_token=f"{CANARY}-r"))
    del reply
    inner = shown_inside(caught.value)
    assert CANARY not in inner
    assert "stored" in str(caught.value)


def shown_inside(error: BaseException) -> str:
    """As `shown`, without the test's own frame, which holds what it gave."""
    trace = error.__traceback__
    return shown(error.with_traceback(None if trace is None else trace.tb_next))


@pytest.mark.parametrize("field", ["expires_in", "expires_at"])
@pytest.mark.parametrize("seconds", LIFETIMES.values(), ids=LIFETIMES.keys())
def test_rubbish_lifetimes(field: str, seconds: object) -> None:
    """A lifetime that is no sensible number of seconds is refused, whatever it is."""
    with pytest.raises(InvalidReply) as caught:
        Token.from_reply({"access_token": CANARY, field: seconds}, issued_at=0.0)
    assert CANARY not in shown_inside(caught.value)


@pytest.mark.parametrize("moment", [math.nan, math.inf, "now", True])
def test_a_wrong_time_of_issue(moment: Any) -> None:
    """A time of issue that is no time is an error of ours, and never a token without one."""
    with pytest.raises((InvalidReply, TypeError)):
        Token.from_reply({"access_token": "a", "expires_in": 5}, issued_at=moment)


class Odd:
    """Nothing that JSON knows."""


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


UNSTORABLE: dict[str, tuple[Any, Any]] = {
    "an object": ("k", Odd()),
    "a set": ("k", {1}),
    "NaN": ("k", math.nan),
    "an object inside": ("k", [{"x": Odd()}]),
    "a name that is a number": (5, 1),
    "a name with a newline": ("a\nb", 1),
    "very deep": ("k", deep(5000)),
    "a deep mapping": ("k", {"x": deep(40)}),
}


@pytest.mark.parametrize(("name", "value"), UNSTORABLE.values(), ids=UNSTORABLE.keys())
def test_what_no_store_can_hold_is_left_out(name: Any, value: Any) -> None:
    """I7: an extra field that no JSON can say is left out, and the token is not lost for it."""
    token = Token.from_reply({"access_token": "a", name: value, "kept": [1]})
    assert token.extra == {"kept": [1]}
    json.dumps(token.to_mapping(), allow_nan=False).encode()


# ---------------------------------------------------------- the stored form

texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30).filter(
    lambda text: bool(text.strip()) and text == text.strip()
)
times = st.none() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
tokens = st.builds(
    Token,
    texts,
    refresh_token=st.none() | texts,
    token_type=texts,
    expires_at=times,
    issued_at=times,
    scope=st.none() | st.just("") | texts,
    extra=st.dictionaries(st.text(max_size=5), values, max_size=3),
)


@given(tokens)
def test_the_stored_form_is_whole(token: Token) -> None:
    """I7: what `to_mapping` writes and JSON carries is read back as the very same token."""
    carried = json.loads(json.dumps(token.to_mapping()))
    assert Token.from_mapping(carried) == token


def test_the_stored_form_is_a_copy() -> None:
    """The mapping is the caller's own: what becomes of it does nothing to the token."""
    token = Token("a", extra={"k": 1})
    mapping = token.to_mapping()
    mapping["extra"]["k"] = 2
    mapping["access_token"] = "b"
    assert token == Token("a", extra={"k": 1})


def test_unknown_names_are_ignored() -> None:
    """A stored form of a later version is read as far as it is known."""
    assert Token.from_mapping({"access_token": "a", "later": 1}) == Token("a")
    assert Token.from_mapping({"refresh_token": "r"}) == Token(refresh_token="r")


NOT_STORED: dict[str, Any] = {
    "a list": [CANARY],
    "nothing": {},
    "nulls": {"access_token": None, "refresh_token": None},
    "a number": {"access_token": 5, "refresh_token": CANARY},
    "a control character": {"access_token": f"{CANARY}\n"},
    "a time in words": {"access_token": CANARY, "expires_at": "soon"},
    "NaN": {"access_token": CANARY, "expires_at": math.nan},
    "a huge number": {"access_token": CANARY, "issued_at": 10**400},
    "a boolean": {"access_token": CANARY, "issued_at": True},
    "an extra that is a list": {"access_token": CANARY, "extra": [CANARY]},
}


@pytest.mark.parametrize("mapping", NOT_STORED.values(), ids=NOT_STORED.keys())
def test_what_is_no_stored_token(mapping: Any) -> None:
    """I9: it is a ConfigurationError that quotes nothing."""
    with pytest.raises(ConfigurationError) as caught:
        Token.from_mapping(mapping)
    del mapping
    assert CANARY not in shown_inside(caught.value)


# ---------------------------------------------------------------- the object

WRONG: dict[str, Callable[[], Token]] = {
    "empty": lambda: Token(""),
    "blank": lambda: Token(" "),
    "control": lambda: Token(f"{CANARY}\r\n"),
    "a space before": lambda: Token(f" {CANARY}"),
    "refresh token": lambda: Token(CANARY, refresh_token=""),
    "type": lambda: Token(CANARY, token_type=""),
    "no type": lambda: Token(CANARY, token_type=None),  # type: ignore[arg-type]  # is refused
    "scope": lambda: Token(CANARY, scope="\n"),
    "time": lambda: Token(CANARY, expires_at=math.inf),
    "extra": lambda: Token(CANARY, extra=[]),  # type: ignore[arg-type]  # is refused
    "bytes": lambda: Token(CANARY.encode()),  # type: ignore[arg-type]  # is refused
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_a_token(make: Callable[[], Token]) -> None:
    """I9: values that cannot be a token's are refused at once, and not shown."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert CANARY not in shown(caught.value)


def test_it_is_immutable() -> None:
    """No field of a token can be set, and what its extra was made of is not shared."""
    source = {"k": 1}
    token = Token("a", extra=source)
    source["k"] = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        token.access_token = "b"  # type: ignore[misc]  # is refused
    with pytest.raises((AttributeError, TypeError)):
        token.other = 1  # type: ignore[attr-defined]  # is refused
    with pytest.raises(TypeError):
        token.extra["k"] = 3  # type: ignore[index]  # is refused
    assert token.extra == {"k": 1}
    assert {token: 1}[Token("a", extra={"k": 1})] == 1


def test_no_secret_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    """I9: neither repr nor str, format, a log or a traceback with locals shows a secret."""
    token = Token(f"{CANARY}-a", refresh_token=f"{CANARY}-r", expires_at=5, extra={"id": CANARY})
    texts = [repr(token), str(token), f"{token}", f"{token!r}", "%s %r" % (token, token)]  # noqa: UP031  # the old way, too
    texts += [repr([token]), repr({"k": token})]
    caplog.set_level(logging.DEBUG)
    logging.getLogger("test").warning("%s", token)
    assert CANARY not in "".join(texts) + caplog.text
    assert repr(token) == "<Token access, refresh, expires_at=5>"
    assert repr(Token(refresh_token=CANARY)) == "<Token no access, refresh>"
    with pytest.raises(ZeroDivisionError) as caught:
        _divide(token)
    assert CANARY not in shown(caught.value)
    with pytest.raises((TypeError, ValueError)):
        format(token, "<30")


def _divide(token: Token) -> float:
    return 1 / (0 if token else 1)


def test_it_does_not_pickle() -> None:
    """I9: a pickle holds no token, and the error says what to do."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="to_mapping") as caught:
            pickle.dumps(Token(CANARY), protocol)
        assert CANARY not in shown(caught.value)


def test_a_copy_is_the_token() -> None:
    """A copy of what cannot change is that thing itself."""
    token = Token("a", extra={"k": [1]})
    assert copy.copy(token) is token
    assert copy.deepcopy({"k": token})["k"] is token


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Token("a", refresh_token="r", expires_at=9, scope="other"), True),
        (Token("a", refresh_token="q"), False),
        (Token("a"), False),
        (Token("b", refresh_token="r"), False),
        (None, False),
    ],
)
def test_the_same_issue(other: Token | None, same: bool) -> None:
    """Two tokens are one issue when access and refresh token are equal, whatever else is not."""
    token = Token("a", refresh_token="r", expires_at=5)
    assert token.same_issue(other) is same
    if other is not None:
        assert (token.fingerprint() == other.fingerprint()) is same
        assert CANARY.encode() not in Token(CANARY).fingerprint()
