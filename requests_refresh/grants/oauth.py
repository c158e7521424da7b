"""`RefreshTokenGrant` and `ClientCredentialsGrant` (RFC 6749 sections 6 and 4.4)."""

from __future__ import annotations

from typing import Any, ClassVar

from ..tokens import Token
from .base import needed
from .client import OAuthGrant


class RefreshTokenGrant(OAuthGrant):
    """Renews by the refresh token at an OAuth 2.0 token endpoint (RFC 6749 section 6).

    The settings are those of the constructor, below. Called with no refresh
    token, it raises LoginRequired and asks nobody. Immutable, so any thread may
    call it.
    """

    def _asked(self, token: Token | None) -> tuple[dict[str, Any], list[str]]:
        refresh_token = needed(token, "refresh_token")
        return {"grant_type": "refresh_token", "refresh_token": refresh_token}, [refresh_token]

    def _previous(self, token: Token | None) -> Token | None:
        return token

    def _kept_of(self, token: Token) -> Token:
        return token


class ClientCredentialsGrant(OAuthGrant):
    """Asks for a token by the client's own credentials (RFC 6749 section 4.4).

    There is no refresh token and no login that could end: a new token is
    simply asked for. One that the provider sends all the same is not kept.
    Settings and threads as for RefreshTokenGrant.
    """

    _FINAL: ClassVar[frozenset[str]] = frozenset()

    def _asked(self, token: Token | None) -> tuple[dict[str, Any], list[str]]:
        return {"grant_type": "client_credentials"}, []
