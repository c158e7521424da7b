"""Authlib's authorization server with all that the RFCs leave to the application.

What is checked here beyond Authlib's own checks: one way to authenticate and
one value for each parameter per request (RFC 6749 sections 2.3 and 3.2), a
`jti` that was seen before, an assertion that lives for over an hour or names
no subject, a second use of a refresh token or a code, a resource that is no
URI or was not granted (RFC 8707).
"""
# Authlib has no types: whatever derives from it derives from Any.
# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import dataclasses
import secrets
import time
from typing import Any, ClassVar
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Error,
    grants,
)
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion, JWTBearerGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint, DeviceCodeGrant
from authlib.oauth2.rfc9207 import IssuerParameter
from joserfc.errors import InvalidKeyIdError
from joserfc.jwk import OctKey

from .authlib_rows import SCOPES, USER, Client, Code, Device, Issued, State
from .authlib_wire import Reply, Request

METHODS = ["client_secret_basic", "client_secret_post", "client_assertion_jwt"]
ANY_METHOD = [*METHODS, "none"]
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
REPEATABLE = {"resource", "audience"}
LONGEST = 3600  # seconds that an assertion may have to live


class InvalidTargetError(OAuth2Error):
    """RFC 8707 section 2."""

    error = "invalid_target"


class Server(AuthorizationServer):
    """Authlib's server on our rows."""

    def __init__(self, state: State, issuer: str) -> None:
        super().__init__(scopes_supported=SCOPES)
        self.state = state
        self.issuer = issuer
        self.register_token_generator(
            "default",
            BearerTokenGenerator(
                lambda **_: "at-" + secrets.token_urlsafe(32),
                lambda **_: "rt-" + secrets.token_urlsafe(32),
                lambda client, grant_type: state.lifetime,
            ),
        )
        self.register_client_auth_method("client_assertion_jwt", ClientAssertion(self))
        self.register_grant(CodeGrant, [Challenge(required=True)])
        for grant in (Refresh, Credentials, Bearer, DeviceGrant, Exchange):
            self.register_grant(grant)
        self.register_endpoint(DeviceEndpoint(self))
        self.register_endpoint(Revocation(self))
        self.register_extension(Issuer())

    def query_client(self, client_id: str) -> Client | None:
        return self.state.clients.get(client_id)

    def create_oauth2_request(self, request: Request) -> Request:
        return request

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Reply:
        return Reply(status, body, list(headers))

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        if name == "after_revoke_token":
            self.state.counts["revocations"] += 1

    def authenticate_client(
        self, request: Request, methods: list[str], endpoint: str = "token"
    ) -> Client:
        ways = ["Authorization" in request.headers]
        ways += [name in request.form for name in ("client_secret", "client_assertion")]
        if sum(ways) > 1:
            raise InvalidRequestError("More than one client authentication.")
        for name, values in request.payload.datalist.items():
            if len(values) > 1 and name not in REPEATABLE:
                raise InvalidRequestError("A parameter was sent twice.")
        client: Client = super().authenticate_client(request, methods, endpoint)
        request.client = client
        return client

    def save_token(self, token: dict[str, Any], request: Request) -> None:
        """Stores what is about to be handed out; refuses it for a wrong target."""
        before: Any = request.refresh_token or request.authorization_code or request.credential
        granted = list(getattr(before, "granted_audience", getattr(before, "audience", [])))
        audience = targets(request) or granted
        if granted and not set(audience) <= set(granted):
            raise InvalidTargetError("That resource was not granted.")
        scope = token.get("scope", "")
        self.state.issued.append(
            Issued(
                client_id=request.client.client_id,
                user=request.user,
                login=getattr(before, "login", secrets.token_hex()),
                access_token=token["access_token"],
                refresh_token=token.get("refresh_token"),
                scope=scope,
                granted_scope=getattr(before, "granted_scope", scope),
                audience=audience,
                granted_audience=granted or audience,
                expires_at=time.time() + token["expires_in"],
            )
        )


def targets(request: Request) -> list[str]:
    """The resources and audiences that are asked for (RFC 8707 section 2, RFC 8693 section 2.1)."""
    resources = request.payload.datalist.get("resource", [])
    for resource in resources:
        parts = urlsplit(resource)
        if not parts.scheme or not parts.netloc or "#" in resource:
            raise InvalidTargetError("A resource is an absolute URI without a fragment.")
    return [*resources, *request.payload.datalist.get("audience", [])]


