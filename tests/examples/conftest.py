"""A provider for each example."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from requests_refresh.testing import AuthServer


@pytest.fixture
def server() -> Iterator[AuthServer]:
    with AuthServer() as running:
        yield running
