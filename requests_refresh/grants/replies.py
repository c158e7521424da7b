"""The one reader of replies: what an endpoint's answer means for the login.

An error in the body counts before the status, as some providers send errors
with status 200 (RFC 6749 section 5.2 says 400). Statuses that say "not now"
and redirects never come here. A web page never means that a login is over: it
is a firewall or a proxy speaking.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote_plus, unquote_plus

import requests

from ..errors import (
    InvalidReply,
    LoginRequired,
    RefreshError,
    RefreshRefused,
    RefreshUnavailable,
)
from ..tokens import Token
from .failures import retry_after
from .http import Reply

LoginOver = Callable[[requests.Response], bool]

_LONGEST_QUOTE = 200
_LONGEST_SAID = 2**16  # characters; of more nothing is quoted
_MOST_ESCAPES = 6  # within each other
_UNICODE_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")
_MOST_FIELDS = 200

#: Only a new login helps. Each of them stands for what the login is renewed with, as nothing
#: else was sent that it could be about.
FINAL = frozenset(
    {
        "invalid_grant",  # RFC 6749 section 5.2
        "interaction_required",  # OpenID Connect Core section 3.1.2.6, and Entra
        "login_required",
        "consent_required",
        "bad_refresh_token",  # GitHub
        "invalid_refresh_token",  # Slack
        "token_revoked",
        "token_expired",
        "account_inactive",
        "invalid_code",  # Zoho
    }
)
_FOR_LATER = {
    "temporarily_unavailable",  # RFC 6749 section 4.1.2.1
    "server_error",
    "slow_down",  # RFC 8628 section 3.5
    "ratelimited",  # Slack, and the next three
    "internal_error",
    "fatal_error",
    "service_unavailable",
}

_SUSPECTS = {  # what to check, where the error tells more than that something is wrong
    "invalid_grant": "the key, the issuer, the subject and the audience, and this host's clock",
    "invalid_target": "resource and audience",  # RFC 8707 section 2, RFC 8693 section 2.2.2
    "invalid_dpop_proof": "this host's clock, and the algorithms that the provider knows",
    "use_dpop_nonce": "what stands in front of the endpoint: a header DPoP-Nonce did not arrive",
}


def oauth_token(
    reply: Reply,
    previous: Token | None,
    where: str,
    secrets: Iterable[str],
    *,
    final: Collection[str] = FINAL,
) -> Token:
    """The token in an OAuth reply, JSON or a form (RFC 6749 sections 5.1, 5.2).

    previous: the token that was refreshed. where: the endpoint, for messages.
    secrets: what must not be quoted, should the provider echo it, beside what
        `previous` and the request hold. final: the errors after which only a
        new login helps.

    Raises LoginRequired, RefreshRefused, RefreshUnavailable or InvalidReply.
    """
    fields = decoded(reply, forms=True)
    if isinstance(fields, Mapping):
        if fields.get("error") or fields.get("ok") is False:  # the latter is Slack's
            raise _oauth_error(reply, previous, where, secrets, final)
        if reply.ok:
            return Token.from_reply(fields, previous, reply.sent_at)
    raise _no_token(reply, where, is_page(reply, fields), "it has no token in it")


def custom_token(
    reply: Reply,
    previous: Token | None,
    where: str,
    *,
    read: Mapping[str, str],
    login_over: LoginOver | None,
    secrets: Iterable[str],
    refresh_token: str | None = None,
) -> Token:
    """The token in the reply of an endpoint that knows no OAuth.

    read: attribute of the token -> dotted path in the JSON reply.
    login_over: whether this reply, which has no token, ends the login; None
        for: 400, 401 and 403 do. refresh_token: one that came beside the body.

    Raises LoginRequired, RefreshRefused or InvalidReply, and what `login_over`
    raises.
    """
    value = decoded(reply)
    if reply.ok:
        found = {attribute: pick(value, path) for attribute, path in read.items()}
        if found["access_token"] is not None:
            if refresh_token is not None:
                found["refresh_token"] = refresh_token
            return Token.from_reply(found, previous, reply.sent_at)
    page = is_page(reply, value)
    readable = reply.problem is None and not page
    if readable and (login_over(reply.response) if login_over else reply.status in (400, 401, 403)):
        fields = value if isinstance(value, Mapping) else {}
        error, description = _said(fields, _unquotable(reply, previous, secrets))
        raise LoginRequired(
            f"{where} answered {reply.status}: the refresh was refused for good"
            f"{_quoted(error, description)}. Log in again.",
            error=error,
            error_description=description,
        )
    raise _no_token(reply, where, page, f"it has nothing at {read['access_token']!r}")


def decoded(reply: Reply, *, forms: bool = False) -> Any:
    """The value of a JSON body, or of a form that speaks of a token or error; else None.

    Where a body repeats a name, the last counts.
    """
    if reply.problem or is_markup(reply):
        return None  # or a link in a page could pass for a form
    # A damaged error text is still an error; a damaged token is none.
    errors = "strict" if reply.ok else "replace"
    try:
        text = reply.body.decode("utf-8-sig", errors)
    except ValueError:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if not forms:
        return None
    try:
        fields = dict(parse_qsl(text.strip(), errors=errors, max_num_fields=_MOST_FIELDS))
    except ValueError:
        return None
    return fields if fields.keys() & {"access_token", "error"} else None


def is_markup(reply: Reply) -> bool:
    """True for HTML and XML, whatever type they are called: JSON may be called HTML too."""
    return reply.body[:200].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def is_page(reply: Reply, value: Any) -> bool:
    """True for what is made for people to read. value: what was decoded of it."""
    return is_markup(reply) or (value is None and "html" in reply.media)


def pick(value: Any, path: str) -> Any:
    """What stands in `value` at a dotted path, in which digits count in lists; or None."""
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def quotable(text: object, secrets: Iterable[str]) -> str | None:
    """What a provider said, as it may be shown: short, printable, with no secret in it.

    None where a secret is in it in an escaped form: that cannot be cut out, so nothing is quoted.
    """
    if not isinstance(text, str) or len(text) > _LONGEST_SAID:
        return None
    secrets = [secret for secret in secrets if secret]
    clean = _printable(text)
    forms = {
        form
        for secret in secrets
        for form in (_printable(secret), quote_plus(secret, errors="replace"))
    }
    for form in sorted(forms, key=len, reverse=True):
        if form:
            clean = re.sub(re.escape(form), "***", clean, flags=re.IGNORECASE)
    if _is_said_below(clean, secrets):
        return None
    clean = clean.strip()
    if len(clean) > _LONGEST_QUOTE:
        clean = clean[: _LONGEST_QUOTE - 3] + "..."
    return clean or None


def _is_said_below(text: str, secrets: Iterable[str]) -> bool:
    try:
        below = _below_escapes(text)
        hidden = [_below_escapes(secret) for secret in secrets if secret.strip("\\+ ")]
    except ValueError:  # of html.unescape, for a number of thousands of digits
        return True
    return any(secret in below for secret in hidden)


def _below_escapes(text: str) -> str:
    """What `text` says below the escapes of URLs, JSON and HTML, one in another."""
    for _ in range(_MOST_ESCAPES):
        plain = _UNICODE_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
        plain = html.unescape(unquote_plus(plain.replace("\\", "")))
        if plain == text:
            break
        text = plain
    return _printable(text).lower()


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())


def _unquotable(reply: Reply, previous: Token | None, secrets: Iterable[str]) -> list[str]:
    """All that a provider could echo and that must not be shown."""
    held = () if previous is None else (previous.access_token, previous.refresh_token)
    return [*secrets, *reply.secrets, *(text for text in held if text)]


def _said(fields: Mapping[Any, Any], secrets: Iterable[str]) -> tuple[str | None, str | None]:
    """The error and its description, by the names that providers use."""
    own = [fields.get("access_token"), fields.get("refresh_token")]
    secrets = [*secrets, *(text for text in own if isinstance(text, str))]
    error = fields.get("error") or fields.get("code")
    description = fields.get("error_description") or fields.get("detail") or fields.get("message")
    return quotable(error, secrets), quotable(description, secrets)


def _quoted(error: str | None, description: str | None) -> str:
    said = ": ".join(part for part in (error, description) if part)
    return f" ({said})" if said else ""


def error_code(reply: Reply) -> str:
    """The error that an OAuth reply names, in small letters; "" for none."""
    fields = decoded(reply, forms=True)
    code = fields.get("error") if isinstance(fields, Mapping) else None
    return code.strip().lower() if isinstance(code, str) else ""


def error_of(
    reply: Reply, previous: Token | None, secrets: Iterable[str]
) -> tuple[str | None, str | None, str]:
    """The error and its description as they may be shown, and both as a part of a message."""
    fields = decoded(reply, forms=True)
    fields = fields if isinstance(fields, Mapping) else {}
    error, description = _said(fields, _unquotable(reply, previous, secrets))
    return error, description, _quoted(error, description)


def _oauth_error(
    reply: Reply,
    previous: Token | None,
    where: str,
    secrets: Iterable[str],
    final: Collection[str],
) -> RefreshError:
    error, description, said = error_of(reply, previous, secrets)
    code = error_code(reply)
    if code in final:
        return LoginRequired(
            f"{where} refused the refresh token for good{said}. Log in again.",
            error=error,
            error_description=description,
        )
    if code in _FOR_LATER:
        return RefreshUnavailable(
            f"{where} cannot answer now{said}. The login is intact; try again later.",
            retry_after=retry_after(reply.response.headers),
        )
    return RefreshRefused(
        f"{where} refused the client, with status {reply.status}{said}. The login is intact."
        f" Check {_SUSPECTS.get(code, 'client_id, client_secret, client_auth and scope')}.",
        error=error,
        error_description=description,
    )


def _no_token(reply: Reply, where: str, page: bool, otherwise: str) -> RefreshError:
    if 400 <= reply.status < 500:
        return RefreshRefused(
            f"{where} answered {reply.status} and named no reason that is known. The login is"
            " intact. Check the URL, the grant's settings and what stands in front of the"
            " endpoint."
        )
    problem = reply.problem or ("it is a web page" if page else otherwise)
    return InvalidReply(
        f"{where} answered {reply.status} with no token: {problem}. Nothing was stored. Check that"
        " the URL is the token endpoint's and that the names of the reply's fields are right."
    )
