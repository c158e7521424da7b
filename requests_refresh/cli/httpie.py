"""A plugin of HTTPie: requests through the login of a profile.

    http --auth-type=refresh -a acme https://api.example.com/items

HTTPie finds it by the entry point `httpie.plugins.auth.v1`. It needs the extra `cli`.
"""

from __future__ import annotations

from typing import Any

import requests
from httpie.plugins import AuthPlugin
from requests.auth import AuthBase

from ..errors import ConfigurationError
from ..origins import origin_of, parse_origins
from ..source import TokenSource
from ..tokens import Token
from .settings import Settings


class RefreshPlugin(AuthPlugin):  # type: ignore[misc] # HTTPie is not typed
    """`--auth-type=refresh`, with the name of a profile as its `-a`."""

    name = "refreshed login"
    auth_type = "refresh"
    description = "A login of requests-refresh; -a is the name of its profile"
    auth_parse = False

    def get_auth(self, username: str | None = None, password: str | None = None) -> AuthBase:
        """The auth for the profile that `-a` names. Raises nothing; its use does."""
        return RefreshAuth(self.raw_auth)


class RefreshAuth(AuthBase):
    """Puts the profile's token on one request; after a refusal renews and sends it once more.

    profile: its name. The token goes to the profile's origins, or to the origin of the
    request where it names none. A body that can be read only once is not sent again.

    Raises ConfigurationError for a request to another origin, and what a source raises.
    """

    def __init__(self, profile: str) -> None:
        self._profile = profile

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        settings = Settings.gather({"profile": self._profile})
        allowed = parse_origins(settings.origins or str(request.url))
        if origin_of(request.url) not in allowed:
            raise ConfigurationError(
                f"This URL is on none of the origins of the profile {self._profile!r}, so nothing"
                " was sent."
            )
        tokens = TokenSource(settings.make_grant(), settings.open_store(), identity=settings.whose)
        token = tokens.token()
        scheme = settings.scheme()
        scheme.attach(request, token)

        def again(response: requests.Response, **options: Any) -> requests.Response:
            # A redirect takes this hook along, to whichever server.
            if origin_of(response.request.url) not in allowed:
                return response
            return self._sent_again(response, tokens, token, scheme, options)

        request.register_hook("response", again)
        return request

    def _sent_again(
        self,
        response: requests.Response,
        tokens: TokenSource,
        token: Token,
        scheme: Any,
        options: dict[str, Any],
    ) -> requests.Response:
        """The answer to the request with a new token, where this one refused the old."""
        request = response.request.copy()
        whole = request.body is None or isinstance(request.body, (str, bytes))
        if response.history or not whole or not scheme.refused(response):
            return response
        _ = response.content  # which gives the connection back
        request.hooks["response"] = []
        scheme.attach(request, tokens.renew(token))
        sent: requests.Response = response.connection.send(request, **options)
        sent.request = request
        return sent
