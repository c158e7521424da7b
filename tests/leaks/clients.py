"""Clients of each kind, with a secret wherever the library takes one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from typing import Any
from urllib.parse import quote

import oauthlib.oauth2  # type: ignore[import-untyped]  # it has no types
import pytest
from joserfc.jwk import ECKey
from requests.auth import HTTPBasicAuth

from requests_refresh import (
    ClientCredentialsGrant,
    CookieGrant,
    DPoP,
    Encryption,
    FileStore,
    JSONGrant,
    JWTBearerGrant,
    KeyringStore,
    PrivateKeyJWT,
    RefreshTokenGrant,
    SQLStore,
    TokenExchangeGrant,
)
from requests_refresh.grants import client
from requests_refresh.logins import BrowserLogin, DeviceLogin, PasswordLogin, base, browser
from requests_refresh.signing import Signer, new_jwk
from tests.logins.support import Person
from tests.stores.keychains import Keychain

from .provider import Provider
from .secrets import Secrets


@dataclass
class Client:
    """What a TokenSource is made with. more: what else the user has made and holds."""

    grant: Any
    store: Any = None
    relogin: Any = None
    scheme: Any = None
    more: list[Any] = field(default_factory=list)
    logged_in: bool = True


Make = Callable[[Provider, Path], Client]


def by_secret(provider: Provider, folder: Path) -> Client:
    """Basic, a form with a setting in it, a proxy with a password, a file."""
    new = provider.secrets.canary
    proxy = f"http://user:{quote(new('proxy password'), safe='')}@127.0.0.1"
    proxy += f":{provider.server.server_port}"
    grant = RefreshTokenGrant(
        provider.server.url,
        client_id="sync",
        client_secret=new("client secret"),
        extra={"tenant": new("text in extra=")},
        proxies={"http": proxy},
        revocation_url=f"{provider.root}/revoke",
    )
    return Client(grant, FileStore(folder / "store" / "tokens.json"))


def by_proof(provider: Provider, folder: Path) -> Client:
    """DPoP, the secret in the form, a function in the settings, an encrypted file."""
    secret, key = (provider.secrets.canary("client secret") for _ in range(2))
    encryption = _encryption(provider.secrets)
    grant = RefreshTokenGrant(
        provider.server.url,
        client_id="sync",
        client_secret=secret,
        client_auth="client_secret_post",
        extra={"key": _Closed(key)},
        dpop=True,
    )
    store = FileStore(folder / "store" / "sealed.json", encryption=encryption)
    return Client(grant, store, scheme=DPoP())


def by_secret_jwt(provider: Provider, folder: Path) -> Client:
    secret = provider.secrets.canary("client secret") * 2
    auth = "client_secret_jwt"
    return Client(
        RefreshTokenGrant(
            provider.server.url, client_id="sync", client_secret=secret, client_auth=auth
        )
    )


def by_pem(provider: Provider, folder: Path) -> Client:
    """A private key as PEM, and a SQLite database."""
    auth = PrivateKeyJWT(_key(provider.secrets).as_pem(private=True).decode())
    grant = ClientCredentialsGrant(provider.server.url, client_id="sync", client_auth=auth)
    store = SQLStore(f"sqlite:///{folder}/store/tokens.db")
    return Client(grant, store, more=[auth], logged_in=False)


def by_jwk(provider: Provider, folder: Path) -> Client:
    """An assertion in place of a login, its key as JWK."""
    key = _key(provider.secrets).as_dict(private=True)
    grant = JWTBearerGrant(provider.server.url, key=dict(key), issuer="robot")
    return Client(grant, logged_in=False)


def by_exchange(provider: Provider, folder: Path) -> Client:
    new = provider.secrets.canary
    grant = TokenExchangeGrant(
        provider.server.url,
        subject_token=new("subject token"),
        actor_token=new("subject token"),
    )
    return Client(grant, logged_in=False)


def by_auth_object(provider: Provider, folder: Path) -> Client:
    """A requests auth object, and endpoints that were discovered by way of a proxy."""
    new = provider.secrets.canary
    proxy = f"http://user:{new('proxy password', '-')}@127.0.0.1:{provider.server.server_port}"
    grant = RefreshTokenGrant.discover(
        provider.root,
        client_id="sync",
        client_auth=HTTPBasicAuth("sync", new("auth object")),
        proxies={"http": proxy},
    )
    return Client(grant)


def by_json(provider: Provider, folder: Path) -> Client:
    """JSON with secrets in the settings, a password for when the login is over, a keychain."""
    new = provider.secrets.canary
    grant = JSONGrant(
        provider.server.url,
        headers={"X-Key": new("text in headers=")},
        extra={"tenant.key": new("text in extra=", '"\\ä')},
        auth=HTTPBasicAuth("sync", new("auth object")),
    )
    login = PasswordLogin(
        f"{provider.root}/login",
        username="alice",
        password=new("password", '"\\ä'),
        extra={"otp": _Closed(new("password"))},
        headers={"X-Key": new("text in headers=")},
    )
    store = KeyringStore(service="leaks", backend=_Keychain({}), locks=folder / "store")
    return Client(grant, store, relogin=login, more=[login])


def by_cookie(provider: Provider, folder: Path) -> Client:
    grant = CookieGrant(
        provider.server.url, headers={"X-Key": provider.secrets.canary("text in headers=")}
    )
    return Client(grant)


def by_browser(provider: Provider, folder: Path) -> Client:
    """A person who logs in with a browser whenever the login is over."""
    secret = provider.secrets.canary("client secret")

    def agree(redirect: str, query: dict[str, str]) -> str:
        code = quote(provider.secrets.canary("code"), safe="")
        return f"{redirect}?code={code}&state={query['state']}"

    login = BrowserLogin(
        provider.server.url,
        authorize_url=f"{provider.root}/authorize",
        client_id="sync",
        client_secret=secret,
        open=Person(agree),
    )
    grant = RefreshTokenGrant(provider.server.url, client_id="sync", client_secret=secret)
    return Client(grant, relogin=login, more=[login], logged_in=False)


def by_device(provider: Provider, folder: Path) -> Client:
    """The same on another device, bound to a key."""
    secret = provider.secrets.canary("client secret")
    login = DeviceLogin(
        provider.server.url,
        device_url=f"{provider.root}/device",
        client_id="sync",
        client_secret=secret,
        dpop=True,
    )
    login._sleep = lambda seconds: None
    moments = iter(range(1_000_000))
    login._clock = lambda: float(next(moments))
    grant = RefreshTokenGrant(
        provider.server.url, client_id="sync", client_secret=secret, dpop=True
    )
    return Client(grant, relogin=login, scheme=DPoP(), more=[login], logged_in=False)


CLIENTS: dict[str, Make] = {
    make.__name__.removeprefix("by_"): make
    for make in (by_secret, by_proof, by_pem, by_exchange, by_auth_object, by_json, by_browser)
}
MORE: dict[str, Make] = {  # which lead to no place that the others do not
    make.__name__.removeprefix("by_"): make
    for make in (by_secret_jwt, by_jwk, by_cookie, by_device)
}


class _Keychain(Keychain):
    """In memory here. A pickle of the store would have all that, as it says itself."""

    def __reduce__(self) -> str:
        raise TypeError("it does not pickle")


class _Closed:
    """A function of the user's that returns a secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __call__(self) -> str:
        return self._secret

    def __reduce__(self) -> str:
        raise TypeError("it does not pickle")


