"""`BrowserLogin`: a person logs in with the browser of this host (RFC 8252).

Authorization code with PKCE (RFC 7636) over a redirect to this host itself. The
browser's answer counts only with the `state` of this very login, and the code
in it is of use only with a verifier that never left the process.
"""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Callable, Iterable, Mapping
from secrets import token_urlsafe
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ..errors import (
    ConfigurationError,
    LoginRequired,
    RefreshRefused,
    RefreshUnavailable,
)
from ..grants.client import OAuthGrant
from ..grants.discovery import discovered
from ..grants.replies import quotable
from ..grants.settings import (
    first,
    is_sendable,
    period_problem,
    problem_in,
    shown,
    text_problem,
    url_problem,
)
from ..signing import signer_of
from ..tokens import Token
from .base import TICK, OAuthLogin, Patience, not_completed, tell
from .loopback import Loopback, answer

if TYPE_CHECKING:
    from typing_extensions import Self

_OWN = {
    *("response_type", "client_id", "redirect_uri", "scope", "state", "resource", "audience"),
    *("code_challenge", "code_challenge_method", "dpop_jkt"),
}
_FOR_LATER = {"server_error", "temporarily_unavailable"}  # RFC 6749 section 4.1.2.1
_REFUSED = {  # of the client, not of the person
    *("invalid_request", "unauthorized_client", "unsupported_response_type", "invalid_scope"),
    "invalid_target",  # RFC 8707 section 2
}
_NOT_NOW = 30.0  # seconds in which the browser is not opened again by itself
_EXCHANGE = 60.0  # seconds in which the code is exchanged, if the provider can be reached
_MOST_FIELDS = 50
_WELCOME = answer(
    "200 OK", "Received", "The answer has arrived. Close this page and go back to the program."
)


