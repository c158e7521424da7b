"""What a grant sends once only, where one call of it is several requests: nonces (RFC 9449 8)."""

from __future__ import annotations

from typing import Any

from tests.grants.endpoint import Answer, EndpointServer, Handler
from tests.grants.support import jwt_bearer, read, token_exchange

WANTED = Answer(400, {"error": "use_dpop_nonce"}, headers=[("DPoP-Nonce", "n-1")])


class Once:
    """A provider that takes each assertion once (RFC 7523 section 3), and wants a nonce."""

    def __init__(self) -> None:
        self.seen: set[Any] = set()

    def __call__(self, handler: Handler) -> None:
        number = read(handler.server.seen[-1].form["assertion"])[1]["jti"]
        if number in self.seen:
            return Answer(400, {"error": "invalid_grant", "error_description": "replayed"})(handler)
        self.seen.add(number)
        return (WANTED if len(self.seen) == 1 else Answer())(handler)


def test_an_assertion_goes_out_once(server: EndpointServer) -> None:
    """RFC 7523 3: the request with the nonce has an assertion of its own, with a new `jti`."""
    server.will(*[Once()] * 2)
    assert jwt_bearer(server.url, dpop=True)(None).access_token == "new-access"


def test_functions_are_called_at_each_request(server: EndpointServer) -> None:
    """A function for a token or for a field of the form is asked for each request, as it says."""
    texts = iter(["1", "2", "3", "4"])
    settings: dict[str, Any] = {"subject_token": lambda: next(texts)}
    settings["extra"] = {"code": lambda: next(texts)}
    server.will(WANTED, Answer())
    token_exchange(server.url, dpop=True, **settings)(None)
    sent = [(seen.form["subject_token"], seen.form["code"]) for seen in server.seen]
    assert sent == [("1", "2"), ("3", "4")]
