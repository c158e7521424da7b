"""Places for a fleet's tokens on every store, and the real providers of the suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.providers.conftest import jwt, oauth

from .support import Place, new_place

__all__ = ["jwt", "oauth", "place_on"]

PlaceOn = Callable[[str], Place]


@pytest.fixture
def place_on(request: pytest.FixtureRequest, tmp_path: Path) -> PlaceOn:
    """`place_on("redis")`: a place of one's own there; skips where there is no such server."""

    def url_of(kind: str) -> str:
        url: str = request.getfixturevalue(f"{kind}_server").url
        return url

    return lambda kind: new_place(kind, tmp_path, url_of)
