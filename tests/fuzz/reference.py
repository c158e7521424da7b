"""A second reader of WWW-Authenticate, one character at a time, to compare with.

What it is for: the real one is a single regular expression, into which
coverage cannot look. This one does the same in branches, so a fuzzer is led
to every case, and each must come out the same in both.
"""

from __future__ import annotations

import string

LONGEST = 4096
_TOKEN = frozenset("!#$%&'*+-.^_`|~" + string.ascii_letters + string.digits)
Challenge = tuple[str, dict[str, str]]


def challenges_in(value: str) -> list[Challenge]:
    """The challenges of a header (RFC 9110 section 11.6.1); the first of two equal names counts."""
    value = value[:LONGEST]
    found: list[Challenge] = []
    at = 0
    while at < len(value):
        if value[at] == '"':  # a quoted string that belongs to nothing
            _, at = _quoted(value, at)
            continue
        if value[at] not in _TOKEN:
            at += 1
            continue
        begin = at
        while at < len(value) and value[at] in _TOKEN:
            at += 1
        name = value[begin:at].lower()
        equals = _past_blanks(value, at)
        if value[equals : equals + 1] != "=":
            found.append((name, {}))
            continue
        at = _past_blanks(value, equals + 1)
        if value[at : at + 1] == '"':
            text, at = _quoted(value, at)
        else:
            text, at = _plain(value, at)
        if found:
            found[-1][1].setdefault(name, text)
    return found


def _past_blanks(value: str, at: int) -> int:
    while at < len(value) and value[at] in " \t":
        at += 1
    return at


def _plain(value: str, at: int) -> tuple[str, int]:
    begin = at
    while at < len(value) and value[at] not in ',"' and not value[at].isspace():
        at += 1
    return value[begin:at], at


def _quoted(value: str, at: int) -> tuple[str, int]:
    """The string that opens at `at`, and where it is over: at the end, if it never closes."""
    text = ""
    at += 1
    while at < len(value):
        if value[at] == '"':
            return text, at + 1
        if value[at] == "\\":
            at += 1
        text += value[at : at + 1]
        at += 1
    return text, at
