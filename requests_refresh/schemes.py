"""How a token is put on a request, and how a refusal of it is recognised.

A scheme is immutable and shared by threads. It is given a copy of the
caller's request, so it may change the headers it finds there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from requests import PreparedRequest, Response

from .errors import ConfigurationError
from .tokens import Token

Refused = Callable[[Response], bool]

# A new token of the same login mends none of these: RFC 6750 section 3.1, RFC 9470 section 3,
# RFC 9449 sections 7.1 and 9.
_FINAL_ERRORS = {
    "insufficient_scope",
    "invalid_request",
    "insufficient_user_authentication",
    "invalid_dpop_proof",
    "use_dpop_nonce",
}
_TOKEN_SCHEMES = {"bearer", "dpop"}
_LONGEST_CHALLENGE = 4096  # characters; what comes after is ignored

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Every piece matches at its first try, so reading a value takes time in line with its length.
_PIECE = re.compile(
    rf"""
    (?P<name>{_NAME.pattern})
        (?P<value>[ \t]*=[ \t]*
            (?: "(?P<quoted>(?:[^"\\]|\\.)*)(?:"|\\?$) | (?P<plain>[^\s,"]*) )
        )?
    | "(?:[^"\\]|\\.)*(?:"|\\?$)
    | .
    """,
    re.VERBOSE | re.DOTALL,
)


class Attaching(Protocol):
    """What puts a token on a request."""

    def attach(self, request: PreparedRequest, token: Token) -> None:
        """Put `token`, which has an access token, on `request`, a copy for this one send."""


class Scheme(Attaching, Protocol):
    """How a token is put on a request. Its methods are called from any thread.

    It may have an `again(response)` too, which is called for each response: it
    returns a thing with an `attach` where the same request is to be sent once
    more, with the same token, and else None. Where that thing has an `again`
    of its own, it is asked about the response to that, in the scheme's place.
    """

    def refused(self, response: Response) -> bool:
        """Whether `response` refuses the token in a way that a new one can mend."""


class HeaderScheme:
    """Sends the access token in a header, such as `X-Auth-Token: ...`.

    name: the header's name.
    prefix: a word before the token, such as "Token"; a space is put between.
    refused: `(Response) -> bool`: whether a response refuses the token in a
        way that a new one can mend, in place of `needs_new_token`: for APIs
        that say it with 403, 419 or in the body. It is called for every
        response, so it should look at the status first; with `stream=True` a
        body that it reads is no longer in `response.raw`.

    Raises ConfigurationError for a name or prefix that is none. Thread-safe.
    """

    sets = 1  # headers, by `attach`
    name = ""  # with the next, so that one whose settings were refused can be shown
    _before = ""

    def __init__(
        self, name: str, *, prefix: str | None = None, refused: Refused | None = None
    ) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} cannot be the name of a header.")
        if prefix is not None and not (isinstance(prefix, str) and _NAME.fullmatch(prefix)):
            raise ConfigurationError(f"{prefix!r} cannot be the prefix of a token in a header.")
        if refused is not None and not callable(refused):
            raise ConfigurationError("refused is not callable.")
        self.name = name
        self._before = "" if prefix is None else prefix + " "
        self._refused = refused or needs_new_token

    def attach(self, request: PreparedRequest, token: Token) -> None:
        """Set the header. Anything else than ASCII goes as UTF-8."""
        value = f"{self._before}{token.access_token}"
        request.headers[self.name] = value if value.isascii() else value.encode()

    def refused(self, response: Response) -> bool:
        """Whether `response` refuses the token in a way that a new one can mend."""
        return self._refused(response)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self._before}...>"


class Bearer(HeaderScheme):
    """Sends `Authorization: Bearer ...` (RFC 6750 section 2.1).

    refused: as for HeaderScheme.
    """

    sets = 1

    def __init__(self, refused: Refused | None = None) -> None:
        super().__init__("Authorization", prefix="Bearer", refused=refused)


def needs_new_token(response: Response) -> bool:
    """Whether a 401 asks for a new token, by its challenges (RFC 6750 section 3).

    A Bearer challenge with an error that a new token cannot mend says no. All
    others say yes: invalid_token, no error, no challenge, or a foreign scheme,
    since frameworks send the challenge of their first authenticator, whatever
    it was that died.
    """
    if response.status_code != 401:
        return False
    errors = {
        parameters["error"].lower()
        for scheme, parameters in challenges_of(response)
        if scheme in _TOKEN_SCHEMES and "error" in parameters
    }
    return "invalid_token" in errors or not errors & _FINAL_ERRORS


def parse_challenges(value: str) -> list[tuple[str, dict[str, str]]]:
    """The challenges of a WWW-Authenticate value (RFC 9110 section 11.6.1).

    Each as its scheme and its parameters, names in lower case. Never fails:
    what is malformed is passed over.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for piece in _PIECE.finditer(value[:_LONGEST_CHALLENGE]):
        name = (piece["name"] or "").lower()
        if name and piece["value"] is None:
            found.append((name, {}))
        elif name and found:
            text = piece["plain"]
            if text is None:
                text = re.sub(r"\\(.)", r"\1", piece["quoted"], flags=re.DOTALL)
            found[-1][1].setdefault(name, text)
    return found


def challenges_of(response: Response) -> list[tuple[str, dict[str, str]]]:
    """All challenges of a response, of however many headers. Never fails."""
    values = _challenge_headers(response)
    return [challenge for value in values for challenge in parse_challenges(value)]


def _challenge_headers(response: Response) -> list[str]:
    # response.headers has several of them joined by a comma; raw keeps them apart.
    getlist = getattr(getattr(response.raw, "headers", None), "getlist", None)
    if getlist is not None:
        return list(getlist("WWW-Authenticate"))
    value = response.headers.get("WWW-Authenticate")
    return [] if value is None else [value]
