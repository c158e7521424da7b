"""Helps tests to talk to oidc-provider: with plain requests and joserfc, no code of the package.

`Oidc` is a running provider with an API behind it (provider.mjs, api.mjs). Its methods may be
called from any thread.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qs, quote_plus, urljoin, urlsplit

import requests
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, import_key

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SAFETY = 60  # seconds

Form = dict[str, str]
JWK = dict[str, Any]


@dataclass(frozen=True)
class Client:
    """A client that the provider knows. `keys`: private JWKs, an EC one and an RSA one."""

    client_id: str
    client_secret: str | None
    keys: list[JWK]


def new_key() -> JWK:
    """A new private JWK for proofs, on P-256."""
    return cast("JWK", ECKey.generate_key("P-256", private=True).as_dict(private=True))


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """The name of a key in tokens that are bound to it (RFC 7638)."""
    return import_key(dict(jwk)).thumbprint()


def prove(
    jwk: Mapping[str, Any],
    method: str,
    url: str,
    *,
    nonce: str | None = None,
    token: str | None = None,
    **claims: Any,
) -> str:
    """A DPoP proof (RFC 9449 4.2). `claims` replace what it would say, None takes one out."""
    key = import_key(dict(jwk))
    said: dict[str, Any] = {
        "jti": secrets.token_urlsafe(16),
        "htm": method,
        "htu": url.partition("?")[0],
        "iat": int(time.time()),
        "nonce": nonce,
        "ath": None if token is None else encoded(hashlib.sha256(token.encode()).digest()),
        **claims,
    }
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False)}
    told = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(header, told, key, algorithms=["ES256"])


def encoded(value: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def hidden_fields(page: str) -> Form:
    """What a form of the provider's would send."""
    inputs = re.findall(r"<input[^>]*>", page)
    found = {}
    for text in inputs:
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', text))
        if attributes.get("type") == "hidden":
            found[attributes["name"]] = html.unescape(attributes.get("value", ""))
    return found


