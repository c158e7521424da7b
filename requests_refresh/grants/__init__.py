"""Where a refresh happens: how a new token is obtained from the provider.

A grant is any callable `(Token or None) -> Token`, OAuth reply or str; these
are the ready-made ones.
"""

from __future__ import annotations

from .cookie import CookieGrant
from .jsonbody import JSONGrant
from .oauth import RefreshTokenGrant

__all__ = ["CookieGrant", "JSONGrant", "RefreshTokenGrant"]
