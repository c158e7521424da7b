"""Authlib's authorization server on loopback: `python -m tests.authorization.authlib_server`.

It offers the grants and ways to authenticate of `authlib_grants`, metadata by
RFC 8414 and by OpenID discovery, and an API under /api/ that wants a living
token with the right scope and audience. It keeps nothing on disk and runs
under waitress, which has threads.

The first line on standard output is JSON: where it listens, its clients, and
their private keys. `POST /control/NAME` is for the tests. The process ends
when its standard input does, so that it never outlives who started it.
"""
# Authlib has no types: whatever derives from it derives from Any.
# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from typing import Any

import waitress
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import ResourceProtector
from authlib.oauth2.rfc6750 import BearerTokenValidator, InvalidTokenError
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata

from .authlib_grants import Server
from .authlib_rows import CLIENT_GRANTS, CLIENTS, SCOPES, USER, Issued, State
from .authlib_wire import JSON, Reply, Request

API_SCOPES = {"GET": ["read"], "POST": ["write"]}
OAUTH, OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"


class Validator(BearerTokenValidator):
    """What the API asks of an access token (RFC 6750)."""

    def __init__(self, state: State, names: set[str]) -> None:
        super().__init__(realm="api")
        self.state = state
        self.names = names  # under which the API is a token's audience

    def authenticate_token(self, token_string: str) -> Issued | None:
        return self.state.by_access(token_string)

    def validate_token(self, token: Issued | None, scopes: Any, request: Any) -> None:
        super().validate_token(token, scopes, request)
        if token is not None and token.audience and not self.names & set(token.audience):
            raise InvalidTokenError(realm=self.realm)


