"""What changes between two looks of a thread that takes no lock for them."""

from __future__ import annotations

from typing import Any

import pytest

from requests_refresh import Token

from .conftest import Make, Provider, login


@pytest.mark.parametrize("dead", [False, True], ids=["none yet", "dead"])
def test_renewed_between_two_looks(make: Make, dead: bool) -> None:
    """I1: who finds nothing fresh, and then what another got meanwhile, renews nothing again."""
    provider = Provider()
    source = make(provider, token=login(100 if dead else 3600))
    if dead:
        source.token()
        make.clock.now += 200
    real, fresh = source._fresh, source._gate.start
    started: list[bool] = []

    def and_then_another() -> Token | None:
        found = real()
        assert found is None
        source._fresh = real  # type: ignore[method-assign]
        source.token()
        return found

    def start(*args: Any, **options: Any) -> bool:
        started.append(fresh(*args, **options))
        return started[-1]

    source._fresh, source._gate.start = and_then_another, start  # type: ignore[method-assign]
    assert source.token().access_token == f"a{provider.calls}"
    make.settle()
    assert (provider.calls, started) == (int(dead), [])