def _key(secrets: Secrets) -> ECKey:
    key: ECKey = ECKey.generate_key("P-256")
    _know_key(secrets, key.as_dict(private=True))
    return key


def _know_key(secrets: Secrets, jwk: Any) -> Any:
    from joserfc.util import urlsafe_b64decode

    secrets.add("private key", jwk["d"])
    secrets.add_bytes("private key", urlsafe_b64decode(jwk["d"].encode()))
    return jwk


def _encryption(secrets: Secrets) -> Encryption:
    from base64 import urlsafe_b64decode

    key = secrets.add("encryption key", Encryption.new_key())
    for half in (slice(16), slice(16, 32)):
        secrets.add_bytes("encryption key", urlsafe_b64decode(key)[half])
    return Encryption(key)


@contextmanager
def told(secrets: Secrets) -> Iterator[None]:
    """What the library makes by itself becomes known as it is made: keys, proofs, states."""
    sign = Signer.sign
    create = oauthlib.oauth2.WebApplicationClient.create_code_verifier

    def signed(self: Signer, claims: Any, header: Any) -> str:
        kind = "proof" if header.get("typ") == "dpop+jwt" else "assertion"
        return secrets.add(kind, sign(self, claims, header))

    def verifier(self: Any, length: int) -> str:
        return secrets.add("verifier", create(self, length))

    def key() -> Any:
        return _know_key(secrets, json.loads(json.dumps(new_jwk())))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Signer, "sign", signed)
        patch.setattr(client, "new_jwk", key)
        patch.setattr(base, "new_jwk", key)
        patch.setattr(browser, "token_urlsafe", lambda n: secrets.add("state", token_urlsafe(n)))
        patch.setattr(oauthlib.oauth2.WebApplicationClient, "create_code_verifier", verifier)
        yield
