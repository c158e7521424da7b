"""WWW-Authenticate, put together in every way that RFC 9110 allows."""

from __future__ import annotations

import io

import requests
from hypothesis import given
from hypothesis import strategies as st
from urllib3 import HTTPHeaderDict, HTTPResponse

from requests_refresh.schemes import needs_new_token, parse_challenges

from .support import names, steady

Parameters = list[tuple[str, str, str]]  # its name, its value, and how it is written

FINAL = ["insufficient_scope", "invalid_request", "insufficient_user_authentication"]
blanks = st.text(" \t", max_size=2)
# Latin-1, as http.client decodes headers; no control character comes through it.
quoted = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]))


@st.composite
def written(draw: st.DrawFn, value: st.SearchStrategy[str] = quoted) -> tuple[str, str]:
    """A value, and a quoted string or token that says it."""
    text = draw(value)
    if text and text.isascii() and text.isalnum() and draw(st.booleans()):
        return text, text
    escaped = "".join(
        "\\" + one if one in '"\\' or draw(st.integers(0, 4)) == 0 else one for one in text
    )
    return text, f'"{escaped}"'


@st.composite
def a_parameter(draw: st.DrawFn) -> tuple[str, str, str]:
    name = draw(names)
    text, form = draw(written())
    return name, text, f"{name}{draw(blanks)}={draw(blanks)}{form}"


@st.composite
def a_challenge(draw: st.DrawFn) -> tuple[str, dict[str, str], str]:
    """A scheme, its parameters, and the two in writing."""
    scheme = draw(names)
    parameters: Parameters = draw(
        st.lists(a_parameter(), max_size=3, unique_by=lambda found: found[0].lower())
    )
    comma = draw(st.sampled_from([",", ", ", " ,\t", ",,", ", ,"]))
    text = " ".join([scheme, comma.join(form for _, _, form in parameters)])
    return scheme.lower(), {name.lower(): value for name, value, _ in parameters}, text.strip()


def response_of(values: list[str], *, apart: bool) -> requests.Response:
    """A 401 with these headers, as urllib3 gives it, or as only requests has it."""
    headers = HTTPHeaderDict()
    for value in values:
        headers.add("WWW-Authenticate", value)
    response = requests.Response()
    response.status_code = 401
    response.headers = requests.structures.CaseInsensitiveDict(headers)
    response.raw = HTTPResponse(io.BytesIO(), headers=headers) if apart else io.BytesIO()
    return response


@steady
@given(st.lists(a_challenge(), max_size=3), st.sampled_from([", ", ",", " , ,"]))
def test_what_is_put_together_comes_apart(
    challenges: list[tuple[str, dict[str, str], str]], comma: str
) -> None:
    """RFC 9110 11.6.1: one header or several, tokens or quoted strings, come back as meant."""
    meant = [(scheme, parameters) for scheme, parameters, _ in challenges]
    forms = [form for _, _, form in challenges]
    assert parse_challenges(comma.join(forms)) == meant
    assert [found for form in forms for found in parse_challenges(form)] == meant


@steady
@given(
    st.lists(a_challenge(), max_size=2),
    st.sampled_from(["Bearer", "BEARER", "DPoP", "dpop", "Basic", "X-Own"]),
    st.sampled_from([*FINAL, "invalid_token", "something_else"]).flatmap(
        lambda code: written(st.sampled_from([code, code.upper(), code.title()]))
    ),
    st.lists(a_challenge(), max_size=2),
    st.booleans(),
)
def test_a_final_error_is_found_among_others(
    before: list[tuple[str, dict[str, str], str]],
    scheme: str,
    error: tuple[str, str],
    after: list[tuple[str, dict[str, str], str]],
    together: bool,
) -> None:
    """RFC 6750 3.1: what no new token mends is seen in any header, for schemes of tokens only."""
    code, form = error
    others = [one for one in (*before, *after) if one[0] not in ("bearer", "dpop")]
    values = [text for _, _, text in others if text]
    values.insert(len(values) // 2, f"{scheme} realm=x, error={form}")
    if together:
        values = [", ".join(values)]
    final = scheme.lower() in ("bearer", "dpop") and code.lower() in FINAL
    for apart in (True, False):
        assert needs_new_token(response_of(values, apart=apart)) is not final


@steady
@given(a_challenge(), st.sampled_from(FINAL))
def test_words_in_a_string_are_no_challenge(
    challenge: tuple[str, dict[str, str], str], code: str
) -> None:
    """A realm that quotes a whole challenge is a realm."""
    _, _, text = challenge
    inner = f'{text}, Bearer error="{code}"'.replace("\\", "\\\\").replace('"', '\\"')
    assert needs_new_token(response_of([f'Basic realm="{inner}", x=y'], apart=True))
