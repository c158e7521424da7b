"""What providers issue for a refresh token, in the shape that their documentation gives.

Those of Auth0, Keycloak, QuickBooks and Xero are not from a page that was
seen, but have the fields that clients of theirs read.
"""

from __future__ import annotations

from requests_refresh.presets import (
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
    Preset,
)
from tests.grants.endpoint import Answer

FORM = "application/x-www-form-urlencoded; charset=utf-8"
KEPT = "old-refresh"

# row -> preset, its answer, the new access token, the refresh token then stored, seconds to live
NEW: dict[str, tuple[Preset, Answer, str, str, float | None]] = {
    "GitHub": (
        GITHUB,
        Answer(
            body={
                "access_token": "ghu_new",
                "expires_in": 28800,
                "refresh_token": "ghr_new",
                "refresh_token_expires_in": 15897600,
                "scope": "",
                "token_type": "bearer",
            }
        ),
        "ghu_new",
        "ghr_new",
        28800,
    ),
    "GitHub, as a form": (
        GITHUB,
        Answer(
            200,
            "access_token=ghu_new&expires_in=28800&refresh_token=ghr_new"
            "&refresh_token_expires_in=15897600&scope=&token_type=bearer",
            FORM,
        ),
        "ghu_new",
        "ghr_new",
        28800,
    ),
    "Google keeps the refresh token": (
        GOOGLE,
        Answer(
            body={
                "access_token": "1/fFAGRNJru1FTz70BzhT3Zg",
                "expires_in": 3920,
                "scope": "https://www.googleapis.com/auth/drive.metadata.readonly",
                "token_type": "Bearer",
            }
        ),
        "1/fFAGRNJru1FTz70BzhT3Zg",
        KEPT,
        3920,
    ),
    "Entra": (
        ENTRA,
        Answer(
            body={
                "access_token": "eyJ0eXAi",
                "token_type": "Bearer",
                "expires_in": 3599,
                "scope": "https%3A%2F%2Fgraph.microsoft.com%2Fmail.read",
                "refresh_token": "AwABAAAA",
                "id_token": "eyJ0eXAi.x.y",
            }
        ),
        "eyJ0eXAi",
        "AwABAAAA",
        3599,
    ),
    "Entra v1, numbers as texts": (
        ENTRA,
        Answer(
            body={
                "token_type": "Bearer",
                "expires_in": "3600",
                "expires_on": "1460404526",
                "resource": "https://service.contoso.com/",
                "access_token": "eyJ0eXAi",
                "refresh_token": "AwABAAAA",
            }
        ),
        "eyJ0eXAi",
        "AwABAAAA",
        3600,
    ),
    "Slack": (
        SLACK,
        Answer(
            body={
                "ok": True,
                "access_token": "xoxe.xoxb-1-new",
                "expires_in": 43200,
                "refresh_token": "xoxe-1-new",
                "token_type": "bot",
                "scope": "commands,incoming-webhook",
                "bot_user_id": "U0KRQLJ9H",
                "app_id": "A0KRD7HC3",
                "team": {"name": "Slack Softball Team", "id": "T9TK3CUKW"},
                "enterprise": None,
            }
        ),
        "xoxe.xoxb-1-new",
        "xoxe-1-new",
        43200,
    ),
    "Salesforce tells no lifetime": (
        SALESFORCE,
        Answer(
            body={
                "id": "https://login.salesforce.com/id/00Dx0000000BV7z/005x00000012Q9P",
                "issued_at": "1278448384422",
                "instance_url": "https://yourInstance.salesforce.com/",
                "signature": "SSSbLO/gBhmmyNUvN18ODBDFYHzakxOMgqYtu+hDPsc=",
                "access_token": "00Dx0000000BV7z!AR8AQP0jITN80ESEsj5EbaZTFG0RNBaT1cyWk7T5rqoDjoNIW",
                "token_type": "Bearer",
            }
        ),
        "00Dx0000000BV7z!AR8AQP0jITN80ESEsj5EbaZTFG0RNBaT1cyWk7T5rqoDjoNIW",
        KEPT,
        None,
    ),
    "Atlassian": (
        ATLASSIAN,
        Answer(
            body={
                "access_token": "a2",
                "refresh_token": "r2",
                "expires_in": 3600,
                "scope": "offline_access read:jira-work",
            }
        ),
        "a2",
        "r2",
        3600,
    ),
    "Xero": (
        XERO,
        Answer(
            body={
                "id_token": "i2",
                "access_token": "a2",
                "expires_in": 1800,
                "token_type": "Bearer",
                "refresh_token": "r2",
                "scope": "offline_access accounting.transactions",
            }
        ),
        "a2",
        "r2",
        1800,
    ),
    "QuickBooks": (
        QUICKBOOKS,
        Answer(
            body={
                "token_type": "bearer",
                "expires_in": 3600,
                "refresh_token": "Q311488394272qbajGfLBwGVVXAkUTB",
                "x_refresh_token_expires_in": 8726400,
                "access_token": "eJlbmMiOiJBMTI4Q0JDLUhTMjU2IiwiYWxnIjoi",
            },
            media="application/json;charset=UTF-8",
        ),
        "eJlbmMiOiJBMTI4Q0JDLUhTMjU2IiwiYWxnIjoi",
        "Q311488394272qbajGfLBwGVVXAkUTB",
        3600,
    ),
    "Zoho keeps the refresh token": (
        ZOHO,
        Answer(
            body={
                "access_token": "1000.new",
                "expires_in": 3600,
                "api_domain": "https://www.zohoapis.com",
                "token_type": "Bearer",
            }
        ),
        "1000.new",
        KEPT,
        3600,
    ),
    "Auth0": (
        AUTH0,
        Answer(
            body={
                "access_token": "eyJ",
                "refresh_token": "GEbRxBN",
                "id_token": "eyJ.x.y",
                "token_type": "Bearer",
                "expires_in": 86400,
            }
        ),
        "eyJ",
        "GEbRxBN",
        86400,
    ),
    "Okta": (
        OKTA,
        Answer(
            body={
                "token_type": "Bearer",
                "expires_in": 3600,
                "access_token": "eyJraWQ",
                "scope": "offline_access openid",
                "refresh_token": "a9VpZDRCeFh3Nkk2VdY",
                "id_token": "eyJraWQ.x.y",
            }
        ),
        "eyJraWQ",
        "a9VpZDRCeFh3Nkk2VdY",
        3600,
    ),
    "Keycloak": (
        KEYCLOAK,
        Answer(
            body={
                "access_token": "eyJ",
                "expires_in": 300,
                "refresh_expires_in": 1800,
                "refresh_token": "eyJ.r",
                "token_type": "Bearer",
                "not-before-policy": 0,
                "session_state": "6f2b1c",
                "scope": "email profile",
            }
        ),
        "eyJ",
        "eyJ.r",
        300,
    ),
    "Spotify keeps the refresh token": (
        SPOTIFY,
        Answer(
            body={
                "access_token": "NgCXRK",
                "token_type": "Bearer",
                "expires_in": 3600,
                "scope": "user-read-private user-read-email",
            }
        ),
        "NgCXRK",
        KEPT,
        3600,
    ),
    "Box": (
        BOX,
        Answer(
            body={
                "access_token": "T9cE5asGnuyYCCqIZFoWjFHvNbvVqHjl",
                "expires_in": 3600,
                "token_type": "bearer",
                "restricted_to": [{"scope": "item_download", "object": {"id": "12345"}}],
                "refresh_token": "J7rxTiWOHMoSC1isKZKBZWizoRXjkQzig5C6jFgCVJ9bUnsUfGMinKBDLZWP9BgR",
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            }
        ),
        "T9cE5asGnuyYCCqIZFoWjFHvNbvVqHjl",
        "J7rxTiWOHMoSC1isKZKBZWizoRXjkQzig5C6jFgCVJ9bUnsUfGMinKBDLZWP9BgR",
        3600,
    ),
    "Django SimpleJWT": (SIMPLEJWT, Answer(body={"access": "eyJ.a"}), "eyJ.a", KEPT, None),
    "Django SimpleJWT, rotating": (
        SIMPLEJWT,
        Answer(body={"access": "eyJ.a", "refresh": "eyJ.r"}),
        "eyJ.a",
        "eyJ.r",
        None,
    ),
}
