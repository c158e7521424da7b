"""Where tokens live: the stores, and `open_store`, which makes one from a URL."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from urllib.parse import unquote

from ..errors import ConfigurationError
from .base import ANY, TokenStore
from .file import FileStore
from .memory import MemoryStore

__all__ = ["ANY", "FileStore", "MemoryStore", "TokenStore", "open_store"]

_GROUP = "requests_refresh.stores"
_Opener = Callable[[str], object]


def open_store(url: str) -> TokenStore:
    """The store that a URL names.

    url: `memory:`, or `file:///absolute/path`, or `file://~/path` for one under
        your home directory, percent-encoded where needed. Other schemes come
        with packages: an entry point in the group `requests_refresh.stores`,
        named like the scheme, that is a callable from the URL to a TokenStore.

    Raises ConfigurationError for an unknown scheme, naming it and the known
    ones, and for a URL that its scheme cannot read. No message holds the URL,
    because there may be a password in it. Opens no file yet, and does not block.
    """
    match = re.match("([A-Za-z][A-Za-z0-9+.-]*):", url) if isinstance(url, str) else None
    opener = _opener(match[1].lower()) if match else _NO_URL
    unread, url = [url], ""  # so that a traceback with locals does not show it either
    if isinstance(opener, str):
        unread.clear()
        raise ConfigurationError(opener)
    store = opener(unread.pop())
    if not isinstance(store, TokenStore):
        raise ConfigurationError(
            f"What is registered for the scheme of this URL made a {type(store).__name__}, which"
            " is no TokenStore. That is a fault of the package that registered it."
        )
    return store


def _opener(scheme: str) -> _Opener | str:
    """What opens URLs of `scheme`, or what to tell the user."""
    if scheme in _OPENERS:
        return _OPENERS[scheme]
    others = {entry.name: entry for entry in entry_points(group=_GROUP)}
    if scheme not in others:
        known = ", ".join(f"{name}:" for name in sorted({*_OPENERS, *others}))
        return (
            f"No store has the scheme {scheme!r}. Known here: {known}. Check the URL for a slip,"
            " or install the package that brings the scheme."
        )
    try:
        opener: _Opener = others[scheme].load()
    except Exception as error:  # whatever an import may raise; it has not seen the URL
        return (
            f"The store for the scheme {scheme!r} could not be imported"
            f" ({type(error).__name__}: {error}). Mend the installation of its package."
        )
    return opener


def _open_memory(url: str) -> TokenStore:
    extra = len(url) > len("memory:")
    del url
    if extra:
        raise ConfigurationError("The URL of a MemoryStore is memory: and nothing after it.")
    return MemoryStore()


def _open_file(url: str) -> TokenStore:
    match = re.fullmatch("//(~?)(/[^?#]+)", url[len("file:") :])
    del url
    if match is None:
        raise ConfigurationError(
            "The URL of a FileStore is file:///absolute/path or file://~/path under the home"
            " directory. It names no host, and ? and # in a path are written %3F and %23."
        )
    path = unquote(match[2], sys.getfilesystemencoding(), "surrogateescape")
    return FileStore(match[1] + path)


_NO_URL = (
    "A store's URL begins with its scheme, such as memory: or file://~/.config/sync/tokens.json."
    " For a plain path write FileStore(path)."
)
_OPENERS: dict[str, _Opener] = {"file": _open_file, "memory": _open_memory}
