"""A challenge that is handed on proves nothing: strikes count as if it had not come (I12)."""

from __future__ import annotations

import itertools

from requests_refresh import DPoP, Token, TokenSource
from tests.adapter.conftest import Mount
from tests.adapter.wire import Request, Wire, answering, reply
from tests.dpop.conftest import new_key


def test_a_challenge_is_no_consent(mount: Mount) -> None:
    """I12: an API that takes no token, and asks for nonces in between, uses up the strikes."""
    key, issued, numbers = new_key(), itertools.count(1), itertools.count()
    made: list[Token] = []

    def grant(old: Token | None) -> Token:
        made.append(Token(f"t{next(issued)}", token_type="DPoP", extra={"dpop_jwk": key}))
        return made[-1]

    def answer(request: Request) -> bytes:
        number = next(numbers)
        error = "use_dpop_nonce" if number % 3 else "invalid_token"
        challenge = f'WWW-Authenticate: DPoP error="{error}"'
        return reply(401, b"", challenge, f"DPoP-Nonce: n-{number}")

    tokens = TokenSource(
        grant, token=Token("t0", token_type="DPoP", extra={"dpop_jwk": key}), strikes=(3, 60.0)
    )
    with Wire(answering(answer)) as wire:
        session = mount(tokens, wire.url, scheme=DPoP())
        statuses = {session.get(wire.url, timeout=10).status_code for _ in range(12)}
    assert statuses == {401}
    assert len(made) <= 4  # three that were struck, and the first, of whose issue nobody knows
