"""Canaries: secrets that are known by heart, and found again in whatever disguise.

A text betrays a secret if any twelve characters in a row of it are in there: plain,
backwards, quoted for URLs, JSON or Python, in hex, or in base64 at any offset.
"""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

SLICE = 12  # characters; fewer could be chance
_HALF = SLICE // 2
_LETTERS = string.ascii_letters + string.digits


class Secrets:
    """All that must not come out, by kind: "access token", "client secret" and so on.

    odd: characters in the middle of the canaries that most encodings change.
    """

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self._slices: dict[str, str] = {}  # twelve characters -> the kind
        self._halves: set[str] = set()  # six of them
        self._clean: set[int] = set()  # hashes of texts with nothing in them

    def canary(self, kind: str, odd: str = "+/%=") -> str:
        """A new secret of that kind."""
        text = self._random.choices(_LETTERS, k=30)
        for at, character in enumerate(odd):
            text.insert(10 + 3 * at, character)
        return self.add(kind, "".join(text))

    def add(self, kind: str, secret: str) -> str:
        """Know `secret`, too, which was made elsewhere. Returns it."""
        for form in _forms(secret):
            self._slice(kind, form)
        return secret

    def add_bytes(self, kind: str, secret: bytes) -> bytes:
        """The same for what is no text, such as the number in a private key."""
        self._slice(kind, secret.decode("latin-1"))
        self._slice(kind, str(int.from_bytes(secret, "big")))
        for form in _binary_forms(secret):
            self._slice(kind, form)
        return secret

    def _slice(self, kind: str, form: str) -> None:
        for at in range(len(form) - SLICE + 1):
            self._slices[form[at : at + SLICE]] = kind
            self._halves.update(form[i : i + _HALF] for i in (at, at + _HALF))

    def kinds_in(self, text: str | bytes | bytearray) -> set[str]:
        """The kinds of the secrets that `text` betrays."""
        if not isinstance(text, str):
            text = bytes(text).decode("latin-1")
        if hash(text) in self._clean:
            return set()
        found: set[str] = set()
        # Any twelve characters in a row hold one of these whole.
        for at in range(0, len(text) - _HALF + 1, _HALF):
            if text[at : at + _HALF] in self._halves:
                found |= self._kinds_around(text, at)
        if not found:
            self._clean.add(hash(text))
        return found

    def _kinds_around(self, text: str, at: int) -> set[str]:
        near = range(max(0, at - _HALF), at + 1)
        slices = (text[begin : begin + SLICE] for begin in near)
        return {self._slices[one] for one in slices if one in self._slices}


def _forms(secret: str) -> Iterator[str]:
    for text in (secret, secret[::-1]):
        yield text
        yield quote(text, safe="")
        yield quote_plus(text)
        yield json.dumps(text)[1:-1]
        yield repr(text)[1:-1]
        yield from _binary_forms(text.encode())


def _binary_forms(data: bytes) -> Iterator[str]:
    yield data.hex()
    yield repr(data)[2:-1]
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # Without the characters that share bits with what is before and behind.
            yield encode(bytes(offset) + data).decode()[offset + (offset > 0) : -4]