class Application:
    """The whole server, as WSGI calls it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.state = State()
        self.server = Server(self.state, url)
        self.protector = ResourceProtector()
        names = {f"{url}/api/", f"{url}/api", "items-api"}
        self.protector.register_token_validator(Validator(self.state, names))
        AuthorizationServerMetadata(self.metadata(url)).validate()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        request = Request(environ)
        with self.state.lock:
            reply = self.answer(request)
        return reply.send(start_response)

    def answer(self, request: Request) -> Reply:
        path = request.path
        if path.startswith("/control/"):
            name = path.removeprefix("/control/")
            return Reply(200, getattr(self, f"control_{name}")(**json.loads(request.raw)))
        self.note(request)
        if self.state.answers.get(path):
            status, retry_after = self.state.answers[path].pop()
            extra = [("Retry-After", retry_after)] if retry_after else []
            return Reply(status, {"error": "temporarily_unavailable"}, JSON + extra)
        if path.startswith("/api/"):
            return self.api(request)
        if "/.well-known/" in path:
            return self.discovery(path)
        found = {
            ("GET", "/authorize"): self.authorize,
            ("POST", "/token"): self.token,
            ("POST", "/revoke"): self.revoke,
            ("POST", "/device_authorization"): self.device_authorization,
            ("GET", "/device"): self.device_page,
            ("POST", "/device"): self.device_decision,
        }.get((request.method, path))
        return found(request) if found else Reply(404, {"error": "not_found"})

    def note(self, request: Request) -> None:
        """What came last to each path: names of fields, and only values that are no secret."""
        sent = request.payload.datalist
        self.state.last[request.path] = {
            "method": request.method,
            "names": sorted(request.fields),
            "query_names": sorted(request.query),
            "grant_type": sent.get("grant_type", [None])[0],
            "scope": sent.get("scope", [None])[0],
            "resource": sent.get("resource", []),
            "audience": sent.get("audience", []),
            "token_type_hint": sent.get("token_type_hint", [None])[0],
            "authorization": (request.headers.get("Authorization") or "").split(" ")[0] or None,
            "accept": request.headers.get("Accept"),
            "content_type": request.content_type,
        }

    def token(self, request: Request) -> Reply:
        kind = request.form.get("grant_type", "")
        self.state.requests[kind] += 1
        reply: Reply = self.server.create_token_response(request)
        if reply.status == 200:
            self.state.successes[kind] += 1
        return reply

    def revoke(self, request: Request) -> Reply:
        reply: Reply = self.server.create_endpoint_response("revocation", request)
        return reply

    def device_authorization(self, request: Request) -> Reply:
        reply: Reply = self.server.create_endpoint_response("device_authorization", request)
        return reply

    def authorize(self, request: Request) -> Reply:
        """Consents at once, unless a test said `deny`."""
        try:
            grant = self.server.get_consent_grant(request, USER)
        except OAuth2Error as error:
            refused: Reply = self.server.handle_error_response(request, error)
            return refused
        user: str | None = USER
        if self.state.denials:
            self.state.denials -= 1
            user = None
        reply: Reply = self.server.create_authorization_response(request, user, grant=grant)
        return reply

    def device_page(self, request: Request) -> Reply:
        code = request.args.get("user_code", "")
        page = f"Enter the code of your device: {code}" if code.replace("-", "").isalpha() else ""
        return Reply(200, page, [("Content-Type", "text/plain")])

    def device_decision(self, request: Request) -> Reply:
        """What the person decides: `user_code`, and `approve` with yes or no."""
        for device in self.state.devices.values():
            if device.user_code == request.form.get("user_code") and not device.is_expired():
                device.approved = request.form["approve"] == "yes"
                return Reply(200, {"approved": device.approved})
        return Reply(404, {"error": "not_found"})

    def api(self, request: Request) -> Reply:
        """Echoes what it knows of the token, and the body that came."""
        scopes = ["admin"] if request.path == "/api/admin" else API_SCOPES.get(request.method, [])
        try:
            row = self.protector.validate_request(scopes, request)
        except OAuth2Error as error:
            self.state.counts["refused"] += 1
            refused: Reply = self.server.handle_error_response(request, error)
            return refused
        self.state.counts["served"] += 1
        known = {"user": row.user, "client": row.client_id, "scope": row.scope}
        return Reply(200, {**known, "audience": row.audience, "sent": request.raw.decode()})

    def discovery(self, path: str) -> Reply:
        """Metadata of the issuer at / or under a path, where each of the two standards wants it.

        The issuer /oauth-only has no OpenID document, /openid-only no other,
        and /liar says that it is somebody else.
        """
        if path.startswith(OAUTH):
            tenant, standard = path.removeprefix(OAUTH), "oauth"
        elif path.endswith(OPENID):
            tenant, standard = path.removesuffix(OPENID), "openid"
        else:
            return Reply(404, {"error": "not_found"})
        if tenant in ("/oauth-only", "/openid-only") and tenant != f"/{standard}-only":
            return Reply(404, {"error": "not_found"})
        issuer = "https://elsewhere.example" if tenant == "/liar" else self.url + tenant
        return Reply(200, self.metadata(issuer))

    def metadata(self, issuer: str) -> dict[str, Any]:
        methods = list(CLIENTS)
        return {
            "issuer": issuer,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "device_authorization_endpoint": f"{self.url}/device_authorization",
            "revocation_endpoint": f"{self.url}/revoke",
            "jwks_uri": f"{self.url}/jwks",
            "scopes_supported": SCOPES,
            "response_types_supported": ["code"],
            "grant_types_supported": CLIENT_GRANTS,
            "token_endpoint_auth_methods_supported": methods,
            "token_endpoint_auth_signing_alg_values_supported": ["HS256", "RS256", "ES256"],
            "revocation_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_signing_alg_values_supported": ["HS256", "RS256", "ES256"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def control_reset(self) -> None:
        self.state.reset()

    def control_expire(self) -> None:
        self.state.expire()

    def control_counts(self) -> dict[str, Any]:
        names = ("refreshes", "reuses", "repeated_jtis", "revocations", "served", "refused")
        return {
            "requests": dict(self.state.requests),
            "issued": dict(self.state.successes),
            "jtis": len(self.state.jtis),
            **{name: self.state.counts[name] for name in names},
        }

    def control_last(self, path: str) -> dict[str, Any] | None:
        return self.state.last.get(path)

    def control_settings(self, **settings: int) -> None:
        for name, value in settings.items():
            setattr(self.state, name, value)

    def control_answer(self, path: str, status: int, times: int, retry_after: str | None) -> None:
        self.state.answers[path] = [(status, retry_after)] * times

    def control_login(self, client_id: str, scope: str, audience: list[str]) -> dict[str, Any]:
        """A login as a code would give it, without the browser."""
        request = Request(
            {
                "REQUEST_METHOD": "POST",
                "PATH_INFO": "/token",
                "QUERY_STRING": "",
                "HTTP_HOST": self.url.removeprefix("http://"),
                "wsgi.url_scheme": "http",
                "wsgi.input": sys.stdin.buffer,  # of which nothing is read
            }
        )
        request.client, request.user = self.state.clients[client_id], USER
        request.payload.datalist["audience"] = audience
        token: dict[str, Any] = self.server.generate_token(
            grant_type="authorization_code", client=request.client, user=USER, scope=scope
        )
        self.server.save_token(token, request)
        return token


def end_with_parent() -> None:
    """Ends this process when whoever started it closes our input, or is gone."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # plain http, on loopback
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is no fault here
    applications: list[Application] = []
    # Who it is depends on the port, which is known only once it listens.
    listener = waitress.create_server(
        lambda environ, start: applications[0](environ, start), host="127.0.0.1", port=0, threads=16
    )
    application = Application(f"http://127.0.0.1:{listener.effective_port}")
    applications.append(application)
    where = {
        "url": application.url,
        "clients": CLIENTS,
        "user": USER,
        "keys": {
            name: key.as_pem(private=True).decode()
            for name, key in application.state.private_keys.items()
        },
    }
    print(json.dumps(where), flush=True)
    threading.Thread(target=end_with_parent, daemon=True).start()
    listener.run()


if __name__ == "__main__":
    main()
