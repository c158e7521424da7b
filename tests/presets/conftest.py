"""Servers for the presets' tests: a token endpoint, and one that is the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.grants.conftest import bare_environment, server
from tests.grants.endpoint import EndpointServer, running

__all__ = ["bare_environment", "server"]


@pytest.fixture
def api() -> Iterator[EndpointServer]:
    """An API."""
    with running() as found:
        yield found
