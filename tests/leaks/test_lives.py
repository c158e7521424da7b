"""I9 as one hunt: every secret, every channel, every moment of a client's life.

What the hunt finds is compared with the list in SECURITY.md, both ways.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import sqlalchemy

from requests_refresh import RedisStore, RefreshTokenGrant, SQLStore
from tests.servers.fixtures import OwnRedis
from tests.servers.postgres import PostgresServer

from .clients import CLIENTS, MORE, Client, Make
from .hunt import Hunt
from .lives import Life, hunted, lived
from .provider import Provider
from .secrets import Secrets
from .walk import Places

SECURITY = Path(__file__).parents[2] / "SECURITY.md"
_ROW = re.compile(r"^\| `([^`|]+)` \| ([^|]+) \|", re.MULTILINE)
ERRORS = {
    *("LoginRequired", "RefreshRefused", "RefreshUnavailable", "RefreshTimeout", "InvalidReply"),
    *("RefreshLoop", "StoreError", "ConnectionError"),
}


def listed() -> Places:
    """The places in the table of SECURITY.md, and the kinds of secrets that live there."""
    found = _ROW.findall(SECURITY.read_text("utf-8"))
    return {place: set(kinds.strip().split(", ")) for place, kinds in found}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lives")


def assert_listed(hunt: Hunt) -> None:
    known = listed()
    for place, kinds in hunt.places.items():
        assert kinds <= known.get(place, set()), f"{place} has {sorted(kinds)} and is not listed"


@pytest.mark.parametrize("name", CLIENTS)
def test_a_life(name: str, folder: Path) -> None:
    """I9: a client of each kind shows no secret at any moment, and keeps them where it says."""
    hunt = lived(name, folder)
    assert_listed(hunt)
    assert {error.__name__ for error in hunt.raised} >= ERRORS
    assert hunt.loggers >= {"requests_refresh", "urllib3"}
    assert hunt.files <= {"tokens.json", "tokens.db"}  # no lock, and nothing that is sealed


@pytest.mark.long
@pytest.mark.parametrize("name", MORE)
def test_another_life(name: str, folder: Path) -> None:
    """I9: the same for the other ways to prove who the client is, and to log in."""
    assert_listed(lived(name, folder))


def away(url: str) -> Make:
    """A client with a store that is not there, by a URL with this password in it."""

    def make(provider: Provider, folder: Path) -> Client:
        full = url.format(provider.secrets.canary("store password", "-_~"))
        store = RedisStore(full) if full.startswith("redis") else SQLStore(full)
        return Client(RefreshTokenGrant(provider.server.url, client_id="sync"), store)

    return make


AWAY = {
    "redis": away("redis://:{}@127.0.0.1:1/0"),
    "postgres": away("postgresql+psycopg://user:{}@127.0.0.1:1/name"),
}


def _without_store(life: Life) -> None:
    life.step("made")
    for moment in ("first use", "again"):
        life.step(moment, life.get, life.source.token, life.source.logout)
    assert any(error.__name__ == "StoreError" for error in life.hunt.raised)


@pytest.fixture(scope="module")
def without_stores(folder: Path) -> list[Hunt]:
    """The hunts in lives without their store."""
    return [hunted(make, folder / f"away {name}", _without_store) for name, make in AWAY.items()]


def test_a_store_that_is_away(without_stores: list[Hunt]) -> None:
    """I9: where the server of a store is away, neither its password nor a token comes out."""
    for hunt in without_stores:
        assert_listed(hunt)


def test_the_list_is_what_was_found(folder: Path, without_stores: list[Hunt]) -> None:
    """I9: in each place that SECURITY.md lists something lives, and there is no other."""
    found: Places = {}
    for hunt in (*without_stores, *(lived(name, folder) for name in CLIENTS)):
        for place, kinds in hunt.places.items():
            found.setdefault(place, set()).update(kinds)
    assert found == listed()


@pytest.mark.long
def test_a_life_with_redis(own_redis: OwnRedis, folder: Path) -> None:
    """I9: a whole life with a real Redis whose URL has a password."""

    password = Secrets().canary("store password", "-_~")
    server = own_redis(password=password)

    def make(provider: Provider, folder: Path) -> Client:
        provider.secrets.add("store password", password)
        grant = RefreshTokenGrant(provider.server.url, client_id="sync")
        return Client(grant, RedisStore(server.url))

    assert_listed(hunted(make, folder / "redis"))


@pytest.mark.long
def test_a_life_with_postgres(postgres_server: PostgresServer, folder: Path) -> None:
    """I9: a whole life with a real PostgreSQL whose URL has a password."""

    def make(provider: Provider, folder: Path) -> Client:
        password = provider.secrets.canary("store password", "-_~")
        url = sqlalchemy.make_url(postgres_server.url).set(password=password)
        store = SQLStore(url.render_as_string(hide_password=False), table="leaks_life")
        return Client(RefreshTokenGrant(provider.server.url, client_id="sync"), store)

    assert_listed(hunted(make, folder / "postgres"))


def test_every_disguise_is_known() -> None:
    """What is looked for is found as it is, backwards, quoted, in hex, in base64, and in part."""
    secrets = Secrets()
    secret = secrets.canary("it", '+/%="\\ä')
    padded = [base64.b64encode(b"u:" * n + secret.encode()).decode() for n in range(3)]
    padded += [base64.b64encode(b"x" * n + secret.encode() + b"y").decode() for n in range(3)]
    shapes = [secret, secret[::-1], quote(secret), quote_plus(secret), json.dumps(secret)]
    shapes += [secret.encode().hex(), repr(secret), repr(secret.encode()), secret[5:17], *padded]
    for shape in shapes:
        assert secrets.kinds_in(f"a text with {shape} in it") == {"it"}
    assert secrets.kinds_in(secret.encode()) == {"it"}
    assert not secrets.kinds_in(secret[:11])
    assert not Secrets().kinds_in(secret)
