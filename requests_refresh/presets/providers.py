"""The providers that are known, one constant each. The words of docs/providers.md come from here.

A fact stands here only if one of the `sources` beside it says so.
"""

from __future__ import annotations

from .preset import Preset, Refusal

_GITHUB = "https://docs.github.com/en/apps/"
_SALESFORCE = "https://help.salesforce.com/s/articleView?language=en_US&type=5&id=xcloud."
_INTUIT = "https://developer.intuit.com/app/developer/qbo/docs/develop/"
_ZOHO_HELP = "https://help.zoho.com/portal/en/community/topic/"
_AUTH0 = "https://auth0.com/docs/"

GITHUB = Preset(
    name="GitHub",
    sources=(
        _GITHUB + "creating-github-apps/authenticating-with-a-github-app"
        "/refreshing-user-access-tokens",
        _GITHUB + "creating-github-apps/authenticating-with-a-github-app"
        "/generating-a-user-access-token-for-a-github-app",
        _GITHUB + "oauth-apps/maintaining-oauth-apps"
        "/troubleshooting-oauth-app-access-token-request-errors",
        "https://github.com/orgs/community/discussions/24745",
    ),
    token_url="https://github.com/login/oauth/access_token",
    device_url="https://github.com/login/device/code",
    authorize_url="https://github.com/login/oauth/authorize",
    client_auth="client_secret_post",
    login_over=frozenset({"bad_refresh_token"}),
    notes="GitHub Apps with expiring user tokens: 8 hours, refresh tokens 6 months. A refresh ends"
    " the refresh token and the old access token at once. Errors come with status 200.",
)

GOOGLE = Preset(
    name="Google",
    sources=(
        "https://developers.google.com/identity/protocols/oauth2",
        "https://developers.google.com/identity/protocols/oauth2/web-server",
        "https://developers.google.com/identity/protocols/oauth2/limited-input-device",
        "https://developers.google.com/identity/openid-connect/openid-connect",
    ),
    token_url="https://oauth2.googleapis.com/token",
    revocation_url="https://oauth2.googleapis.com/revoke",
    device_url="https://oauth2.googleapis.com/device/code",
    authorize_url="https://accounts.google.com/o/oauth2/v2/auth",
    issuer="https://accounts.google.com",
    client_auth="client_secret_post",
    notes="The refresh token stays the same. The number of refresh tokens for a user and client is"
    " limited, and the oldest stop working, so do not log in needlessly; six months without use"
    " end one too.",
)

ENTRA = Preset(
    name="Microsoft Entra",
    sources=(
        "https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-auth-code-flow",
        "https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-device-code",
        "https://learn.microsoft.com/en-us/entra/identity-platform/v2-protocols-oidc",
    ),
    token_url="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
    device_url="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/devicecode",
    authorize_url="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize",
    issuer="https://login.microsoftonline.com/{tenant}/v2.0",
    client_auth="client_secret_post",
    login_over=frozenset({"interaction_required", "consent_required"}),
    notes="Ask for offline_access. Each use brings another refresh token, and the old one is not"
    " revoked; the newest is kept. Discovery needs the tenant's id, not `common`.",
)

SLACK = Preset(
    name="Slack",
    sources=(
        "https://docs.slack.dev/authentication/using-token-rotation",
        "https://docs.slack.dev/authentication/installing-with-oauth",
        "https://docs.slack.dev/reference/methods/oauth.v2.access",
        "https://docs.slack.dev/reference/methods/tooling.tokens.rotate",
        "https://docs.slack.dev/reference/methods/auth.test",
    ),
    token_url="https://slack.com/api/oauth.v2.access",
    authorize_url="https://slack.com/oauth/v2/authorize",
    client_auth="client_secret_basic",
    login_over=frozenset({"invalid_refresh_token"}),
    refused=(Refusal(200, "/api/", "error", frozenset({"token_expired", "token_revoked"})),),
    notes="Apps with token rotation: 12 hours. The refresh token is revoked on use. Errors come"
    " with status 200 and `ok: false`, from the API too: use `scheme()`.",
)

