"""Keeps a `requests.Session` logged in: one expiry, one refresh, nobody notices."""

from importlib.metadata import version as _version

from .adapter import RefreshAdapter, anonymous
from .errors import (
    ConfigurationError,
    InvalidReply,
    LoginRequired,
    RefreshError,
    RefreshLoop,
    RefreshRefused,
    RefreshTimeout,
    RefreshUnavailable,
    StoreConflict,
    StoreError,
)
from .gate import remaining
from .grants import CookieGrant, JSONGrant, RefreshTokenGrant
from .schemes import Bearer, HeaderScheme
from .source import Stats, TokenSource
from .stores import ANY, FileStore, MemoryStore, TokenStore, open_store
from .tokens import Token

__version__ = _version("requests_refresh")

__all__ = [
    "ANY",
    "Bearer",
    "ConfigurationError",
    "CookieGrant",
    "FileStore",
    "HeaderScheme",
    "InvalidReply",
    "JSONGrant",
    "LoginRequired",
    "MemoryStore",
    "RefreshAdapter",
    "RefreshError",
    "RefreshLoop",
    "RefreshRefused",
    "RefreshTimeout",
    "RefreshTokenGrant",
    "RefreshUnavailable",
    "Stats",
    "StoreConflict",
    "StoreError",
    "Token",
    "TokenSource",
    "TokenStore",
    "anonymous",
    "open_store",
    "remaining",
]
