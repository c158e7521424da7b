"""Servers for the presets' tests: a token endpoint, and one that is the API."""

from __future__ import annotations

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
def api() -> Iterator[EndpointServer]:
    """An API."""
    with running() as found:
        yield found
