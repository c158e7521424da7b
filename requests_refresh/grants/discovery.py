"""Where a provider's endpoints are, as it says itself: RFC 8414 and OpenID Connect Discovery.

The issuer in the metadata must be the one that was asked for, to the letter
(RFC 8414 section 3.3), and every endpoint must be fit for a secret.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ..errors import ConfigurationError, InvalidReply, RefreshRefused
from ..origins import origin_of
from .authentication import BASIC, POST, SECRET_JWT
from .http import Endpoint
from .replies import decoded, is_page
from .settings import Timeout, first, problem_in, reach_problem, url_problem

_KEPT = 3600.0  # seconds for which metadata is kept
_MOST_KEPT = 64
_OPENID, _OAUTH = "openid-configuration", "oauth-authorization-server"

_known: dict[tuple[object, ...], tuple[float, Metadata]] = {}  # a dict's items are atomic


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a provider says of itself (RFC 8414 section 2)."""

    issuer: str
    fields: Mapping[str, Any]

    def settings(self, endpoints: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a grant that follow from it.

        endpoints: a grant's settings -> their names in metadata. given: what
            the user has set; it decides how the client can authenticate.

        Raises InvalidReply for an endpoint that is missing or unfit.
        """
        found = {}
        aliases = self.fields.get("mtls_endpoint_aliases")  # RFC 8705 section 5
        fields = dict(self.fields)
        if given.get("cert") is not None and isinstance(aliases, Mapping):
            fields.update(aliases)
        for setting, name in endpoints.items():
            url = fields.get(name)
            if url is not None and setting not in given:
                found[setting] = self._checked(url, name) if name != "issuer" else url
        if "token_url" not in found and "token_url" not in given:
            raise _unusable(self.issuer, "it names no token_endpoint")
        known = self.fields.get("token_endpoint_auth_methods_supported")
        if given.get("client_secret") and "client_auth" not in given and isinstance(known, list):
            ways = [way for way in (BASIC, POST, SECRET_JWT) if way in known]
            found["client_auth"] = ways[0] if ways else BASIC
        return found

    def _checked(self, url: Any, name: str) -> str:
        problem = url_problem(url, name)
        here = origin_of(self.issuer)
        if not problem and url[:5].lower() == "http:" and here is not None and here[0] != "http":
            problem = f"{name} is plain http."
        if problem:
            raise _unusable(self.issuer, problem.rstrip("."))
        return str(url)


def discovered(
    issuer: str,
    *,
    timeout: Timeout = (5, 15),
    verify: bool | str = True,
    proxies: Mapping[str, str] | None = None,
) -> Metadata:
    """The metadata of `issuer`, kept for an hour. Blocks for the network.

    Raises ConfigurationError for what is no issuer; RefreshUnavailable,
    RefreshRefused or InvalidReply where there is no metadata of this issuer.
    """
    problem = problem_in(
        lambda: first(
            url_problem(issuer, "issuer"),
            "issuer has a query, which it may not (RFC 8414 section 2)."
            if isinstance(issuer, str) and "?" in issuer
            else None,
            reach_problem(timeout, verify, None, proxies),
        )
    )
    if problem:
        del proxies
        raise ConfigurationError(problem)
    key = (issuer, str(verify), tuple(sorted((proxies or {}).items())))
    until, known = _known.get(key, (0.0, None))
    if known is not None and time.monotonic() < until:
        return known
    found = None
    for url in _places(issuer):
        endpoint = Endpoint(
            url, method="GET", timeout=timeout, verify=verify, cert=None, proxies=proxies
        )
        reply = endpoint.ask({}, None, None)
        fields = decoded(reply)
        if reply.ok and not is_page(reply, fields):
            found = _metadata(issuer, fields)
            break
        if not reply.ok and reply.status not in (400, 401, 403, 404, 405, 406, 410):
            break
    if found is None:
        raise RefreshRefused(
            f"{issuer} answered {reply.status} where its metadata should be (RFC 8414 section 3,"
            " OpenID Connect Discovery section 4). Nothing was sent but the question. Check the"
            " issuer, or give the endpoints yourself."
        )
    if len(_known) >= _MOST_KEPT:
        _known.clear()
    _known[key] = (time.monotonic() + _KEPT, found)
    return found


def _places(issuer: str) -> list[str]:
    """Where it may be: OpenID's place after the issuer's path, RFC 8414's before it."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    places = [
        f"{path}/.well-known/{_OPENID}",
        f"/.well-known/{_OAUTH}{path}",
        f"/.well-known/{_OPENID}{path}",
    ]
    return [urlunsplit(parts._replace(path=place)) for place in dict.fromkeys(places)]


def _metadata(issuer: str, fields: Any) -> Metadata:
    if not isinstance(fields, Mapping):
        raise _unusable(issuer, "it is no JSON object")
    if fields.get("issuer") != issuer:
        raise _unusable(
            issuer,
            "it is another issuer's (RFC 8414 section 3.3); a slash at the end makes a difference",
        )
    return Metadata(issuer, fields)


def _unusable(issuer: str, problem: str) -> InvalidReply:
    return InvalidReply(
        f"The metadata of {issuer} cannot be used: {problem}. Nothing was sent but the question."
        " Check the issuer, or give the endpoints yourself."
    )
