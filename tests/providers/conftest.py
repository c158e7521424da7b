"""Starts the providers, each once for a test run, as a process of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import requests

from .processes import add_logs, started


class Provider:
    """A running provider: where it is, how to log in there, what it has counted."""

    def __init__(self, where: dict[str, Any]) -> None:
        self.api: str = where["url"] + "/api/"
        self.refresh_url: str = where["url"] + where["refresh_path"]
        self.client_id, self.client_secret = where["client"]
        # Only `oauth` has what follows. `service_*` may use client credentials alone,
        # `device_client_id`, which is public, the device flow alone.
        self.issuer: str = where["url"] + "/o"
        self.revocation_url: str = where["url"] + "/o/revoke_token/"
        self.device_url: str = where["url"] + "/o/device-authorization/"
        self.service_id, self.service_secret = where["service"]
        self.device_client_id: str = where["device_client"]
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

    def confirm(self, user_code: str, approve: bool = True) -> None:
        """The person at the verification page says yes, or no."""
        decision = {"user_code": user_code, "approve": "yes" if approve else "no"}
        self._http.post(f"{self._url}/decide", data=decision, timeout=30).raise_for_status()

    def post(self, url: str, form: dict[str, str]) -> requests.Response:
        """This form, posted with plain requests; nothing is added to it."""
        return self._http.post(url, data=form, timeout=30)

    def get(self, access_token: str) -> requests.Response:
        """The API's answer to this token."""
        headers = {"Authorization": f"Bearer {access_token}"}
        return self._http.get(f"{self.api}items", headers=headers, timeout=30)

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
    with started(kind, ["-m", "tests.providers.server", kind, str(directory)], directory) as where:
        provider = Provider(where)
        try:
            yield provider
        finally:
            provider.close()


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
    add_logs(report, item)
    return report
