"""Which servers may see a secret: URLs compared parsed, never as a string prefix.

An origin is scheme, host and effective port. A secret goes over https, or
over plain http to this host itself.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

import requests

from .errors import ConfigurationError

Origin = tuple[str, str, int | None]

_PORTS = {"http": 80, "https": 443}


def origin_of(url: str | None) -> Origin | None:
    """The (scheme, host, port) to which requests would connect for `url`; None if to none.

    Cut by `urlsplit`, as requests' own adapter cuts it, so that the two can
    never disagree about where a request goes.
    """
    try:
        # With all arguments, as requests calls it: so the one finds in the cache of urlsplit what
        # the other has cut before.
        parts = urlsplit(url or "", "", True)
        cut = _cut if "@" not in parts.netloc else _cut.__wrapped__  # a password is not kept
    except (TypeError, ValueError):  # the former for bytes, which no PreparedRequest should have
        return None
    return cut(parts.scheme, parts.netloc)


@functools.lru_cache(maxsize=256)
def _cut(scheme: str, netloc: str) -> Origin | None:
    parts = SplitResult(scheme, netloc, "", "", "")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host:
        return None
    return scheme, host, _PORTS.get(scheme) if port is None else port


def require_private(url: str, what: str) -> None:
    """Raise ConfigurationError unless `url` is https, or http to a loopback host.

    what: what the URL is for, to begin the message with. The message names
    the URL's scheme and host only; the rest may hold a secret.
    """
    found = origin_of(url) if isinstance(url, str) else None
    if found is None:
        raise ConfigurationError(
            f"{what} is not a URL with a scheme and a host. Give one like https://api.example.com/."
        )
    scheme, host, _ = found
    if scheme == "https" or (scheme == "http" and _is_loopback(host)):
        return
    raise ConfigurationError(
        f"{what} is {scheme}://{host}, where others could read the token (RFC 6750 section 5.3)."
        " Use https; plain http is for loopback hosts only."
    )


def parse_origins(
    origins: str | Iterable[str], *, local_schemes: bool = False
) -> frozenset[Origin]:
    """The origins in one URL or several; a path in them means nothing.

    local_schemes: allow schemes of another adapter's, such as http+unix.
    Raises ConfigurationError for a URL that may not see a token.
    """
    urls = [origins] if isinstance(origins, str) else origins
    urls = list(urls) if isinstance(urls, Iterable) else []
    if not urls:
        raise ConfigurationError(
            "origins is empty, so no server would ever see the token. Name the API's URL."
        )
    found = set()
    for url in urls:
        cut = origin_of(url) if isinstance(url, str) else None
        if cut is None or cut[0] in _PORTS or not local_schemes:
            require_private(url, "An origin")
            url = _as_sent(url)
            cut = origin_of(url)
            require_private(url, "An origin")
        assert cut is not None
        found.add(cut)
    return frozenset(found)


def _as_sent(url: str) -> str:
    """`url` as requests would send it: an international host becomes its ASCII form."""
    try:
        prepared = requests.Request("GET", url).prepare().url
    except (requests.exceptions.RequestException, ValueError):  # the latter quotes a password
        prepared = None
    if not prepared:
        raise ConfigurationError(
            "An origin is not a URL that requests can send to. Give one like"
            " https://api.example.com/."
        )
    return prepared


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True  # RFC 6761 section 6.3
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
