"""`TokenExchangeGrant`: a token for a token (RFC 8693)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..errors import ConfigurationError, LoginRequired, RefreshRefused
from ..tokens import Token
from .client import OAuthGrant
from .settings import Secret, first, text_problem

_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"

Given = str | Callable[[], "str | Token"]


class TokenExchangeGrant(OAuthGrant):
    """Exchanges a token for another, for another audience or on behalf of somebody (RFC 8693).

    token_url: the token endpoint; https, or plain http to this host.
    subject_token: on whose behalf: a text, or a function that returns a text
        or a Token and is called at each request, such as another
        TokenSource's `token` method. A text is left behind by pickle.
    subject_token_type: what that is (RFC 8693 section 3).
    actor_token, actor_token_type: who acts, in the same forms, if not the
        client itself.
    requested_token_type: what to issue; None leaves it to the provider.
    client_id: as the provider registered the client; None for none.
    settings: as for RefreshTokenGrant; `audience`, `resource` and `scope` say what
        the new token is for.

    There is no refresh token: an expired token is exchanged for anew. Where the
    login of the `subject_token` is over, RefreshRefused says so; other errors
    that it raises are the attempt's. Immutable, so any thread may call it.
    Raises ConfigurationError for settings that cannot be right.
    """

    _FINAL: ClassVar[frozenset[str]] = frozenset()
    _FIELDS: ClassVar[frozenset[str]] = frozenset(
        {"subject_token", "subject_token_type", "actor_token", "actor_token_type"}
    )

    def __init__(
        self,
        token_url: str,
        *,
        subject_token: Given,
        subject_token_type: str = ACCESS_TOKEN,
        actor_token: Given | None = None,
        actor_token_type: str | None = None,
        requested_token_type: str | None = None,
        client_id: str | None = None,
        **settings: Any,
    ) -> None:
        if actor_token is not None and actor_token_type is None:
            actor_token_type = ACCESS_TOKEN
        problem = first(
            _given_problem(subject_token, "subject_token"),
            text_problem(subject_token_type, "subject_token_type"),
            None if actor_token is None else _given_problem(actor_token, "actor_token"),
            "actor_token_type is of no use without an actor_token."
            if actor_token is None and actor_token_type is not None
            else None,
            None
            if actor_token_type is None
            else text_problem(actor_token_type, "actor_token_type"),
            None
            if requested_token_type is None
            else text_problem(requested_token_type, "requested_token_type"),
        )
        if problem:
            del self, subject_token, actor_token, settings  # tracebacks with locals show no secret
            raise ConfigurationError(problem)
        tokens = {"subject_token": subject_token, "actor_token": actor_token}
        self._tokens = {
            name: Secret(given, name) if isinstance(given, str) else given
            for name, given in tokens.items()
            if given is not None
        }
        types = {
            "subject_token_type": subject_token_type,
            "actor_token_type": actor_token_type,
            "requested_token_type": requested_token_type,
        }
        self._types = {name: value for name, value in types.items() if value is not None}
        del subject_token, actor_token, tokens
        try:
            super().__init__(token_url, client_id=client_id, **settings)
        except BaseException:
            del self, settings  # a traceback with locals shows no secret and no half a grant
            raise

    def _asked(self, token: Token | None) -> tuple[dict[str, Any], list[str]]:
        texts = {name: _text_of(_had(given, name), name) for name, given in self._tokens.items()}
        return {"grant_type": _GRANT, **texts, **self._types}, list(texts.values())

    def _id_problem(self, client_id: object, secret: object, client_auth: object) -> str | None:
        needless = client_id is None and secret is None and client_auth in (None, "none")
        return None if needless else text_problem(client_id, "client_id")


def _given_problem(given: object, what: str) -> str | None:
    if callable(given):
        return None
    problem = text_problem(given, what)
    return problem and f"{problem} It is a text, or a function such as a TokenSource's `token`."


def _had(given: Callable[[], str | Token], what: str) -> str | Token:
    try:
        return given()
    except LoginRequired as exc:
        # The end of another login. This one goes on when somebody has logged in there.
        raise RefreshRefused(
            f"There is no {what} to exchange, as the login that it is of has ended. What is stored"
            f" here is intact. Log in there. It said: {exc}",
            error=exc.error,
            error_description=exc.error_description,
        ) from exc


def _text_of(given: object, what: str) -> str:
    text = given.access_token if isinstance(given, Token) else given
    problem = text_problem(text, what)
    if problem or not isinstance(text, str):
        del given, text
        raise ConfigurationError(f"{problem} Nothing was sent. Look at what returned it.")
    return text
