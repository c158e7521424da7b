"""A fleet whose tokens die by the clock: one process refreshes ahead, the others adopt in time."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest

from requests_refresh import Token
from requests_refresh.testing import AuthServer

from .conftest import PlaceOn
from .support import SAFETY, Fleet

PROCESSES, THREADS, ROTATIONS = 4, 2, 3
LIFE = 3.0  # seconds; what is left of the last part is what a machine may stand still for


@pytest.mark.long
@pytest.mark.parametrize("kind", ["file", "redis"])
def test_one_refreshes_ahead(kind: str, place_on: PlaceOn, tmp_path: Path) -> None:
    """I1: 4 processes through 3 rotations under load: a refresh each, and nobody saw a 401."""
    place = place_on(kind)
    with AuthServer(lifetime=LIFE, latency={"token": 0.1}) as server:
        given = {"api": server.api, "token_url": server.token_url, "threads": THREADS}
        began = time.monotonic()
        place.put(Token.from_reply(server.login()))
        with Fleet("works", PROCESSES, tmp_path, **given, place=asdict(place)) as fleet:
            fleet.tell()
            fleet.expect("worked", PROCESSES)
            server.wait_for("refreshes", ROTATIONS, SAFETY)
            fleet.tell()
            fleet.expect("worked", PROCESSES)
            fleet.tell("over")
            ends = fleet.expect("over", PROCESSES)
            fleet.ends()
        took = time.monotonic() - began
        counts = server.counts
        assert server.logged_in()
    outcomes = sum((Counter(end["outcomes"]) for end in ends), Counter[str]())
    assert set(outcomes) == {"200"}, outcomes
    assert (counts.api_401, counts.expiries, counts.reuses) == (0, 0, 0)
    assert counts.api_requests == outcomes.total()  # nothing was sent twice
    assert counts.refresh_calls == counts.refreshes
    # Each token lives for half its life at least before it is renewed, so none was renewed twice.
    assert ROTATIONS <= counts.refreshes <= 1 + took / (LIFE / 2)
    saved = [token for end in ends for token in end["saved"]]
    assert len(saved) == len(set(saved)) == counts.refreshes
    moments = sorted(moment for end in ends for moment in end["saved"].values())
    for one, following in pairwise(moments):  # while the one before was still alive
        assert following - one < 0.9 * LIFE
    used = {token for end in ends for token in end["used"]}
    assert len(used - set(saved)) == 1  # the first, which was there before
    for end in ends:  # the renewals before the last are known to all
        assert len(set(end["used"]) & set(saved)) >= ROTATIONS - 1
