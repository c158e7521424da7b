"""How providers refuse a refresh, in the shape that their documentation gives.

Where a page names an error and shows no whole reply, the reply is made up
around it. These rows stand on no page that was seen, but on what clients of
the provider report: the wording of Okta's, QuickBooks', Spotify's and
Google's descriptions, "Auth0, the secret", "Atlassian, the client", "Zoho, too
many" and the web page in "Entra, too many".
"""

from __future__ import annotations

from requests_refresh import LoginRequired, RefreshRefused, RefreshUnavailable
from requests_refresh.errors import RefreshError
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
from tests.presets.issued import FORM

PAGE = "<!DOCTYPE html><html><body>Service unavailable</body></html>"
LATER = [("Retry-After", "120")]
AADSTS = "AADSTS50076: Due to a configuration change you must use multi-factor authentication"
TOO_MANY = "You have made too many requests continuously. Please try again after some time."
SIMPLEJWT_DEAD = {"detail": "Token is invalid or expired", "code": "token_not_valid"}

# row -> preset, its answer, what is raised, the provider's `error` in it
REFUSALS: dict[str, tuple[Preset, Answer, type[RefreshError], str | None]] = {
    "any, a setting": (OKTA, Answer(400, {"error": "invalid_request"}), RefreshRefused, None),
    "Auth0, dead": (
        AUTH0,
        Answer(
            403,
            {
                "error": "invalid_grant",
                "error_description": "Unknown or invalid refresh token.",
            },
        ),
        LoginRequired,
        "invalid_grant",
    ),
    "Auth0, the secret": (
        AUTH0,
        Answer(401, {"error": "access_denied", "error_description": "Unauthorized"}),
        RefreshRefused,
        "access_denied",
    ),
    "Okta, reused": (
        OKTA,
        Answer(
            400,
            {
                "error": "invalid_grant",
                "error_description": "The refresh token is invalid or expired.",
            },
        ),
        LoginRequired,
        "invalid_grant",
    ),
    "Okta, the secret": (
        OKTA,
        Answer(
            401,
            {
                "error": "invalid_client",
                "error_description": "The client secret supplied for a confidential client is"
                " invalid.",
            },
        ),
        RefreshRefused,
        "invalid_client",
    ),
    "Keycloak, reused": (
        KEYCLOAK,
        Answer(
            400,
            {
                "error": "invalid_grant",
                "error_description": "Maximum allowed refresh token reuse exceeded",
            },
        ),
        LoginRequired,
        "invalid_grant",
    ),
    "Keycloak, the session": (
        KEYCLOAK,
        Answer(400, {"error": "invalid_grant", "error_description": "Session not active"}),
        LoginRequired,
        "invalid_grant",
    ),
    "Entra, too many": (ENTRA, Answer(429, PAGE, "text/html", LATER), RefreshUnavailable, None),
    "Entra, another step": (
        ENTRA,
        Answer(
            400,
            {
                "error": "interaction_required",
                "error_description": AADSTS,
                "error_codes": [50076],
                "timestamp": "2016-01-09 02:02:12Z",
                "trace_id": "0000aaaa-11bb-cccc-dd22-eeeeee333333",
                "correlation_id": "aaaa0000-bb11-2222-33cc-444444dddddd",
                "suberror": "basic_action",
            },
        ),
        LoginRequired,
        "interaction_required",
    ),
    "Entra, the scope": (
        ENTRA,
        Answer(400, {"error": "invalid_scope", "error_codes": [70011]}),
        RefreshRefused,
        "invalid_scope",
    ),
    "Entra, too busy": (
        ENTRA,
        Answer(400, {"error": "temporarily_unavailable"}, headers=LATER),
        RefreshUnavailable,
        None,
    ),
    "GitHub, dead": (
        GITHUB,
        Answer(
            200,
            {
                "error": "bad_refresh_token",
                "error_description": "The refresh token passed is incorrect or expired.",
                "error_uri": "https://docs.github.com",
            },
        ),
        LoginRequired,
        "bad_refresh_token",
    ),
    "GitHub, dead, as a form": (
        GITHUB,
        Answer(
            200,
            "error=bad_refresh_token&error_description=The+refresh+token+passed+is+incorrect"
            "+or+expired.&error_uri=https%3A%2F%2Fdocs.github.com",
            FORM,
        ),
        LoginRequired,
        "bad_refresh_token",
    ),
    "GitHub, the secret": (
        GITHUB,
        Answer(
            200,
            {
                "error": "incorrect_client_credentials",
                "error_description": "The client_id and/or client_secret passed are incorrect.",
            },
        ),
        RefreshRefused,
        "incorrect_client_credentials",
    ),
    "Slack, dead": (
        SLACK,
        Answer(200, {"ok": False, "error": "invalid_refresh_token"}),
        LoginRequired,
        "invalid_refresh_token",
    ),
    "Slack, the secret": (
        SLACK,
        Answer(200, {"ok": False, "error": "bad_client_secret"}),
        RefreshRefused,
        "bad_client_secret",
    ),
    "Slack, too many": (
        SLACK,
        Answer(429, {"ok": False, "error": "ratelimited"}, headers=LATER),
        RefreshUnavailable,
        None,
    ),
    "Google, dead": (
        GOOGLE,
        Answer(
            400,
            {
                "error": "invalid_grant",
                "error_description": "Token has been expired or revoked.",
            },
        ),
        LoginRequired,
        "invalid_grant",
    ),
    "Salesforce, dead": (
        SALESFORCE,
        Answer(
            400,
            {"error": "invalid_grant", "error_description": "expired access/refresh token"},
        ),
        LoginRequired,
        "invalid_grant",
    ),
    "Salesforce, the client": (
        SALESFORCE,
        Answer(
            400,
            {"error": "invalid_client_id", "error_description": "client identifier invalid"},
        ),
        RefreshRefused,
        "invalid_client_id",
    ),
    "Atlassian, dead": (
        ATLASSIAN,
        Answer(
            403,
            {
                "error": "invalid_grant",
                "error_description": "Unknown or invalid refresh token.",
            },
        ),
        LoginRequired,
        "invalid_grant",
    ),
    "Atlassian, the client": (
        ATLASSIAN,
        Answer(
            403,
            {"error": "unauthorized_client", "error_description": "refresh_token is invalid"},
        ),
        RefreshRefused,
        "unauthorized_client",
    ),
    "Xero, dead": (
        XERO,
        Answer(400, {"error": "invalid_grant"}),
        LoginRequired,
        "invalid_grant",
    ),
    "Zoho, dead": (ZOHO, Answer(200, {"error": "invalid_code"}), LoginRequired, "invalid_code"),
    "Zoho, the client": (
        ZOHO,
        Answer(200, {"error": "invalid_client"}),
        RefreshRefused,
        "invalid_client",
    ),
    "Zoho, too many": (
        ZOHO,
        Answer(
            400,
            {"error_description": TOO_MANY, "error": "Access Denied", "status": "failure"},
        ),
        RefreshRefused,
        "Access Denied",
    ),
    "Spotify, dead": (
        SPOTIFY,
        Answer(
            400,
            {"error": "invalid_grant", "error_description": "Refresh token revoked"},
        ),
        LoginRequired,
        "invalid_grant",
    ),
    "Box, dead": (
        BOX,
        Answer(
            400,
            {"error": "invalid_grant", "error_description": "Refresh token has expired"},
        ),
        LoginRequired,
        "invalid_grant",
    ),
    "QuickBooks, stale": (
        QUICKBOOKS,
        Answer(
            400,
            {"error": "invalid_grant", "error_description": "Incorrect or invalid refresh token"},
        ),
        LoginRequired,
        "invalid_grant",
    ),
    "Django SimpleJWT, dead": (
        SIMPLEJWT,
        Answer(401, SIMPLEJWT_DEAD),
        LoginRequired,
        "token_not_valid",
    ),
    "Django SimpleJWT, used up": (
        SIMPLEJWT,
        Answer(401, {"detail": "Token is blacklisted", "code": "token_not_valid"}),
        LoginRequired,
        "token_not_valid",
    ),
    "Django SimpleJWT, too many": (
        SIMPLEJWT,
        Answer(
            429,
            {"detail": "Request was throttled. Expected available in 120 seconds."},
            headers=LATER,
        ),
        RefreshUnavailable,
        None,
    ),
}
