"""Asks an authorization server with plain requests and joserfc, as its RFCs say."""

from __future__ import annotations

import secrets
import time
from typing import Any
from urllib.parse import quote

import requests
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from requests.auth import HTTPBasicAuth

from .servers import AuthlibServer

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
CLIENT_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def assertion(
    server: AuthlibServer, *, kind: str = "rsa", key_id: str | None = None, **claims: Any
) -> str:
    """An assertion of the client of `private_key_jwt`, or with kind "oct" of `client_secret_jwt`.

    lifetime, among the claims, is in seconds from now; a claim of None is left out.
    """
    client = server.client_id("client_secret_jwt" if kind == "oct" else "private_key_jwt")
    now = int(time.time())
    standard = {
        "iss": client,
        "sub": client,
        "aud": server.token_url,
        "iat": now,
        "exp": now + claims.pop("lifetime", 60),
        "jti": secrets.token_hex(),
    }
    chosen = {name: value for name, value in {**standard, **claims}.items() if value is not None}
    key: OctKey | RSAKey | ECKey
    if kind == "oct":
        key, algorithm = OctKey.import_key(server.client_secret("client_secret_jwt") or ""), "HS256"
    elif kind == "rsa":
        key, algorithm = RSAKey.import_key(server.private_key("rsa")), "RS256"
    else:
        key, algorithm = ECKey.import_key(server.private_key("ec")), "ES256"
    header = {"alg": algorithm, **({"kid": key_id} if key_id else {})}
    return jwt.encode(header, chosen, key)


def authentication(
    server: AuthlibServer, method: str, signed: str | None = None, **claims: Any
) -> dict[str, Any]:
    """The form fields of `method`, which is one of those that sign. Ask `token` with them."""
    kind = "oct" if method == "client_secret_jwt" else "rsa"
    return {
        "method": None,
        "client_assertion_type": CLIENT_ASSERTION,
        "client_assertion": signed or assertion(server, kind=kind, **claims),
    }


def post(
    server: AuthlibServer,
    url: str,
    *,
    method: str | None = "client_secret_basic",
    secret: str | None = None,
    claims: dict[str, Any] | None = None,
    **form: Any,
) -> requests.Response:
    """Posts this form as the client of `method`; with None nothing is added to it."""
    auth = None
    client = server.client_id(method) if method else ""
    secret = secret or (server.client_secret(method) if method else None) or ""
    if method == "client_secret_basic":
        # Each half is encoded as in a form (RFC 6749 section 2.3.1).
        auth = HTTPBasicAuth(quote(client, safe=""), quote(secret, safe=""))
    elif method == "client_secret_post":
        form |= {"client_id": client, "client_secret": secret}
    elif method == "none":
        form["client_id"] = client
    elif method:
        signed = authentication(server, method, **(claims or {}))
        form |= {name: value for name, value in signed.items() if name != "method"}
    with requests.Session() as http:
        http.trust_env = False
        return http.post(url, data=form, auth=auth, timeout=30)


def token(server: AuthlibServer, **form: Any) -> requests.Response:
    """`post` to the token endpoint."""
    return post(server, server.token_url, **form)


def get(url: str, **params: Any) -> requests.Response:
    """A GET that follows no redirect."""
    with requests.Session() as http:
        http.trust_env = False
        return http.get(url, params=params, allow_redirects=False, timeout=30)


def error(reply: requests.Response) -> tuple[int, str]:
    """What a refusal says, of which the code is for programs."""
    return reply.status_code, reply.json()["error"]