SALESFORCE = Preset(
    name="Salesforce",
    sources=(
        _SALESFORCE + "remoteaccess_oauth_refresh_token_flow.htm",
        _SALESFORCE + "remoteaccess_oauth_flow_errors.htm",
        _SALESFORCE + "remoteaccess_using_openid.htm",
        "https://developer.salesforce.com/docs/platform/mobile-sdk/guide/oauth-revoking-tokens.html",
    ),
    token_url="https://{domain}/services/oauth2/token",
    revocation_url="https://{domain}/services/oauth2/revoke",
    authorize_url="https://{domain}/services/oauth2/authorize",
    client_auth="client_secret_post",
    refused=(Refusal(403, "/id/", "", frozenset({"Bad_OAuth_Token"})),),
    notes="domain: login.salesforce.com, or that of your org. Replies tell no lifetime, so the"
    " token is used until the API refuses it. Rotation is a setting of the app. The identity URL"
    " refuses with 403: use `scheme()`, and its origin in `origins`.",
)

ATLASSIAN = Preset(
    name="Atlassian",
    sources=(
        "https://developer.atlassian.com/cloud/oauth/getting-started/refresh-tokens/",
        "https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/",
    ),
    token_url="https://auth.atlassian.com/oauth/token",
    authorize_url="https://auth.atlassian.com/authorize",
    client_auth="client_secret_post",
    notes="OAuth 2.0 (3LO) apps; ask for offline_access. Refresh tokens rotate: the one that was"
    " used is disabled. A dead one is answered with 403 and `invalid_grant`.",
)

XERO = Preset(
    name="Xero",
    sources=(
        "https://developer.xero.com/documentation/guides/oauth2/auth-flow",
        "https://developer.xero.com/faq/oauth2",
    ),
    token_url="https://identity.xero.com/connect/token",
    revocation_url="https://identity.xero.com/connect/revocation",
    authorize_url="https://login.xero.com/identity/connect/authorize",
    client_auth="client_secret_basic",
    notes="Access tokens live 30 minutes, unused refresh tokens 60 days. Refresh tokens rotate; if"
    " the answer was lost, the old one works for 30 minutes more.",
)

QUICKBOOKS = Preset(
    name="QuickBooks",
    sources=(
        _INTUIT + "authentication-and-authorization/oauth-2.0",
        _INTUIT + "authentication-and-authorization/oauth-openid-discovery-doc",
        _INTUIT + "authentication-and-authorization/faq",
        "https://blogs.intuit.com/2024/06/03/oauth-token-management-done-the-right-way/",
    ),
    token_url="https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer",
    authorize_url="https://appcenter.intuit.com/connect/oauth2",
    client_auth="client_secret_basic",
    notes="Access tokens live an hour, refresh tokens 100 days, and change: all processes need one"
    " store. Revocation is not part of this.",
)

ZOHO = Preset(
    name="Zoho",
    sources=(
        "https://www.zoho.com/accounts/protocol/oauth/web-apps/access-token-expiry.html",
        "https://www.zoho.com/crm/developer/docs/api/v4/access-refresh.html",
        "https://www.zoho.com/crm/developer/docs/api/v8/revoke-tokens.html",
        _ZOHO_HELP + "oauth-grant-type-refresh-token-error-invalid-code",
    ),
    token_url="https://{domain}/oauth/v2/token",
    revocation_url="https://{domain}/oauth/v2/token/revoke",
    authorize_url="https://{domain}/oauth/v2/auth",
    client_auth="client_secret_post",
    login_over=frozenset({"invalid_code"}),
    notes="domain: that of your data centre, accounts.zoho.com or accounts.zoho.eu. The refresh"
    " token stays the same; it makes ten access tokens in ten minutes, so all processes need one"
    " store. Errors come with status 200. Some of its APIs want the prefix Zoho-oauthtoken: give"
    " those HeaderScheme.",
)

AUTH0 = Preset(
    name="Auth0",
    sources=(
        _AUTH0 + "secure/tokens/refresh-tokens/use-refresh-tokens",
        _AUTH0 + "secure/tokens/refresh-tokens/configure-refresh-token-rotation",
        _AUTH0 + "secure/tokens/refresh-tokens/revoke-refresh-tokens",
        _AUTH0 + "get-started/authentication-and-authorization-flow/device-authorization-flow"
        "/call-your-api-using-the-device-authorization-flow",
    ),
    token_url="https://{domain}/oauth/token",
    revocation_url="https://{domain}/oauth/revoke",
    device_url="https://{domain}/oauth/device/code",
    authorize_url="https://{domain}/authorize",
    issuer="https://{domain}/",
    client_auth="client_secret_post",
    notes="With rotation, only the last refresh token before the newest works again, within the"
    " overlap period of the application; an older one triggers breach detection.",
)