def key_of(client: Client, state: State) -> Any:
    """How joserfc finds the key that this client's signature is checked with."""

    def find(signed: Any) -> Any:
        if client.method == "client_secret_jwt":
            return OctKey.import_key(client.secret)
        headers = signed.headers()
        kid = headers.get("kid", "ec" if headers.get("alg", "").startswith("ES") else "rsa")
        if client.method != "private_key_jwt" or kid not in state.private_keys:
            raise InvalidKeyIdError("No such key.")
        key = state.private_keys[kid]
        return type(key).import_key(key.as_dict(private=False))

    return find


class ClientAssertion(JWTBearerClientAssertion):
    """Both `client_secret_jwt` and `private_key_jwt`: the client decides (RFC 7523 section 2.2)."""

    CLIENT_AUTH_METHOD = "client_assertion_jwt"

    def __init__(self, server: Server) -> None:
        super().__init__(leeway=0)
        self.server = server

    def resolve_client_public_key(self, client: Client) -> Any:
        return key_of(client, self.server.state)

    def get_audiences(self) -> list[str]:
        return [self.server.issuer, self.server.issuer + "/token"]

    def verify_claims(self, claims: Any) -> None:
        super().verify_claims(claims)
        if claims["exp"] - time.time() > LONGEST:
            raise InvalidClientError(description="The assertion lives too long.")

    def validate_jti(self, claims: Any, jti: str) -> bool:
        return self.server.state.use_jti(claims["iss"], jti)


class Challenge(CodeChallenge):
    """S256 only (RFC 9700 section 2.1.1)."""

    DEFAULT_CODE_CHALLENGE_METHOD = "S256"
    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)


