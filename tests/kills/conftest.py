"""The stores whose users are killed, and the processes that make victims."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from .support import Nurseries, Place


@pytest.fixture(scope="module")
def nurseries() -> Iterator[Nurseries]:
    with closing(Nurseries()) as all_of_them:
        yield all_of_them


@pytest.fixture(
    params=["file", "sqlite", "redis", "postgres", pytest.param("maria", marks=pytest.mark.long)]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A shared store, new for each test."""
    kind, name = request.param, f"t{uuid.uuid4().hex}"
    if kind == "file":
        return Place(kind, str(tmp_path / "private" / "tokens.json"), name)
    if kind == "sqlite":
        return Place(kind, f"sqlite:///{tmp_path / 'tokens.db'}", name)
    return Place(kind, request.getfixturevalue(f"{kind}_server").url, name)