OKTA = Preset(
    name="Okta",
    sources=(
        "https://developer.okta.com/docs/guides/refresh-tokens/main/",
        "https://developer.okta.com/docs/api/openapi/okta-oauth/oauth/tag/CustomAS/",
    ),
    token_url="https://{domain}/oauth2/{server}/v1/token",
    revocation_url="https://{domain}/oauth2/{server}/v1/revoke",
    device_url="https://{domain}/oauth2/{server}/v1/device/authorize",
    authorize_url="https://{domain}/oauth2/{server}/v1/authorize",
    issuer="https://{domain}/oauth2/{server}",
    client_auth="client_secret_basic",
    notes="server: `default`, or the id of a custom authorization server; for the org's own, give"
    " token_url. With rotation, reuse revokes the newest refresh token and all access tokens; the"
    " grace period is 30 seconds by default.",
)

KEYCLOAK = Preset(
    name="Keycloak",
    sources=(
        "https://www.keycloak.org/securing-apps/oidc-layers",
        "https://www.keycloak.org/docs/latest/server_admin/index.html#_timeouts",
    ),
    token_url="https://{domain}/realms/{realm}/protocol/openid-connect/token",
    revocation_url="https://{domain}/realms/{realm}/protocol/openid-connect/revoke",
    device_url="https://{domain}/realms/{realm}/protocol/openid-connect/auth/device",
    authorize_url="https://{domain}/realms/{realm}/protocol/openid-connect/auth",
    issuer="https://{domain}/realms/{realm}",
    client_auth="client_secret_basic",
    notes="With Revoke Refresh Token on, a refresh token that is used again ends the session, with"
    " no grace: one login for one store. A server below another path needs token_url.",
)

SPOTIFY = Preset(
    name="Spotify",
    sources=(
        "https://developer.spotify.com/documentation/web-api/tutorials/refreshing-tokens",
        "https://developer.spotify.com/documentation/web-api/tutorials/code-flow",
    ),
    token_url="https://accounts.spotify.com/api/token",
    authorize_url="https://accounts.spotify.com/authorize",
    client_auth="client_secret_basic",
    notes="Access tokens live an hour. A login ends after 6 months, however often it is refreshed."
    " A reply with no refresh token means that the old one goes on.",
)

BOX = Preset(
    name="Box",
    sources=(
        "https://developer.box.com/guides/authentication/tokens/refresh",
        "https://developer.box.com/reference/post-oauth2-token--refresh",
        "https://developer.box.com/guides/authentication/tokens/revoke",
        "https://developer.box.com/reference/get-authorize",
    ),
    token_url="https://api.box.com/oauth2/token",
    revocation_url="https://api.box.com/oauth2/revoke",
    authorize_url="https://account.box.com/api/oauth2/authorize",
    client_auth="client_secret_post",
    notes="A refresh token works once, within 60 days: all processes need one store.",
)

SIMPLEJWT = Preset(
    name="Django SimpleJWT",
    sources=(
        "https://django-rest-framework-simplejwt.readthedocs.io/en/latest/getting_started.html",
        "https://django-rest-framework-simplejwt.readthedocs.io/en/latest/settings.html",
    ),
    token_url="https://{domain}/api/token/refresh/",
    speaks="json",
    notes="The path is that of its documentation: give token_url where yours is another. Replies"
    " tell no lifetime. Rotation is a setting, with a list of refresh tokens that are used up.",
)

ALL = (
    GITHUB,
    GOOGLE,
    ENTRA,
    SLACK,
    SALESFORCE,
    ATLASSIAN,
    XERO,
    QUICKBOOKS,
    ZOHO,
    AUTH0,
    OKTA,
    KEYCLOAK,
    SPOTIFY,
    BOX,
    SIMPLEJWT,
)