class CodeGrant(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ANY_METHOD

    def save_authorization_code(self, code: str, request: Request) -> None:
        data = request.payload.data
        self.server.state.codes[code] = Code(
            code=code,
            client_id=request.client.client_id,
            redirect_uri=request.payload.redirect_uri,
            scope=request.scope,
            audience=targets(request),
            code_challenge=data.get("code_challenge"),
            code_challenge_method=data.get("code_challenge_method"),
        )

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        row: Code | None = self.server.state.codes.get(code)
        if row is None or row.client_id != client.client_id or time.time() >= row.expires_at:
            return None
        if row.used:  # RFC 6749 section 4.1.2: what was issued for it dies
            self.server.state.end_login(row.login)
            return None
        return row

    def delete_authorization_code(self, authorization_code: Code) -> None:
        authorization_code.used = True

    def authenticate_user(self, authorization_code: Code) -> str:
        return USER


class Refresh(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ANY_METHOD
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Issued | None:
        row: Issued | None = self.server.state.by_refresh(refresh_token)
        if row is None or not row.check_client(self.request.client):
            return None
        if row.used:
            self.server.state.counts["reuses"] += 1
            self.server.state.end_login(row.login)
        if row.refresh_revoked:
            return None
        # What is asked for is measured by what was granted, not by the last use.
        return dataclasses.replace(row, scope=row.granted_scope)

    def authenticate_user(self, refresh_token: Issued) -> str | None:
        return refresh_token.user

    def revoke_old_credential(self, refresh_token: Issued) -> None:
        row = self.server.state.by_refresh(refresh_token.refresh_token)
        row.used = True
        self.server.state.counts["refreshes"] += 1


class Credentials(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS


class Bearer(JWTBearerGrant):
    """The issuer is the client of `private_key_jwt`; the subject is the user or that client."""

    LEEWAY = 0
    CLAIMS_OPTIONS: ClassVar = {**JWTBearerGrant.CLAIMS_OPTIONS, "sub": {"essential": True}}

    def resolve_issuer_client(self, issuer: str) -> Client | None:
        client: Client | None = self.server.query_client(issuer)
        return client

    def resolve_client_public_key(self, client: Client) -> Any:
        return key_of(client, self.server.state)

    def get_audiences(self) -> list[str]:
        return [self.server.issuer, self.server.issuer + "/token"]

    def verify_claims(self, claims: Any) -> None:
        super().verify_claims(claims)
        if claims["exp"] - time.time() > LONGEST:
            raise InvalidGrantError("The assertion lives too long.")
        if "jti" in claims and not self.server.state.use_jti(claims["iss"], claims["jti"]):
            raise InvalidGrantError("The assertion was used before.")

    def authenticate_user(self, subject: str) -> str | None:
        known = subject == USER or subject in self.server.state.clients
        return subject if known else None

    def has_granted_permission(self, client: Client, user: str) -> bool:
        return user in (USER, client.client_id)


class DeviceEndpoint(DeviceAuthorizationEndpoint):
    CLIENT_AUTH_METHODS = ANY_METHOD

    @property
    def EXPIRES_IN(self) -> int:
        return int(self.server.state.device_lifetime)

    @property
    def INTERVAL(self) -> int:
        return int(self.server.state.interval)

    def create_endpoint_response(self, request: Request) -> Any:
        # One request at a time: the server's lock is held.
        self._request, self._audience = request, targets(request)
        return super().create_endpoint_response(request)

    def get_verification_uri(self) -> str:
        return f"{self.server.issuer}/device"

    def save_device_credential(self, client_id: str, scope: str, data: dict[str, Any]) -> None:
        self.server.state.devices[data["device_code"]] = Device(
            client_id=self._request.client.client_id,
            scope=self._request.client.get_allowed_scope(scope),
            user_code=data["user_code"],
            expires_at=time.time() + data["expires_in"],
            audience=self._audience,
        )


class DeviceGrant(DeviceCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ANY_METHOD

    def query_device_credential(self, device_code: str) -> Device:
        device: Device | None = self.server.state.devices.get(device_code)
        if device is None:
            raise InvalidGrantError("No such device code.")
        return device

    def query_user_grant(self, user_code: str) -> tuple[str, bool] | None:
        devices = self.server.state.devices.values()
        found = next(device for device in devices if device.user_code == user_code)
        return None if found.approved is None else (USER, found.approved)

    def should_slow_down(self, credential: Device) -> bool:
        if self.server.state.slow_downs == 0:
            return False
        self.server.state.slow_downs -= 1
        return True

    def save_token(self, token: dict[str, Any]) -> None:
        super().save_token(token)
        del self.server.state.devices[self.request.form["device_code"]]


class Exchange(grants.BaseGrant, grants.TokenEndpointMixin):
    """Token exchange (RFC 8693): a living access token of ours for another one."""

    GRANT_TYPE = EXCHANGE
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def validate_token_request(self) -> None:
        self.authenticate_token_endpoint_client()
        form = self.request.form
        self._subject = self._living("subject")
        if ("actor_token" in form) != ("actor_token_type" in form):
            raise InvalidRequestError("An actor token and its type come together.")
        self._actor = self._living("actor").user if "actor_token" in form else None
        if form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
            raise InvalidRequestError("Only access tokens are issued.")
        self._scope = self.request.payload.scope or self._subject.scope
        if not set(self._scope.split()) <= set(self._subject.scope.split()):
            raise InvalidScopeError()

    def create_token_response(self) -> tuple[int, dict[str, Any], Any]:
        self.request.user = self._subject.user
        token = self.generate_token(
            user=self._subject.user, scope=self._scope, include_refresh_token=False
        )
        self.save_token(token)
        return 200, {**token, "issued_token_type": ACCESS_TOKEN}, self.TOKEN_RESPONSE_HEADER

    def _living(self, role: str) -> Issued:
        form = self.request.form
        if form.get(f"{role}_token_type") != ACCESS_TOKEN:
            raise InvalidRequestError(f"The {role} token must be an access token.")
        row: Issued | None = self.server.state.by_access(form.get(f"{role}_token", ""))
        if row is None or row.is_expired() or row.is_revoked():
            raise InvalidRequestError(f"The {role} token is not valid.")
        return row


class Revocation(RevocationEndpoint):
    CLIENT_AUTH_METHODS = ANY_METHOD

    def query_token(self, token_string: str, token_type_hint: str | None) -> Issued | None:
        # A wrong hint must not hide the token (RFC 7009 section 2.1).
        state: State = self.server.state
        return state.by_refresh(token_string) or state.by_access(token_string)

    def revoke_token(self, token: Issued, request: Request) -> None:
        if request.form["token"] == token.refresh_token:
            self.server.state.end_login(token.login)
        else:
            token.revoked = True


class Issuer(IssuerParameter):
    """The issuer in each authorization response (RFC 9207)."""

    def __call__(self, authorization_server: Server) -> None:
        self._issuer = authorization_server.issuer
        super().__call__(authorization_server)

    def get_issuer(self) -> str:
        return self._issuer
