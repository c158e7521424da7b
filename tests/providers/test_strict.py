"""The providers are as strict as the storms need them: what is used twice is refused."""

from __future__ import annotations

from .conftest import Provider


def test_oauth_reuse_revokes_the_login(oauth: Provider) -> None:
    """django-oauth-toolkit refuses a used refresh token, and then its successor too."""
    first = oauth.login()["refresh_token"]
    second = oauth.refresh(first).json()["refresh_token"]
    assert oauth.refresh(first).status_code == 400
    assert oauth.refresh(second).json()["error"] == "invalid_grant"
    counted = oauth.counters()
    assert (counted["refreshed"], counted["refused_refreshes"]) == (1, 2)


def test_jwt_reuse_is_refused(jwt: Provider) -> None:
    """SimpleJWT refuses a refresh token that is on its blacklist, by a plain 401."""
    first = jwt.login()["refresh"]
    assert jwt.refresh(first).status_code == 200
    refused = jwt.refresh(first)
    assert (refused.status_code, refused.json()["code"]) == (401, "token_not_valid")
    counted = jwt.counters()
    assert (counted["refreshed"], counted["refused_refreshes"]) == (1, 1)