class BrowserLogin(OAuthLogin):
    """Logs in with the browser: authorization code, PKCE, loopback redirect (RFC 8252).

    token_url: the token endpoint; https, or plain http to this host.
    authorize_url: the authorization endpoint, the same.
    client_id: as the provider registered the client, with the redirect URI
        http://127.0.0.1/callback and any port (RFC 8252 section 7.3).
    issuer: the provider's issuer identifier: an answer that names another one
        is refused (RFC 9207).
    port: on which to listen, for providers that want one; 0 for any.
    path: of the redirect URI.
    open: called as `open(url)` in a thread of its own; returns whether a
        browser was found. None for `webbrowser.open`.
    show: called as `show(url)` where none was; None prints two lines on
        standard error.
    parameters: more parameters of the authorization request, such as
        {"prompt": "consent"}.
    wait: seconds for which the person is waited for.
    settings: as for RefreshTokenGrant; `extra` goes with the code.

    Called, it opens one page and blocks until the person is through with it,
    `wait` is over, or the time of the round: give the TokenSource a `timeout`
    of some minutes. Any thread may call it; each call is a login of its own.

    Raises LoginRequired if the person or the provider refused or nobody came,
    RefreshTimeout if only the round's time is over, ConfigurationError where
    it cannot listen; and RefreshRefused, RefreshUnavailable and InvalidReply
    as a grant does. Needs `pip install "requests_refresh[login]"`.
    """

    _ENDPOINTS: ClassVar[Mapping[str, str]] = {
        **OAuthGrant._ENDPOINTS,
        "authorize_url": "authorization_endpoint",
        "issuer": "issuer",
    }

    def __init__(
        self,
        token_url: str,
        *,
        authorize_url: str,
        client_id: str,
        issuer: str | None = None,
        port: int = 0,
        path: str = "/callback",
        open: Callable[[str], object] | None = None,  # noqa: A002  # as it is called everywhere
        show: Callable[[str], object] | None = None,
        parameters: Mapping[str, str] = MappingProxyType({}),
        wait: float = 300.0,
        **settings: Any,
    ) -> None:
        problem = problem_in(
            lambda: first(
                url_problem(authorize_url, "authorize_url"),
                None if issuer is None else text_problem(issuer, "issuer"),
                _place_problem(port, path),
                None if open is None or callable(open) else "open is not callable.",
                None if show is None or callable(show) else "show is not callable.",
                _parameters_problem(parameters),
                period_problem(wait, "wait"),
            )
        )
        try:
            if problem:
                raise ConfigurationError(problem)
            _oauthlib()  # where it is missing it is said now
            super().__init__(token_url, client_id=client_id, **settings)
        except BaseException:
            # A traceback with locals shows neither secrets nor half a login.
            del self, token_url, authorize_url, parameters, settings
            raise
        self._authorize_url = authorize_url
        self._issuer = issuer
        self._names_issuer = False  # whether every answer has to
        self._port = port
        self._path = path
        self._open = webbrowser.open if open is None else open
        self._show = _print if show is None else show
        self._parameters = dict(parameters)
        self._wait = float(wait)

    @classmethod
    def discover(cls, issuer: str, /, **settings: Any) -> Self:
        """The login for a provider that says itself where its endpoints are.

        As for every grant; and where the provider says that it names itself in
        its answers, one that does not is refused (RFC 9207 section 2.4).
        """
        names = {"timeout", "verify", "proxies"} & settings.keys()
        reach = {name: settings[name] for name in names}
        try:
            login = super().discover(issuer, **settings)
            said = discovered(issuer, **reach).fields  # at hand since a moment ago
        finally:
            del settings, reach  # a traceback with locals shows no secret
        login._names_issuer = said.get("authorization_response_iss_parameter_supported") is True
        return login

    def _renewed(self, token: Token | None) -> Token:
        client = _oauthlib().WebApplicationClient(self._client_id)
        state = token_urlsafe(32)
        verifier = client.create_code_verifier(64)
        jwk = self._new_key()
        patience = Patience(
            self._wait,
            LoginRequired("Nobody completed the login in the browser in time. Log in again."),
            self._clock,
        )
        with Loopback(self._port, self._path, self._clock) as server:
            url = self._url(client, server.url, state, verifier, jwk)
            answered = _Answer(client, state)
            opened = _opened(self._open, url)
            shown = False
            while answered.fields is None:
                patience.check()
                if opened == [False] and not shown:
                    self._show(url)
                    shown = True
                server.serve(min(TICK, patience.left()), answered.taken)
        code = self._code_in(answered.fields, [state, verifier])
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": server.url,
            "code_verifier": verifier,
        }
        return self._exchanged_in_time(fields, [code, verifier], jwk)

    def _url(
        self,
        client: Any,
        redirect_uri: str,
        state: str,
        verifier: str,
        jwk: Mapping[str, Any] | None,
    ) -> str:
        """Where the person begins (RFC 6749 section 4.1.1, RFC 7636 section 4.3)."""
        asked, _ = self._asked(None)
        scope = asked.pop("scope", None)
        more = dict(self._parameters)
        signer = None if jwk is None else signer_of(jwk)
        if signer is not None and not isinstance(signer, str):
            more["dpop_jkt"] = signer.thumbprint()  # RFC 9449 section 10
        parts = urlsplit(self._authorize_url)
        query = "&".join(filter(None, (parts.query, urlencode(asked, doseq=True))))
        # oauthlib takes https alone; that plain http is this host was checked by us.
        secure = urlunsplit(parts._replace(scheme="https", query=query))
        url = client.prepare_request_uri(
            secure,
            redirect_uri=redirect_uri,
            scope=scope,
            state=state,
            code_challenge=client.create_code_challenge(verifier, "S256"),
            code_challenge_method="S256",
            **more,
        )
        return str(urlunsplit(urlsplit(url)._replace(scheme=parts.scheme)))

    def _code_in(self, fields: Mapping[str, str], secrets: Iterable[str]) -> str:
        """The code in an answer, or what its error means raised (RFC 6749 section 4.1.2.1)."""
        where = shown(self._authorize_url)
        named = fields.get("iss")
        must = self._issuer is not None and (named is not None or self._names_issuer)
        if must and named != self._issuer:
            raise RefreshRefused(
                f"The answer to a login at {where} was another provider's, or did not say whose it"
                " was (RFC 9207), and was not used. Check the issuer, to the letter."
            )
        if "error" not in fields:
            return fields["code"]
        secrets = [*secrets, fields.get("code", "")]
        error = quotable(fields["error"], secrets)
        description = quotable(fields.get("error_description"), secrets)
        said = ": ".join(part for part in (error, description) if part)
        if error in _FOR_LATER:
            raise RefreshUnavailable(
                f"{where} cannot log anybody in now ({said}). Try again later.",
                retry_after=_NOT_NOW,  # or the browser would be opened again at once
            )
        if error in _REFUSED:
            raise RefreshRefused(
                f"{where} refused the client ({said}). Nothing was stored. Check client_id, scope,"
                " parameters and the redirect URI that is registered.",
                error=error,
                error_description=description,
            )
        raise not_completed(where, error, description)

    def _exchanged_in_time(
        self, fields: Mapping[str, str], secrets: list[str], jwk: Mapping[str, Any] | None
    ) -> Token:
        """The token for the code. What the network does must not cost the person another login."""
        patience = Patience(
            _EXCHANGE,
            RefreshUnavailable(
                f"The person completed the login, but {self._endpoint.shown} could not be reached"
                " for the token. Nothing was stored. Log in again later.",
                retry_after=_NOT_NOW,  # or the browser would be opened again at once
            ),
            self._clock,
        )
        pause = 0.5
        while True:
            try:
                return self._exchanged(fields, list(secrets), None, jwk)
            except RefreshUnavailable as exc:
                pause = max(2 * pause, exc.retry_after or 0.0)
            except LoginRequired as exc:
                raise not_completed(
                    self._endpoint.shown, exc.error, exc.error_description
                ) from None
            patience.sleep(pause, self._sleep)


