"""`Preset`: what is known of a provider, and the grant and the scheme made of that.

A preset is immutable data, so any thread may use it. What it makes is what
anybody could make by hand with the same values.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from requests import Response

from ..errors import ConfigurationError
from ..grants import JSONGrant, RefreshTokenGrant
from ..grants.replies import pick
from ..schemes import Bearer, needs_new_token

_LONGEST_BODY = 2**16  # bytes; a refusal says little
_URLS = ("token_url", "revocation_url", "device_url", "authorize_url", "issuer")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# Nothing that ends a host or a segment of a path, no escape, and no dots alone.
_VALUE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_PORT = re.compile(r":[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an API's answer looks like that refuses the token, beside a 401.

    status: its HTTP status.
    path: what the path of the URL begins with; "" for any.
    at: dotted path in the JSON body, in which digits count in lists; "" for
        the whole body as a text, of whatever content type.
    values: what stands there, one of these.
    """

    status: int
    path: str = ""
    at: str = ""
    values: frozenset[str] = frozenset()

    def matches(self, response: Response) -> bool:
        """Whether `response` is such a refusal.

        The body is read only where status, path and content type fit. One
        that is longer than 64 KiB, or no JSON, is no refusal. Raises what
        reading the body raises, as the caller of the API would get that too.
        """
        if response.status_code != self.status:
            return False
        if not urlsplit(response.url or "").path.startswith(self.path):
            return False
        if self.at and not _is_json(response):
            return False
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > _LONGEST_BODY):
            return False
        body = response.content
        if len(body) > _LONGEST_BODY:
            return False
        if not self.at:
            return body.decode(errors="replace").strip() in self.values
        try:
            found = pick(json.loads(body), self.at)
        except (ValueError, RecursionError):
            return False
        return isinstance(found, str) and found in self.values


@dataclass(frozen=True, slots=True)
class Refused:
    """A scheme's predicate: a 401 that a new token can mend, or one of `refusals`. Pickles."""

    refusals: tuple[Refusal, ...]

    def __call__(self, response: Response) -> bool:
        return needs_new_token(response) or any(one.matches(response) for one in self.refusals)


