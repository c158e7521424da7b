"""Where tokens live: the stores, and `open_store`, which makes one from a URL."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import unquote

from ..errors import ConfigurationError
from .base import ANY, Lease, TokenStore
from .copying import copy
from .file import FileStore
from .keyring import KeyringStore
from .keyring import open_url as _open_keyring
from .memory import MemoryStore
from .redis import RedisStore
from .sql import SQLStore
from .values import Encryption

__all__ = [
    "ANY",
    "Encryption",
    "FileStore",
    "KeyringStore",
    "Lease",
    "MemoryStore",
    "RedisStore",
    "SQLStore",
    "TokenStore",
    "copy",
    "open_store",
]

_GROUP = "requests_refresh.stores"
_Opener = Callable[..., object]


def open_store(url: str, **settings: Any) -> TokenStore:
    """The store that a URL names.

    url: one of these, percent-encoded where needed:

        - `memory:` for a MemoryStore
        - `file:///absolute/path`, or `file://~/path` under your home directory
        - `keyring:service` for the keychain of the operating system
        - `redis://host:port/0`, `rediss://`, `unix://`, `redis+cluster://` and
          `redis+sentinel://`, as RedisStore takes them
        - `sqlite:///path`, `postgresql+psycopg://user@host/name`,
          `mysql+pymysql://`, `mariadb+pymysql://`, as SQLAlchemy takes them

        Other schemes come with packages: an entry point in the group
        `requests_refresh.stores`, named like the scheme, that is a callable
        from the URL, and maybe settings, to a TokenStore.
    settings: what the store itself takes by name: `encryption=`, `lease=`.

    Raises ConfigurationError for an unknown scheme, naming it and the known
    ones, for a URL that its scheme cannot read, and for a missing extra;
    TypeError for a setting that the store does not have. No message holds the
    URL, because there may be a password in it. Opens nothing yet, and does not
    block.
    """
    match = re.match("([A-Za-z][A-Za-z0-9+.-]*):", url) if isinstance(url, str) else None
    opener = _opener(match[1].lower()) if match else _NO_URL
    unread, url = [url], ""  # so that a traceback with locals does not show it either
    if isinstance(opener, str):
        unread.clear()
        raise ConfigurationError(opener)
    try:
        store = opener(unread.pop(), **settings)
    finally:
        settings.clear()  # there may be a key where an Encryption was expected
    if not isinstance(store, TokenStore):
        raise ConfigurationError(
            f"What is registered for the scheme of this URL made a {type(store).__name__}, which"
            " is no TokenStore. That is a fault of the package that registered it."
        )
    return store


def _opener(scheme: str) -> _Opener | str:
    """What opens URLs of `scheme`, or what to tell the user."""
    opener: _Opener | None = _OPENERS.get(scheme) or _OPENERS.get(scheme.partition("+")[0] + "+")
    if opener is not None:
        return opener
    others = {entry.name: entry for entry in entry_points(group=_GROUP)}
    if scheme not in others:
        known = ", ".join(f"{name}:" for name in sorted({*_OPENERS, *others}) if name[-1] != "+")
        return (
            f"No store has the scheme {scheme!r}. Known here: {known}. Check the URL for a slip,"
            " or install the package that brings the scheme."
        )
    try:
        opener = others[scheme].load()
    except Exception as error:  # whatever an import may raise; it has not seen the URL
        return (
            f"The store for the scheme {scheme!r} could not be imported"
            f" ({type(error).__name__}: {error}). Mend the installation of its package."
        )
    assert opener is not None
    return opener


def _open_memory(url: str, **settings: Any) -> TokenStore:
    extra = len(url) > len("memory:")
    del url
    if extra:
        raise ConfigurationError("The URL of a MemoryStore is memory: and nothing after it.")
    try:
        return MemoryStore(**settings)
    finally:
        settings.clear()


def _open_file(url: str, **settings: Any) -> TokenStore:
    match = re.fullmatch("//(~?)(/[^?#]+)", url[len("file:") :])
    del url
    if match is None:
        raise ConfigurationError(
            "The URL of a FileStore is file:///absolute/path or file://~/path under the home"
            " directory. It names no host, and ? and # in a path are written %3F and %23."
        )
    path = unquote(match[2], sys.getfilesystemencoding(), "surrogateescape")
    try:
        return FileStore(match[1] + path, **settings)
    finally:
        settings.clear()


_NO_URL = (
    "A store's URL begins with its scheme, such as memory: or file://~/.config/sync/tokens.json."
    " For a plain path write FileStore(path)."
)
# One that ends in + stands for all schemes that begin so: a database with any driver.
_OPENERS: dict[str, _Opener] = {
    "file": _open_file,
    "keyring": _open_keyring,
    "memory": _open_memory,
    **dict.fromkeys(("redis", "redis+", "rediss", "rediss+", "unix"), RedisStore),
    **{
        scheme + plus: SQLStore
        for scheme in ("sqlite", "postgresql", "mysql", "mariadb")
        for plus in ("", "+")
    },
}
