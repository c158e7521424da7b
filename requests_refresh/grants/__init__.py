"""Where a refresh happens: how a new token is obtained from the provider.

A grant is any callable `(Token or None) -> Token`, OAuth reply or str; these
are the ready-made ones.
"""

from __future__ import annotations

from .assertion import JWTBearerGrant
from .authentication import PrivateKeyJWT
from .client import OAuthGrant
from .cookie import CookieGrant
from .exchange import TokenExchangeGrant
from .jsonbody import JSONGrant
from .oauth import ClientCredentialsGrant, RefreshTokenGrant

__all__ = [
    "ClientCredentialsGrant",
    "CookieGrant",
    "JSONGrant",
    "JWTBearerGrant",
    "OAuthGrant",
    "PrivateKeyJWT",
    "RefreshTokenGrant",
    "TokenExchangeGrant",
]
