"""Providers as data: where each is asked, how, and what its answers mean.

    tokens = TokenSource(GITHUB.grant(client_id=ID, client_secret=SECRET), store=store)
    session.mount(API, RefreshAdapter(tokens, origins=API, scheme=GITHUB.scheme()))

A preset decides nothing that `RefreshTokenGrant` and `Bearer` could not be
told, and every fact in it stands on a page of the provider's, in `sources`.
"""

from __future__ import annotations

from .preset import Preset, Refusal
from .providers import (
    ALL,
    ATLASSIAN,
    AUTH0,
    BOX,
    ENTRA,
    GITHUB,
    GOOGLE,
    KEYCLOAK,
    OKTA,
    QUICKBOOKS,
    SALESFORCE,
    SIMPLEJWT,
    SLACK,
    SPOTIFY,
    XERO,
    ZOHO,
)

__all__ = [
    "ALL",
    "ATLASSIAN",
    "AUTH0",
    "BOX",
    "ENTRA",
    "GITHUB",
    "GOOGLE",
    "KEYCLOAK",
    "OKTA",
    "QUICKBOOKS",
    "SALESFORCE",
    "SIMPLEJWT",
    "SLACK",
    "SPOTIFY",
    "XERO",
    "ZOHO",
    "Preset",
    "Refusal",
]
