"""`KeyringStore` on a real Secret Service: GNOME Keyring on a D-Bus of the test's own.

Run with -m keyring. Needs Debian's gnome-keyring and dbus-daemon.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from keyring.backends.SecretService import Keyring

from requests_refresh.errors import StoreError
from requests_refresh.stores import TokenStore
from requests_refresh.stores.keyring import KeyringStore
from requests_refresh.testing import TokenStoreContract
from requests_refresh.tokens import Token
from tests.stores import secret_service
from tests.stores.contract import CANARY, FULL, NEW, OLD, shown
from tests.stores.keychains import USES, OfSecretService, entering
from tests.stores.secret_service import SecretService

pytestmark = [
    pytest.mark.keyring,
    pytest.mark.skipif(
        bool(secret_service.missing()),
        reason=f"not installed here: {', '.join(secret_service.missing())}",
    ),
    # keyring leaves its connection open where it finds the keyring locked or gone.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecretService]:
    """A Secret Service, which the environment names."""
    service = SecretService(tmp_path_factory.mktemp("secrets"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in service.environment.items():
            patch.setenv(name, value)
        yield service
    service.stop()


@pytest.fixture
def service(running: SecretService) -> Iterator[SecretService]:
    """The same, unlocked and with nothing in it."""
    running.clear()
    yield running
    gc.collect()  # the connections that were left open, while the filter above is on
    running.kill()
    running.start()  # unlocked again, whatever the test has done


@pytest.fixture
def store(service: SecretService, tmp_path: Path) -> KeyringStore:
    """A store in it, which holds nothing."""
    return KeyringStore("sync", backend=OfSecretService(), locks=tmp_path / "locks")


class TestContract(TokenStoreContract):
    between_processes = True
    place: Path

    @pytest.fixture(autouse=True)
    def _place(self, running: SecretService, tmp_path: Path) -> None:
        running.clear()
        self.place = tmp_path

    def make_store(self) -> TokenStore:
        return KeyringStore("sync", backend=OfSecretService(), locks=self.place / "locks")

    def share(self, store: TokenStore) -> TokenStore:
        return self.make_store()


def test_the_entry(service: SecretService, store: KeyringStore) -> None:
    """A token is one item, found by its service and the name of its identity."""
    with store.exclusive("me@example.com", 0.0):
        store.save("me@example.com", FULL)
        store.save("me@example.com", NEW)
    ((attributes, secret),) = service.entries()
    assert attributes["service"] == "sync"
    assert attributes["username"] == "token:me%40example.com"
    assert b"refresh-1" in secret


@pytest.mark.parametrize("use", USES)
def test_a_locked_keyring(service: SecretService, store: KeyringStore, use: str) -> None:
    """I7, I9: a keyring that nobody unlocks is a StoreError that says so, and loses nothing."""
    store.save("default", OLD)
    service.lock()
    with pytest.raises(StoreError, match="it is locked") as caught:
        USES[use](store)
    assert not list(shown(caught.value, CANARY))
    service.kill()
    service.start()
    assert store.load("default") == OLD


@pytest.mark.parametrize("use", USES)
def test_a_daemon_that_is_killed(service: SecretService, store: KeyringStore, use: str) -> None:
    """I7: a Secret Service that is gone is a StoreError; when it comes back, all is there."""
    store.save("default", OLD)
    service.kill()
    with pytest.raises(StoreError, match="could not be opened") as caught:
        USES[use](store)
    assert not list(shown(caught.value, CANARY))
    service.start()
    assert store.load("default") == OLD
    entering(store)


def test_a_daemon_that_is_killed_in_the_middle_of_a_save(
    service: SecretService, store: KeyringStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I7: killed before, or after, it has written: the old token or the new one is there."""
    real: Callable[..., None] = Keyring.set_password
    after = False

    def killed(self: Keyring, service_name: str, name: str, value: str) -> None:
        if after:
            real(self, service_name, name, value)
        service.kill()
        if not after:
            real(self, service_name, name, value)

    for there in (OLD, Token(CANARY)):
        after = there != OLD
        store.save("default", OLD)
        with monkeypatch.context() as patch:
            patch.setattr(Keyring, "set_password", killed)
            with pytest.raises(StoreError, match="could not be read afterwards") as caught:
                store.save("default", Token(CANARY), replacing=OLD)
        assert not list(shown(caught.value, CANARY))
        service.start()
        assert store.load("default") == there


def test_no_bus(store: KeyringStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a session, as in a cron job, it is a StoreError."""
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
    with pytest.raises(StoreError, match="SecretServiceNotAvailableException"):
        store.load("default")