@dataclass(frozen=True, slots=True)
class Preset:
    """What is known of a provider. Immutable, so any thread may use it.

    name: what it is called.
    sources: URLs of the provider's own pages that say what stands here.
    token_url: the token endpoint. It and the URLs that follow may hold
        placeholders: "{domain}".
    revocation_url: takes tokens back (RFC 7009), where it is as the RFC has it.
    device_url: the device authorization endpoint (RFC 8628).
    authorize_url: where a user says yes, in a browser.
    issuer: where discovery serves (RFC 8414, OpenID).
    client_auth: how a client with a secret proves who it is, as
        RefreshTokenGrant takes it. One without a secret sends its id alone.
    login_over: the `error` codes that mean that only a new login helps, beside
        `invalid_grant` (RFC 6749 section 5.2).
    refused: answers of the API that refuse the token, beside a 401.
    speaks: "oauth"; "json" for an endpoint as JSONGrant has it by default, for
        which 400, 401 and 403 end the login.
    notes: what its users must know, in a line.
    """

    name: str
    sources: tuple[str, ...]
    token_url: str
    revocation_url: str | None = None
    device_url: str | None = None
    authorize_url: str | None = None
    issuer: str | None = None
    client_auth: str | None = None
    login_over: frozenset[str] = frozenset()
    refused: tuple[Refusal, ...] = ()
    speaks: str = "oauth"
    notes: str = ""

    @property
    def placeholders(self) -> frozenset[str]:
        """The names of what is to be filled in, such as "domain" and "realm"."""
        return frozenset(
            name for url in self._urls().values() if url for name in _PLACEHOLDER.findall(url)
        )

    def filled(self, **values: str) -> Preset:
        """This preset with every placeholder filled in.

        values: a text for each of `placeholders`: letters, digits, and dots,
            hyphens and underscores between them; a "domain" may have a port.

        Raises ConfigurationError where one is missing, unknown or no such
        text, as anything else could make it another URL. Does not block.
        """
        names = self.placeholders
        for name in sorted(names - values.keys()):
            raise ConfigurationError(f"{self.name} needs {name}={{...}}: {self._where(name)}.")
        for name, value in values.items():
            if name not in names:
                raise ConfigurationError(f"No URL of {self.name} has a place for {name!r}.")
            if not _is_value(name, value):
                raise ConfigurationError(
                    f"{name} cannot stand in {self._where(name)}: give letters, digits, and dots,"
                    " hyphens and underscores between them, and no scheme, path or escape."
                )
        urls = {field: url and url.format(**values) for field, url in self._urls().items()}
        return replace(self, **urls)  # type: ignore[arg-type] # each is put back where it was

    def grant(
        self, *, client_id: str | None = None, **settings: Any
    ) -> RefreshTokenGrant | JSONGrant:
        """The grant for this provider.

        client_id: as the provider registered the client; None only where there
            are no clients, as for Django SimpleJWT.
        settings: a value for each placeholder, and whatever RefreshTokenGrant
            (or JSONGrant) takes; these win over the preset's own. With a
            `token_url` of your own no placeholder is filled, and the preset's
            revocation_url is left out: tokens go where you say, and nowhere else.

        Raises ConfigurationError for settings that are missing, unknown or
        cannot be right. Does not block.
        """
        if client_id is not None:
            settings["client_id"] = client_id
        made = self._made(settings)
        if isinstance(made, ConfigurationError):
            del settings  # a traceback with locals shows no secret
            raise made
        return made

    def scheme(self) -> Bearer:
        """How the token is put on a request, and how the API refuses it: for RefreshAdapter.

        Where the API refuses in a body, that body is read, as it must be: with
        `stream=True` it is no longer in `response.raw`.
        """
        return Bearer(refused=Refused(self.refused) if self.refused else None)

    def _made(self, settings: dict[str, Any]) -> RefreshTokenGrant | JSONGrant | ConfigurationError:
        """The grant, or what is wrong: returned, so that no frame with a secret raises."""
        try:
            return self._grant(settings)
        except ConfigurationError as error:
            return error.with_traceback(None)
        except TypeError as error:  # a name that the grant does not have; it quotes names alone
            problem = str(error)
        return ConfigurationError(
            f"{self.name} cannot be set up like this: {problem}. Beside client_id and"
            f" client_secret it takes {', '.join(sorted(self.placeholders)) or 'no placeholder'}"
            " and the settings of its grant."
        )

    def _grant(self, settings: dict[str, Any]) -> RefreshTokenGrant | JSONGrant:
        values = {name: settings.pop(name) for name in self.placeholders & settings.keys()}
        own_url = settings.pop("token_url", None)
        if own_url is not None and values:
            names = ", ".join(sorted(values))
            raise ConfigurationError(f"{names} would not be used beside token_url. Leave one out.")
        token_url, revocation_url = own_url, None
        if own_url is None:
            filled = self.filled(**values)
            token_url, revocation_url = filled.token_url, filled.revocation_url
        if self.speaks == "json":
            return JSONGrant(token_url, **settings)
        own: dict[str, Any] = {"login_over_errors": self.login_over}
        if revocation_url is not None:
            own["revocation_url"] = revocation_url
        if self.client_auth is not None and settings.get("client_secret") is not None:
            own["client_auth"] = self.client_auth
        return RefreshTokenGrant(token_url, **{**own, **settings})

    def _urls(self) -> dict[str, str | None]:
        return {field: getattr(self, field) for field in _URLS}

    def _where(self, name: str) -> str:
        return next(url for url in self._urls().values() if url and f"{{{name}}}" in url)


def _is_json(response: Response) -> bool:
    media = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return media == "application/json" or media.endswith("+json")


def _is_value(name: str, value: object) -> bool:
    if not isinstance(value, str):
        return False
    if name == "domain":
        host, colon, port = value.partition(":")
        return bool(_VALUE.fullmatch(host)) and (not colon or bool(_PORT.fullmatch(colon + port)))
    return bool(_VALUE.fullmatch(value))
