"""I9 for keys, assertions and exchanged tokens: whatever goes wrong, none of them is anywhere."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

import pytest

from requests_refresh import (
    ClientCredentialsGrant,
    JWTBearerGrant,
    PrivateKeyJWT,
    RefreshTokenGrant,
    TokenExchangeGrant,
    TokenSource,
)
from requests_refresh.errors import RefreshError
from tests.grants.endpoint import Answer, Behaviour, EndpointServer, Handler, reset
from tests.grants.support import ec_key, pem_of
from tests.grants.test_secrets import BAD, MARK, SECRET, TOKEN, found_in

SUBJECT, ACTOR = "CANARY+subject/%==", "CANARY+actor/%=="
LONG = SECRET + " that is long enough"
PRIVATE = str(ec_key().as_dict(private=True)["d"])
FIELDS = ("assertion", "client_assertion", "subject_token", "actor_token", "client_secret", "token")


def secret_jwt(url: str) -> Any:
    return RefreshTokenGrant(
        url, client_id="sync", client_secret=LONG, client_auth="client_secret_jwt"
    )


def private_key(url: str) -> Any:
    auth = PrivateKeyJWT(lambda: pem_of(ec_key()))
    return ClientCredentialsGrant(url, client_id="sync", client_auth=auth)


def jwt_bearer(url: str) -> Any:
    return JWTBearerGrant(url, key=pem_of(ec_key()), issuer="robot")


def exchange(url: str) -> Any:
    return TokenExchangeGrant(
        url,
        subject_token=SUBJECT,
        actor_token=lambda: ACTOR,
        client_id="sync",
        client_secret=LONG,
        client_auth="client_secret_post",
    )


GRANTS: list[Callable[[str], Any]] = [secret_jwt, private_key, jwt_bearer, exchange]


def echo(status: int) -> Behaviour:
    """All that was sent comes back, encoded and decoded, and by itself."""

    def behave(handler: Handler) -> None:
        seen = handler.server.seen[-1]
        sent = [seen.body.decode(), unquote_plus(seen.body.decode()), *seen.form.values()]
        Answer(status, {"error": sent[-1], "error_description": " ".join(sent[::-1])})(handler)

    return behave


TROUBLES: dict[str, Behaviour] = {
    **{name: behaviour for name, behaviour in BAD.items() if not name.startswith("echo")},
    **{f"echo {status}": echo(status) for status in (200, 400, 401, 404)},
}


def secrets_of(server: EndpointServer) -> list[str]:
    """What was sent and must be nowhere, and all that it was made from."""
    forms = [request.form for request in server.seen]
    sent = [form[name] for form in forms for name in FIELDS if name in form]
    signatures = [text.rpartition(".")[2] for text in sent if text.count(".") == 2]
    return [MARK, PRIVATE, "PRIVATE KEY", *sent, *signatures]


@pytest.mark.parametrize("behaviour", TROUBLES.values(), ids=TROUBLES.keys())
@pytest.mark.parametrize("make", GRANTS)
def test_no_secret_comes_out(
    server: EndpointServer,
    caplog: pytest.LogCaptureFixture,
    make: Callable[[str], Any],
    behaviour: Behaviour,
) -> None:
    """I9: not in an error or its frames, not in a log, for each thing that can go wrong."""
    caplog.set_level(logging.DEBUG)
    server.will(behaviour)
    with pytest.raises(RefreshError) as caught:
        make(server.url)(TOKEN)
    secrets = secrets_of(server)
    for text in [*found_in(caught.value), caplog.text]:
        assert not [secret for secret in secrets if secret in text]


@pytest.mark.parametrize("make", GRANTS)
def test_no_secret_of_a_revocation_comes_out(
    server: EndpointServer, caplog: pytest.LogCaptureFixture, make: Callable[[str], Any]
) -> None:
    """I9: the same for what is revoked, and for what the logout says of it."""
    caplog.set_level(logging.DEBUG)
    grant = make(server.url)
    grant._revocation = grant._endpoint
    for behaviours in ([echo(400), echo(401)], [reset, echo(400)]):
        server.will(*behaviours)
        with pytest.raises(RefreshError) as caught:
            grant.revoke(TOKEN)
        secrets = secrets_of(server)
        for text in [*found_in(caught.value), caplog.text]:
            assert not [secret for secret in secrets if secret in text]
    server.will(echo(400), echo(400))
    tokens = TokenSource(grant, token=TOKEN)
    with pytest.raises(RefreshError) as caught:
        tokens.logout(revoke=True)
    secrets = secrets_of(server)
    for text in [*found_in(caught.value), caplog.text]:
        assert not [secret for secret in secrets if secret in text]


@pytest.mark.parametrize("make", [secret_jwt, jwt_bearer, exchange])
def test_no_secret_is_logged_or_kept_when_all_is_well(
    server: EndpointServer, caplog: pytest.LogCaptureFixture, make: Callable[[str], Any]
) -> None:
    """I9: what works logs no secret, and grant, token, error and pickle show none."""
    caplog.set_level(logging.DEBUG)
    server.will(Answer())
    grant = make(server.url)
    token = grant(TOKEN)
    texts = [caplog.text, repr(grant), repr(token)]
    if make is not exchange:  # whose function cannot travel
        texts.append(repr(pickle.dumps(grant)))
    secrets = secrets_of(server)
    assert not [secret for secret in secrets for text in texts if secret in text]
