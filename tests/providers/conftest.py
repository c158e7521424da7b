"""Starts the providers, each once for a test run, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import requests

SERVER = Path(__file__).with_name("server.py")
LOGS: dict[str, Path] = {}


class Provider:
    """A running provider: where it is, how to log in there, what it has counted."""

    def __init__(self, where: dict[str, Any]) -> None:
        self.api: str = where["url"] + "/api/"
        self.refresh_url: str = where["url"] + where["refresh_path"]
        self.client_id, self.client_secret = where["client"]
        self._url: str = where["url"]
        self._username, self._password = where["user"]
        self._http = requests.Session()
        self._http.trust_env = False

    def login(self) -> dict[str, Any]:
        """A new login, through the provider's own view. Its counters begin anew."""
        self._http.post(f"{self._url}/counters", timeout=30)
        person = {"username": self._username, "password": self._password}
        if "/o/" in self.refresh_url:
            reply = self._http.post(
                self.refresh_url,
                data={"grant_type": "password", **person, **self._client()},
                timeout=30,
            )
        else:
            reply = self._http.post(f"{self._url}/jwt/login/", json=person, timeout=30)
        reply.raise_for_status()
        return cast("dict[str, Any]", reply.json())

    def refresh(self, refresh_token: str) -> requests.Response:
        """What the provider answers to this refresh token, asked with plain requests."""
        if "/o/" in self.refresh_url:
            form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
            return self._http.post(self.refresh_url, data={**form, **self._client()}, timeout=30)
        return self._http.post(self.refresh_url, json={"refresh": refresh_token}, timeout=30)

    def counters(self) -> dict[str, int]:
        """What went over the wire since the last login."""
        return cast("dict[str, int]", self._http.get(f"{self._url}/counters", timeout=30).json())

    def close(self) -> None:
        self._http.close()

    def _client(self) -> dict[str, str]:
        return {"client_id": self.client_id, "client_secret": self.client_secret}


@contextmanager
def running(kind: str, directory: Path) -> Iterator[Provider]:
    """One provider, from its first answer until the end of the block."""
    log = LOGS[kind] = directory / "log"
    # Coverage is for our package, which the provider never imports.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    with (
        open(log, "w") as stderr,
        subprocess.Popen(
            [sys.executable, str(SERVER), kind, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"{kind} did not start: {log.read_text()}"
            provider = Provider(json.loads(line))
            try:
                yield provider
            finally:
                provider.close()
        finally:
            process.kill()


@pytest.fixture(scope="session")
def oauth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """django-oauth-toolkit: rotation; reuse revokes every token of the login."""
    with running("oauth", tmp_path_factory.mktemp("provider-oauth")) as provider:
        yield provider


@pytest.fixture(scope="session")
def jwt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """Django SimpleJWT: rotation; a refresh token that was used is on a blacklist."""
    with running("jwt", tmp_path_factory.mktemp("provider-jwt")) as provider:
        yield provider


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows the end of the providers' logs below a test that failed."""
    report = yield
    if report.failed:
        for kind in LOGS.keys() & set(getattr(item, "fixturenames", ())):
            end = LOGS[kind].read_text().splitlines()[-30:]
            report.sections.append((f"the end of {kind}'s log", "\n".join(end)))
    return report
