"""Starts Authlib's authorization server once for a test run, and lends it to each test afresh."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.providers.conftest import oauth
from tests.providers.processes import add_logs

from .servers import AuthlibServer, running_authlib

__all__ = ["authlib", "authlib_server", "oauth"]


@pytest.fixture(scope="session")
def authlib_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthlibServer]:
    """Authlib's server, as the tests before left it."""
    with running_authlib(tmp_path_factory.mktemp("authlib")) as server:
        yield server


@pytest.fixture
def authlib(authlib_server: AuthlibServer) -> AuthlibServer:
    """Authlib's server with nothing logged in, counted or set."""
    authlib_server.reset()
    return authlib_server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows the end of the servers' logs below a test that failed."""
    report = yield
    add_logs(report, item)
    return report
