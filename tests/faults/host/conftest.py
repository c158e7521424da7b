"""A server for all the lives of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from requests_refresh.testing import AuthServer

from .life import World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with AuthServer() as server:
        yield World(server)
