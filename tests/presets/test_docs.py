"""docs/providers.md: its table is what the presets say, and its code does what it tells.

The table is written by `python -m tests.presets.test_docs`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import requests

import requests_refresh.presets
from requests_refresh import (
    FileStore,
    LoginRequired,
    RefreshAdapter,
    RefreshRefused,
    RefreshUnavailable,
    TokenSource,
)
from requests_refresh.presets import ALL, Preset, Refusal
from tests.grants.endpoint import Answer, EndpointServer
from tests.presets.support import DEAD, login

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"
TABLE = re.compile(r"(<!-- table.*? -->\n)(.*?)(<!-- end of the table -->)", re.DOTALL)


def table() -> str:
    """The table as the data has it: one row a preset, and a line for each below."""
    lines = [
        "| provider | token endpoint | client authentication | ends a login | refuses a token |",
        "|---|---|---|---|---|",
    ]
    names = {id(value): name for name, value in vars(requests_refresh.presets).items()}
    for preset in ALL:
        cells = [
            f"{preset.name}: `{names[id(preset)]}`",
            f"`{preset.token_url}`",
            f"`{preset.client_auth}`" if preset.client_auth else "none",
            ends(preset),
            "; ".join(["401", *map(refuses, preset.refused)]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for preset in ALL:
        links = " ".join(f"[{n}]({url})" for n, url in enumerate(preset.sources, 1))
        lines += ["", f"**{preset.name}**: {preset.notes} Sources: {links}"]
    return "\n".join(lines) + "\n"


def ends(preset: Preset) -> str:
    if preset.speaks == "json":
        return "400, 401, 403"
    return ", ".join(f"`{code}`" for code in ["invalid_grant", *sorted(preset.login_over)])


def refuses(refusal: Refusal) -> str:
    values = " or ".join(f"`{value}`" for value in sorted(refusal.values))
    where = f" with `{refusal.at}` " if refusal.at else " with "
    return f"{refusal.status} below `{refusal.path}`{where}{values}"


def test_the_table() -> None:
    """The page says what the presets say, word for word; after a change it is written anew."""
    found = TABLE.search(PAGE.read_text("utf-8"))
    assert found is not None
    assert found[2] == table()


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


PRESET, COGNITO, PREDICATE = blocks()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLIENT_ID", "sync")
    monkeypatch.setenv("CLIENT_SECRET", "hush")


@pytest.mark.usefixtures("environment")
def test_the_preset_of_the_page() -> None:
    """The first block makes what a user needs, and nothing is missing in it."""
    names: dict[str, Any] = {}
    exec(compile(PRESET, "docs", "exec"), names)
    assert isinstance(names["tokens"], TokenSource)
    assert isinstance(names["session"].get_adapter(names["API"]), RefreshAdapter)
    names["session"].close()
    names["tokens"].close()


def test_the_predicate_of_the_page() -> None:
    """The last block's scheme refuses by 419, and by a 401 as ever."""
    names: dict[str, Any] = {}
    exec(compile(PREDICATE, "docs", "exec"), names)
    response = requests.Response()
    for status, refused in ((419, True), (401, True), (403, False)):
        response.status_code = status
        assert names["scheme"].refused(response) is refused


def cognito(server: EndpointServer) -> Any:
    """The callable of the page, for a server of ours."""
    names = {"requests": requests, "os": os, "TokenSource": TokenSource, "FileStore": FileStore}
    text = COGNITO.replace("https://cognito-idp.eu-west-1.amazonaws.com/", server.url)
    exec(compile(text, "docs", "exec"), names)
    return names["cognito"]


ISSUED = {
    "AuthenticationResult": {
        "AccessToken": "eyJ.a2",
        "ExpiresIn": 3600,
        "IdToken": "eyJ.i2",
        "RefreshToken": "eyJ.r2",
        "TokenType": "Bearer",
    },
    "ChallengeParameters": {},
}
AMAZON = "application/x-amz-json-1.1"


@pytest.mark.usefixtures("environment")
def test_cognito(server: EndpointServer) -> None:
    """Cognito: a refresh that is no OAuth is a callable; what it issues is stored."""
    server.will(Answer(200, ISSUED, AMAZON))
    with login(cognito(server)) as (tokens, store):
        token = tokens.token()
        assert (token.access_token, token.refresh_token) == ("eyJ.a2", "eyJ.r2")
        assert store.load("default") == token
    assert server.only.json == {"ClientId": "sync", "RefreshToken": "old-refresh"}
    target = "AWSCognitoIdentityProviderService.GetTokensFromRefreshToken"
    assert server.only.headers["X-Amz-Target"] == target


REVOKED = {"__type": "NotAuthorizedException", "message": "Refresh Token has been revoked"}
REUSED = {"__type": "RefreshTokenReuseException", "message": "Refresh token has been reused"}
NO_CLIENT = {"__type": "ResourceNotFoundException", "message": "User pool client does not exist."}
TOO_MANY = {"__type": "TooManyRequestsException", "message": "Rate exceeded"}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(400, REVOKED, AMAZON), LoginRequired),
        (Answer(400, REUSED, AMAZON), LoginRequired),
        (Answer(400, NO_CLIENT, AMAZON), RefreshRefused),
        (Answer(429, TOO_MANY, AMAZON, [("Retry-After", "60")]), RefreshUnavailable),
    ],
    ids=["revoked", "reused", "no client", "too many"],
)
def test_cognito_refuses(
    server: EndpointServer, answer: Answer, kind: type[requests.RequestException]
) -> None:
    """I8: Cognito: only what its API names as the end of a login clears it."""
    server.will(answer)
    with login(cognito(server)) as (tokens, store):
        with pytest.raises(kind):
            tokens.token()
        assert store.load("default") == (None if kind is LoginRequired else DEAD)
    assert len(server.seen) == 1


@pytest.mark.usefixtures("environment")
def test_cognito_has_nothing_to_refresh_with(server: EndpointServer) -> None:
    """With nothing stored, nobody is asked."""
    with pytest.raises(LoginRequired):
        cognito(server)(None)
    assert server.seen == []


if __name__ == "__main__":
    PAGE.write_text(
        TABLE.sub(lambda found: found[1] + table() + found[3], PAGE.read_text("utf-8")), "utf-8"
    )
