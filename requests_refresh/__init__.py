"""Keeps a `requests.Session` logged in: one expiry, one refresh, nobody notices."""

from importlib.metadata import version as _version

from .adapter import RefreshAdapter, anonymous
from .dpop import DPoP
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
from .grants import (
    ClientCredentialsGrant,
    CookieGrant,
    JSONGrant,
    JWTBearerGrant,
    PrivateKeyJWT,
    RefreshTokenGrant,
    TokenExchangeGrant,
)
from .logins import BrowserLogin, DeviceLogin, DevicePrompt, PasswordLogin
from .pool import TokenPool
from .schemes import Bearer, HeaderScheme
from .source import TokenSource
from .stats import Stats
from .stores import (
    ANY,
    Encryption,
    FileStore,
    KeyringStore,
    MemoryStore,
    RedisStore,
    SQLStore,
    TokenStore,
    open_store,
)
from .tokens import Token

__version__ = _version("requests_refresh")

__all__ = [
    "ANY",
    "Bearer",
    "BrowserLogin",
    "ClientCredentialsGrant",
    "ConfigurationError",
    "CookieGrant",
    "DPoP",
    "DeviceLogin",
    "DevicePrompt",
    "Encryption",
    "FileStore",
    "HeaderScheme",
    "InvalidReply",
    "JSONGrant",
    "JWTBearerGrant",
    "KeyringStore",
    "LoginRequired",
    "MemoryStore",
    "PasswordLogin",
    "PrivateKeyJWT",
    "RedisStore",
    "RefreshAdapter",
    "RefreshError",
    "RefreshLoop",
    "RefreshRefused",
    "RefreshTimeout",
    "RefreshTokenGrant",
    "RefreshUnavailable",
    "SQLStore",
    "Stats",
    "StoreConflict",
    "StoreError",
    "Token",
    "TokenExchangeGrant",
    "TokenPool",
    "TokenSource",
    "TokenStore",
    "anonymous",
    "open_store",
    "remaining",
]