class _Answer:
    """What the browser brought, once it is an answer to this login."""

    def __init__(self, client: Any, state: str) -> None:
        self.fields: dict[str, str] | None = None
        self._client = client
        self._state = state

    def taken(self, query: str) -> bytes | None:
        """Keep it, if it is the answer; the first one counts."""
        errors = _oauthlib().OAuth2Error
        if not (query.isascii() and query.isprintable()) or "#" in query:
            return None  # no browser sends it, and two readers would read it in two ways
        try:
            pairs = parse_qsl(query, max_num_fields=_MOST_FIELDS)
        except ValueError:
            return None
        fields = dict(pairs)
        if len(fields) != len(pairs):
            return None  # a parameter comes once (RFC 6749 section 3.1)
        try:
            self._client.parse_request_uri_response(f"https://127.0.0.1/?{query}", self._state)
        except errors as exc:
            if "error" not in fields or exc.error == "mismatching_state":
                return None
        if self.fields is None:
            self.fields = fields
        return _WELCOME


def _opened(open_: Callable[[str], object], url: str) -> list[bool]:
    """Open `url` in a thread, as some browsers take this one's terminal until they are closed.

    What comes into the list is whether that went well.
    """
    done: list[bool] = []

    def run() -> None:
        try:
            done.append(bool(open_(url)))
        except Exception:  # whatever it is, the person can be shown the address
            done.append(False)

    try:
        threading.Thread(target=run, name="requests-refresh-browser", daemon=True).start()
    except RuntimeError:  # no thread to be had
        done.append(False)
    return done


def _place_problem(port: object, path: object) -> str | None:
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        return "port is not a number from 0 to 65535."
    if not isinstance(path, str) or not path.startswith("/"):
        return "path does not begin with a slash."
    if not path.isascii() or not path.isprintable() or any(sign in path for sign in ' ?#"<>\\'):
        return "path is no path of a URL: it has a space, a query, a fragment or such in it."
    return None


def _parameters_problem(parameters: object) -> str | None:
    if not isinstance(parameters, Mapping):
        return "parameters must be a mapping of names to texts."
    for name, value in parameters.items():
        if not isinstance(name, str) or not isinstance(value, str) or not name or not value:
            return "parameters has a name or a value that is no text, or is empty."
        if not is_sendable(name + value):
            return "parameters has half a character in it, which cannot be sent."
        if name in _OWN:
            return f"parameters may not hold {name}, which the login sets itself."
    return None


def _print(url: str) -> None:
    tell("To log in, open this address in a browser on this computer:", url)


def _oauthlib() -> Any:
    try:
        import oauthlib.oauth2  # type: ignore[import-untyped]  # it has no types
    except ImportError:
        raise ConfigurationError(
            'BrowserLogin needs oauthlib: pip install "requests_refresh[login]".'
        ) from None
    return oauthlib.oauth2
