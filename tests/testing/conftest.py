"""A running AuthServer whose clock the test moves, and a plain session to speak to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from requests_refresh.testing import AuthServer


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[AuthServer]:
    with AuthServer(clock=clock) as running:
        yield running


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session
