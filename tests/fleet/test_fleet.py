"""A fleet on each store: one expiry, one refresh, nobody notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import PlaceOn
from .support import STORES, storm


def one_refresh_each(
    kind: str, place_on: PlaceOn, directory: Path, *, processes: int, threads: int, expiries: int
) -> None:
    """Count what the server and the processes saw; print what is too uncertain to assert."""
    seen = storm(place_on(kind), directory, processes=processes, threads=threads, expiries=expiries)
    assert (seen.expiries, seen.refresh_calls, seen.refreshes) == (expiries, expiries, expiries)
    assert seen.reuses == 0
    assert seen.failed == {}
    assert seen.requests >= processes * threads * expiries
    assert len(seen.delays) == expiries
    print(
        f"{kind}: the last process went on {seen.median * 1000:.1f} ms after the save"
        f" (median; {max(seen.delays) * 1000:.1f} ms at worst), {seen.requests} requests"
    )


@pytest.mark.parametrize("kind", STORES)
def test_a_fleet(kind: str, place_on: PlaceOn, tmp_path: Path) -> None:
    """I1: 4 processes x 4 threads through 4 expiries: 4 refreshes, no reuse, no failure."""
    one_refresh_each(kind, place_on, tmp_path, processes=4, threads=4, expiries=4)


@pytest.mark.long
@pytest.mark.parametrize("kind", STORES)
def test_a_large_fleet(kind: str, place_on: PlaceOn, tmp_path: Path) -> None:
    """I1: 8 processes x 8 threads through 20 expiries: 20 refreshes, no reuse, no failure."""
    one_refresh_each(kind, place_on, tmp_path, processes=8, threads=8, expiries=20)
