"""The URL of a store: its password shows nowhere, and is in no pickle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import ConfigurationError

_SECRET = ("pass", "pwd", "secret", "token")


class StoreURL:
    """A URL, or a callable that returns one; immutable.

    url: one of the two, or a StoreURL. what: whose it is, for errors.
    schemes: those that it may have; empty for any.

    Raises ConfigurationError, which never quotes the URL.
    """

    __slots__ = ("_schemes", "_url", "_what")

    def __init__(self, url: object, what: str, schemes: tuple[str, ...] = ()) -> None:
        left_behind = isinstance(url, StoreURL) and url._url is None
        if isinstance(url, StoreURL):
            url = url._url
        self._url: str | Callable[[], str] | None = None
        self._what, self._schemes = what, schemes
        problem = None
        if isinstance(url, str):
            problem = self._problem(url)
        elif not left_behind and not callable(url):
            problem = f"{what} needs a URL, or a callable that returns one."
        if problem is not None:
            del url  # tracebacks with locals show no password
            raise ConfigurationError(problem)
        self._url = url  # type: ignore[assignment] # looked at above

    def _problem(self, url: str) -> str | None:
        scheme = ""
        try:
            parts = urlsplit(url)
            scheme = parts.scheme
            for host in parts.netloc.rpartition("@")[2].split(","):
                _ = urlsplit(f"//{host}").port  # which looks at it
        except ValueError:
            return f"The URL of this {self._what} cannot be read: its host or port is none."
        # Without the // it would be a path, which is shown, and no library takes it.
        whole = bool(scheme) and url.startswith("://", len(scheme))
        if whole and (not self._schemes or scheme in self._schemes):
            return None
        known = ", ".join(f"{scheme}://" for scheme in self._schemes) or "scheme://host/path"
        return f"The URL of a {self._what} begins with its scheme: {known}."

    def __call__(self) -> str:
        """The URL, secrets and all."""
        if self._url is None:
            raise ConfigurationError(
                f"The URL of this {self._what} holds a password and was left behind when the store"
                " was pickled, as a pickle is no place for a secret. What is stored is intact. Make"
                " the store in this process, or give it a function that returns the URL."
            )
        url: Any = self._url if isinstance(self._url, str) else self._url()
        problem = self._problem(url) if isinstance(url, str) else "The callable returned no URL."
        if problem is not None:
            del url
            raise ConfigurationError(problem)
        text: str = url
        return text

    @property
    def fixed(self) -> str | None:
        """The URL, where it is one and no callable."""
        return self._url if isinstance(self._url, str) else None

    @property
    def scheme(self) -> str:
        return urlsplit(self()).scheme

    def text(self, scheme: str) -> str:
        """The URL with another scheme."""
        return scheme + ":" + self().partition(":")[2]

    def __repr__(self) -> str:
        if not isinstance(self._url, str):
            return "a URL that is not shown"
        parts = urlsplit(self._url)
        shown = "..." if _is_cut(parts) else parts.netloc.rpartition("@")[2] + parts.path
        return repr(f"{parts.scheme}://{shown}")

    def __copy__(self) -> StoreURL:
        return self

    def __deepcopy__(self, memo: object) -> StoreURL:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        url = self._url
        if url is None or (isinstance(url, str) and holds_secret(url)):
            return _left_behind, (self._what, self._schemes)
        return StoreURL, (url, self._what, self._schemes)


def holds_secret(url: str) -> bool:
    parts = urlsplit(url)
    query = unquote(parts.query).lower()
    login = parts.netloc.rpartition("@")[0]
    return ":" in login or _is_cut(parts) or any(word in query for word in _SECRET)


def _is_cut(parts: SplitResult) -> bool:
    """Whether a / ? or # that stands in a password as it is may have cut it in two."""
    is_path = parts.scheme.partition("+")[0] in ("sqlite", "unix")
    cut = ":" in parts.netloc or not (parts.netloc or is_path)  # or one / too many stands before it
    return cut and "@" in parts.path + parts.query + parts.fragment


def _left_behind(what: str, schemes: tuple[str, ...]) -> StoreURL:
    self = StoreURL.__new__(StoreURL)
    self._url, self._what, self._schemes = None, what, schemes
    return self
