"""Servers for the grants' tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.grants.endpoint import EndpointServer, running


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, CA bundle or netrc of whoever runs the tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    """A token endpoint."""
    with running() as found:
        yield found


@pytest.fixture
def other() -> Iterator[EndpointServer]:
    """A second server, for what must not reach it, or for a proxy."""
    with running() as found:
        yield found


@pytest.fixture
def nobody() -> Iterator[str]:
    """host:port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"
