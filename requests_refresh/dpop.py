"""`DPoP`: tokens that are of use only with a proof that their key is at hand (RFC 9449).

Each attempt has a proof of its own, made for its method, its URL and its
token. Servers may want a nonce of theirs in it: `use_dpop_nonce` is answered
with another proof and the same token, never with a refresh.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from requests import PreparedRequest, Response

from .errors import ConfigurationError
from .origins import Origin, origin_of
from .schemes import Bearer, Refused, challenges_of
from .signing import JWK_FIELD, Signer, missing, nonce_in, proof, signer_of
from .tokens import Token

log = logging.getLogger("requests_refresh")


class DPoP(Bearer):
    """Sends `Authorization: DPoP ...` with a proof (RFC 9449 section 7.1).

    For a TokenSource whose grant has `dpop=True`: it keeps the private key
    with the token, in the store. A token that the provider issued as a plain
    bearer token goes out as one, which is logged once.

    refused: as for HeaderScheme.

    With `max_retries`, urllib3 sends again what was signed once, and a server
    that takes a proof only once refuses it: that 401 is handed on.

    Needs `pip install "requests_refresh[jwt]"`. Thread-safe. A pickle or copy
    has no key in it. Each attempt signs once, which takes some 0.1 ms.
    """

    sets = 2

    def __init__(self, refused: Refused | None = None) -> None:
        super().__init__(refused)
        problem = missing()
        if problem:
            raise ConfigurationError(problem)
        self._given = refused
        self._nonces: dict[Origin | None, str] = {}  # each API's last; a dict's items are atomic
        self._last: tuple[Mapping[str, Any] | None, Signer | str] = (None, "")
        self._said = False

    def attach(self, request: PreparedRequest, token: Token) -> None:
        """Put `token` and a new proof on `request`.

        Raises ConfigurationError for a DPoP token whose key is not with it.
        """
        self._attach(request, token, self._nonces.get(origin_of(request.url)))

    def again(self, response: Response) -> _Again | None:
        """What to send the same request again with, if only a nonce was amiss; else None.

        It is called for each response, as any may bring the next nonce.
        """
        nonce = nonce_in(response.headers)
        if nonce is None:
            return None
        wanted = response.status_code == 401 and any(
            scheme == "dpop" and parameters.get("error", "").lower() == "use_dpop_nonce"
            for scheme, parameters in challenges_of(response)
        )
        if wanted:
            return _Again(self, nonce)
        self._learn(response, nonce)
        return None

    def _learn(self, response: Response, nonce: str) -> None:
        self._nonces[origin_of(response.url)] = nonce

    def _attach(self, request: PreparedRequest, token: Token, nonce: str | None) -> None:
        if token.token_type.lower() != "dpop":
            if not self._said:
                self._said = True
                log.warning(
                    "The provider issued a plain bearer token, which is sent without a proof. Does"
                    " the grant have dpop=True, and does the provider know DPoP for this client?"
                )
            super().attach(request, token)
            return
        signer = self._signer_of(token)
        if isinstance(signer, str):
            raise ConfigurationError(
                f"The token is bound to a key that cannot be used: {signer}. The login is kept."
                " Renew it with a grant that has dpop=True, or log in again."
            )
        value = f"DPoP {token.access_token}"
        request.headers[self.name] = value if value.isascii() else value.encode()
        request.headers["DPoP"] = proof(
            signer,
            request.method or "GET",
            request.url or "",
            nonce=nonce,
            access_token=token.access_token,
        )

    def _signer_of(self, token: Token) -> Signer | str:
        jwk = token.extra.get(JWK_FIELD)
        if not isinstance(jwk, Mapping):
            return "it is not stored with the token"
        known, signer = self._last
        if known is not jwk:
            signer = signer_of(jwk)
            self._last = jwk, signer
        return signer

    def __repr__(self) -> str:
        return "<DPoP>"

    def __reduce__(self) -> tuple[type[DPoP], tuple[Refused | None]]:
        return type(self), (self._given,)


class _Again:
    """Attaches with the nonce that came for this very request.

    It may be good only once, so other requests get it when this one has had it.
    """

    def __init__(self, scheme: DPoP, nonce: str) -> None:
        self._scheme = scheme
        self._nonce = nonce

    def attach(self, request: PreparedRequest, token: Token) -> None:
        self._scheme._attach(request, token, self._nonce)

    def again(self, response: Response) -> None:
        """Not a second time: what is amiss still is not the nonce."""
        self._scheme._learn(response, nonce_in(response.headers) or self._nonce)