class Oidc:
    """oidc-provider on loopback, with an API of its own behind it.

    `clients` by name: basic, post, secret_jwt, private_key_jwt, public, and bound (public,
    and may have bound tokens only). Redirect URIs: http://127.0.0.1[:any port]/ and /callback.
    Scopes: openid, offline_access, read, write.
    """

    def __init__(self, where: Mapping[str, Any]) -> None:
        self.issuer: str = where["url"]
        self.token_url = self.issuer + "/token"
        self.device_url = self.issuer + "/device/auth"
        self.authorization_url = self.issuer + "/auth"
        self.revocation_url = self.issuer + "/token/revocation"
        self.userinfo_url = self.issuer + "/me"  # the provider's own, for tokens with openid
        self.api = self.issuer + "/api/"  # every path and method below it; also its resource URI
        self.other = self.issuer + "/other/"  # a resource whose tokens the API refuses
        self.clients = {name: Client(**known) for name, known in where["clients"].items()}

    # What tests steer

    def reset(self) -> None:
        """All counters to 0, all settings to their defaults. The fixture does it before a test."""
        self._control("reset")

    def counts(self) -> dict[str, int]:
        """What happened since `reset`; provider.mjs says what each name counts."""
        return self._control("counts")

    def settings(self, **wanted: int | bool) -> None:
        """Until the next `reset`: lifetime, deny, provider_nonces, api_nonces, api_nonce_every,
        api_announces; provider.mjs says what they mean."""
        self._control("settings", wanted)

    def expire(self) -> None:
        """From now on the provider knows no access token that it has issued."""
        self._control("expire")

    def end_logins(self) -> None:
        """From now on it knows no login either: each refresh is `invalid_grant`."""
        self._control("end-logins")

    def new_api_nonce(self) -> None:
        """From now on the API takes none of the nonces that it has handed out."""
        self._control("new-api-nonce")

    def new_provider_nonce(self) -> None:
        """From now on the provider takes none of the nonces that it has handed out."""
        self._control("new-provider-nonce")

    # Logins

    def login(
        self,
        jwk: Mapping[str, Any] | None = None,
        *,
        client: str = "public",
        scope: str = "openid offline_access read",
        resource: str | None = None,
        bound_to: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The reply to a first login by code and PKCE, bound to the key where one is given.

        `bound_to`: another key that the code is asked for, which must fail.
        """
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
        redirect_uri = "http://127.0.0.1/callback"
        form = {
            "client_id": self.clients[client].client_id,
            "response_type": "code",
            "redirect_uri": redirect_uri,
            "scope": scope,
            "state": state,
            "code_challenge": encoded(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        if resource is not None:
            form["resource"] = resource
        if jwk is not None:
            form["dpop_jkt"] = thumbprint(bound_to or jwk)
        asked = requests.Request("GET", self.authorization_url, params=form).prepare().url
        assert asked is not None
        answer = self.authorize(asked)
        assert answer.get("state") == state, answer
        reply = self.ask(
            {
                "grant_type": "authorization_code",
                "code": answer["code"],
                "redirect_uri": redirect_uri,
                "code_verifier": verifier,
            },
            client=client,
            jwk=jwk,
        )
        assert reply.status_code == 200, reply.text
        return cast("dict[str, Any]", reply.json())

    def authorize(self, url: str) -> Form:
        """What a browser would bring back to the redirect URI, of an authorization URL.

        The redirect URI itself is not called: nobody needs to listen there.
        """
        with _session() as http:
            while True:
                reply = http.get(url, allow_redirects=False, timeout=SAFETY)
                assert reply.is_redirect, f"{reply.status_code}: {reply.text}"
                url = urljoin(url, reply.headers["Location"])
                if not url.startswith(self.issuer + "/"):
                    return {name: values[0] for name, values in _query(url).items()}

    def browse(self, url: str) -> requests.Response:
        """What a browser would do with an authorization URL, the redirect URI's server included."""
        with _session() as http:
            return http.get(url, timeout=SAFETY)

    def confirm(self, user_code: str, *, deny: bool = False) -> None:
        """Enter a user code at the provider's page, and say yes or no there (RFC 8628 3.3)."""
        page = self.issuer + "/device"
        with _session() as http:
            entered = http.get(page, params={"user_code": user_code}, timeout=SAFETY)
            asked = http.post(page, data=hidden_fields(entered.text), timeout=SAFETY)
            choice = {"abort": "yes"} if deny else {"confirm": "yes"}
            form = {**hidden_fields(asked.text), **choice}
            if deny:
                form.pop("confirm", None)
            done = http.post(page, data=form, timeout=SAFETY)
        assert done.status_code == 200, f"{done.status_code}: {done.text}"

    # The token endpoint and the API, asked with plain requests

    def ask(
        self,
        form: Mapping[str, str],
        *,
        client: str = "public",
        jwk: Mapping[str, Any] | None = None,
        url: str | None = None,
    ) -> requests.Response:
        """What the token endpoint answers to a form; with a key, after its nonce is known."""
        url = url or self.token_url
        nonce = None
        while True:
            proof = {} if jwk is None else {"DPoP": prove(jwk, "POST", url, nonce=nonce)}
            more, headers = self.authentication(client)
            reply = self.post(url, {**form, **more}, {**headers, **proof})
            if nonce or reply.status_code != 400 or reply.json()["error"] != "use_dpop_nonce":
                return reply
            nonce = reply.headers["DPoP-Nonce"]

    def refresh(
        self, refresh_token: str, *, client: str = "public", jwk: Mapping[str, Any] | None = None
    ) -> requests.Response:
        """What the token endpoint answers to a refresh token."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return self.ask(form, client=client, jwk=jwk)

    def call(
        self,
        path: str,
        token: str,
        *,
        jwk: Mapping[str, Any] | None = None,
        nonce: str | None = None,
        method: str = "GET",
    ) -> requests.Response:
        """One request to the API: with a proof where a key is given, else as a bearer."""
        url = self.api + path
        headers = {"Authorization": f"Bearer {token}"}
        if jwk is not None:
            proof = prove(jwk, method, url, nonce=nonce, token=token)
            headers = {"Authorization": f"DPoP {token}", "DPoP": proof}
        with _session() as http:
            return http.request(method, url, headers=headers, timeout=SAFETY)

    def post(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """One POST, and what came."""
        with _session() as http:
            return http.post(url, data=form, headers=headers, timeout=SAFETY)

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """One GET, and what came."""
        with _session() as http:
            return http.get(url, headers=headers, timeout=SAFETY)

    def authentication(self, name: str, *, key: int = 0, **claims: Any) -> tuple[Form, Form]:
        """The fields and headers by which a client shows who it is, each time new ones.

        `key`: which of its keys signs. `claims` replace those of the assertion.
        """
        client = self.clients[name]
        if name == "basic":
            assert client.client_secret is not None
            pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
            return {}, {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        if name == "post":
            assert client.client_secret is not None
            return {"client_id": client.client_id, "client_secret": client.client_secret}, {}
        if name in ("public", "bound"):
            return {"client_id": client.client_id}, {}
        said = {
            "iss": client.client_id,
            "sub": client.client_id,
            "aud": self.token_url,
            "jti": secrets.token_urlsafe(16),
            "iat": int(time.time()),
            "exp": int(time.time()) + 60,
            **claims,
        }
        if name == "secret_jwt":
            assert client.client_secret is not None
            header = {"alg": "HS256"}
            signer: Any = OctKey.import_key(client.client_secret)
        else:
            header = {"alg": client.keys[key]["alg"], "kid": client.keys[key]["kid"]}
            signer = import_key(client.keys[key])
        signed = jwt.encode(header, said, signer, algorithms=[header["alg"]])
        return {"client_assertion": signed, "client_assertion_type": ASSERTION_TYPE}, {}

    def _control(self, name: str, body: Mapping[str, Any] | None = None) -> dict[str, int]:
        with _session() as http:
            url = f"{self.issuer}/control/{name}"
            reply = http.post(url, data=json.dumps(body or {}), timeout=SAFETY)
        assert reply.status_code == 200, reply.text
        return cast("dict[str, int]", reply.json())


def _session() -> requests.Session:
    """A new one: a browser without cookies, and without the proxies of whoever runs the tests."""
    http = requests.Session()
    http.trust_env = False
    return http


def _query(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)
