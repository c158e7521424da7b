"""What the pages on stores say is so: their code runs, their statements are the package's.

Blocks are run as they stand, but for the addresses in them.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.schema import CreateTable

import requests_refresh
from requests_refresh import (
    Encryption,
    RedisStore,
    SQLStore,
    StoreConflict,
    StoreError,
    Token,
    TokenSource,
    open_store,
)
from requests_refresh.stores import sql_dialects
from requests_refresh.testing import AuthServer

from .servers import MariaServer, PostgresServer, RedisServer
from .servers.fixtures import OwnPostgres, OwnRedis

TOP = Path(__file__).parent.parent
DOCS = TOP / "docs"
LOGIN = Token("a", refresh_token="r")


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(
        rf"^( *)```{language}\n(.*?)^\1```", (DOCS / page).read_text("utf-8"), re.DOTALL | re.M
    )
    return [textwrap.dedent(text) for _, text in found]


VARIABLE, SIGTERM, POOL, ENCRYPT, REWRITE, COPY = blocks("operators.md", "python")
CLIENT, ENGINE = blocks("servers.md", "python")
STORE, CONTRACT = blocks("stores.md", "python")
LOST_KEY, *TABLES = blocks("operators.md", "sql") + blocks("servers.md", "sql")
POSTGRES_TABLE, RIGHTS, MYSQL_TABLE, SQLITE_TABLE = TABLES


@pytest.fixture
def server() -> Iterator[AuthServer]:
    with AuthServer() as running:
        yield running


@pytest.fixture
def closed() -> Iterator[list[Any]]:
    """What is put in here is closed in the end."""
    things: list[Any] = []
    yield things
    for thing in things:
        thing.close()


def run(text: str, server: AuthServer | None = None, **names: Any) -> dict[str, Any]:
    if server is not None:
        text = text.replace("https://api.example.com/", server.api)
        text = text.replace("https://auth.example.com/token", server.token_url)
        names["SECRET"] = server.client_secret
    exec(compile(text, "docs", "exec"), names)
    return names


@pytest.fixture(params=["file", "sqlite", "redis", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that holds nothing."""
    if request.param == "redis":
        return str(request.getfixturevalue("own_redis")().url)
    if request.param == "postgresql":
        return str(request.getfixturevalue("own_postgres")().url)
    return f"{request.param}:///{str(tmp_path).lstrip('/')}/private/tokens".replace(
        "sqlite:///", "sqlite:////"
    )


def test_a_store_from_one_variable(
    server: AuthServer, url: str, monkeypatch: pytest.MonkeyPatch, closed: list[Any]
) -> None:
    """I1: two that read the same variable share one login, and one refresh for each expiry."""
    monkeypatch.setenv("TOKEN_STORE", url)
    one, two = run(VARIABLE, server), run(VARIABLE, server)
    closed += [one["session"], two["session"], one["store"], two["store"]]
    one["tokens"].login(server.login())
    for expiry in range(3):
        if expiry:
            server.revoke_access()
        for names in (one, two):
            assert names["session"].get(names["API"] + "items").status_code == 200
        assert server.counts.refreshes == expiry
    assert server.counts.reuses == 0


def test_a_login_that_is_given_again(server: AuthServer, tmp_path: Path) -> None:
    """`token=` is stored only if nothing is; `login` puts its token in place of what is there."""
    store = open_store(f"file://{tmp_path}/tokens.json")
    store.save("default", LOGIN)
    TokenSource(server.grant(), store, token=Token("b")).token()
    assert store.load("default") == LOGIN
    TokenSource(server.grant(), store).login(Token("b"))
    assert store.load("default") == Token("b")


def test_sigterm() -> None:
    """With the handler of the page a SIGTERM is an ordinary exit."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        run(SIGTERM)
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_pool(
    server: AuthServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: list[Any]
) -> None:
    """Many users, each with his own login, over one adapter."""
    monkeypatch.setenv("TOKEN_STORE", f"file://{tmp_path}/tokens.json")
    names = run(POOL, server, os=os)
    closed += [names["transport"], names["store"]]
    for user in ("ann", "ben"):
        names["store"].save(user, Token.from_reply(server.login(user)))
        assert names["orders"](user)
    server.revoke_access("ann")
    assert names["orders"]("ann")
    assert names["orders"]("ben")
    assert server.counts.refreshes == 1


def test_a_key_is_rotated(url: str, monkeypatch: pytest.MonkeyPatch, closed: list[Any]) -> None:
    """After the steps of the page all is readable with the new key alone."""
    (command,) = blocks("operators.md", "sh")
    command = command.replace("python", shlex.quote(sys.executable), 1)
    old, new = (subprocess.check_output(command, shell=True, text=True).strip() for _ in "12")  # noqa: S602 - the command of our own page

    def with_keys(*keys: str) -> Any:
        monkeypatch.setenv("TOKEN_STORE", url)
        monkeypatch.setenv("REQUESTS_REFRESH_KEYS", ",".join(keys))
        closed.append(run(ENCRYPT, os=os)["store"])
        return closed[-1]

    with_keys(old).save("sync", LOGIN)
    assert with_keys(old, new).load("sync") == LOGIN
    store = with_keys(new, old)
    run(REWRITE, store=store)
    assert with_keys(new).load("sync") == LOGIN
    with pytest.raises(StoreError):
        with_keys(old).load("sync")


def test_a_lost_key(url: str, closed: list[Any]) -> None:
    """What nobody can read is removed as the page says; until then nothing goes over it."""
    one, two = (open_store(url, encryption=Encryption(Encryption.new_key())) for _ in "12")
    closed += [one, two]
    one.save("sync", LOGIN)
    with pytest.raises(StoreError):
        two.save("sync", LOGIN)
    with pytest.raises(StoreError):
        two.delete("sync")
    if url.startswith("redis"):
        found = re.search(r"redis-cli DEL '(.*?)'", (DOCS / "operators.md").read_text("utf-8"))
        assert found is not None
        with redis.Redis.from_url(url) as client:
            assert client.delete(found[1]) == 1
    elif url.startswith("file"):
        Path(url.removeprefix("file://")).rename(url.removeprefix("file://") + ".old")
    else:
        engine = sqlalchemy.create_engine(url)
        with engine.begin() as at:
            assert at.exec_driver_sql(LOST_KEY).rowcount == 1
        engine.dispose()
    two.save("sync", LOGIN)
    assert two.load("sync") == LOGIN


def test_a_move(
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All is in the new store and nothing in the old; another token there is left alone."""
    monkeypatch.setenv("TOKEN_STORE", url)
    monkeypatch.setenv("OLD_STORE", f"file://{tmp_path}/old.json")
    with closing(open_store(os.environ["OLD_STORE"])) as old, closing(open_store(url)) as new:
        old.save("ann", LOGIN)
        old.save("ben", Token("b"))
        run(COPY)
        assert capsys.readouterr().out == "2 moved\n"
        assert [new.load("ann"), new.load("ben")] == [LOGIN, Token("b")]
        assert [old.load("ann"), old.load("ben")] == [None, None]
        old.save("ann", Token("c"))
        with pytest.raises(StoreConflict):
            run(COPY)
        assert [old.load("ann"), new.load("ann")] == [Token("c"), LOGIN]


def squeezed(sql: str) -> str:
    return " ".join(re.sub("^--.*", "", sql, flags=re.M).split())


@pytest.mark.parametrize(
    ("dialect", "text"),
    [(postgresql, POSTGRES_TABLE), (mysql, MYSQL_TABLE), (sqlite, SQLITE_TABLE)],
    ids=["postgresql", "mysql", "sqlite"],
)
def test_the_tables(dialect: Any, text: str) -> None:
    """The statements of the page are what the store itself would do."""
    table = sql_dialects.table_of("requests_refresh_tokens")
    made = CreateTable(table).compile(dialect=dialect.dialect())
    assert squeezed(text) == squeezed(str(made))


def use(store: Any) -> None:
    """Do all that a source does."""
    with store.exclusive("sync", 5.0) as held:
        store.save("sync", LOGIN, replacing=None)
        assert held.assure(1.0)
    assert store.load("sync") == LOGIN
    assert list(store.identities()) == ["sync"]
    store.wait("sync", 0.1)
    store.delete("sync")


def test_a_table_that_is_made_before(own_postgres: OwnPostgres) -> None:
    """A user with the four rights on that table, and no others, is enough; an Engine too."""
    url = own_postgres().url
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as at:
        for text in (POSTGRES_TABLE, "CREATE ROLE sync LOGIN", RIGHTS):
            at.exec_driver_sql(text)
    engine.dispose()
    mine = url.replace("tester@", "sync@")
    for create in (True, False):
        with closing(SQLStore(mine, create=create)) as store:
            use(store)
    names = run(ENGINE.replace("postgresql+psycopg://sync@db.internal/sync", mine))
    use(names["store"])
    names["store"].close()
    names["engine"].dispose()


def test_a_table_that_is_made_before_in_mariadb(maria_server: MariaServer) -> None:
    """The statement for MySQL makes a table that the store takes."""
    engine = sqlalchemy.create_engine(maria_server.url)
    with engine.begin() as at:
        at.exec_driver_sql(MYSQL_TABLE)
    try:
        with closing(SQLStore(maria_server.url, create=False)) as store:
            use(store)
    finally:
        with engine.begin() as at:
            at.exec_driver_sql("DROP TABLE requests_refresh_tokens")
        engine.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_notices_of_postgresql(driver: str, postgres_server: PostgresServer) -> None:
    """Who waits is told by the server: the store listens, and does not look all the time."""
    url = postgres_server.url.replace("psycopg", driver)
    with closing(SQLStore(url, table=f"t{uuid.uuid4().hex}")) as store:
        store.load("sync")
        store.wait("sync", 0.1)
        assert store._notices.up


def test_hosts_in_the_url(postgres_server: PostgresServer) -> None:
    """Of the hosts in a URL the one that takes writes is found."""
    found = re.search(r"`(postgresql\S*read-write)`", (DOCS / "servers.md").read_text("utf-8"))
    assert found is not None
    url = found[1].replace("user@/name", "tester@/postgres").replace("db1:5432", "127.0.0.1:1")
    url = url.replace("db2:5432", f"127.0.0.1:{postgres_server.port}")
    with closing(SQLStore(url, table=f"t{uuid.uuid4().hex}")) as store:
        use(store)


def test_settings_and_rights_of_redis(own_redis: OwnRedis) -> None:
    """A Redis that is set as on the page serves a user with the rights of the page."""
    settings, rights = blocks("servers.md", "text")
    options = [f"{'--' * (n % 2 == 0)}{word}" for n, word in enumerate(settings.split())]
    running = own_redis(*options)
    with redis.Redis.from_url(running.url) as client:
        assert client.execute_command(*rights.split())
    with closing(RedisStore(running.url.replace("//", "//sync:password@"))) as store:
        use(store)
        assert store._notices.up


def test_a_client_of_ones_own(redis_server: RedisServer) -> None:
    """A store on a client does what one on a URL does, and leaves it open."""
    text = CLIENT.replace("redis://cache.internal/0", redis_server.url)
    names = run(text.replace('"sync"', repr(uuid.uuid4().hex)))
    use(names["store"])
    names["store"].close()
    assert names["client"].ping()
    names["client"].close()


def test_a_store_of_ones_own(tmp_path: Path) -> None:
    """The store of the page passes the contract, written down as on the page."""
    (tmp_path / "test_mine.py").write_text(STORE + CONTRACT)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert re.search(r"\d\d passed", done.stdout), done.stdout + done.stderr
    assert done.returncode == 0


def test_a_scheme_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered as on the page is found by `open_store`."""
    (entry,) = blocks("stores.md", "toml")
    group, line = re.fullmatch(r'\[project.entry-points."(.*)"\]\n(.*)\n', entry).groups()  # type: ignore[union-attr] # else the test fails
    info = tmp_path / "acme_tokens-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: acme-tokens\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")
    (tmp_path / "acme_tokens.py").write_text(
        STORE + "\n\ndef open_url(url, **settings):\n    return TableStore()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert type(open_store("acme://host/path")).__name__ == "TableStore"


def test_the_lines_of_the_log() -> None:
    """Each line that the page tells of is one that the package logs, at that level."""
    package = Path(requests_refresh.__file__).parent
    code = "".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    code = re.sub(r'"\s*\n\s*"', "", code)
    table = (DOCS / "operators.md").read_text("utf-8").partition("What is in the log")[2]
    rows = re.findall(r"^\| (INFO|DEBUG|WARNING|ERROR) \| (.*?) \|", table, re.M)
    assert len(rows) == 10
    for level, cell in rows:
        for line in re.findall("`(.*?)…?`", cell):
            start = re.escape(line.rstrip("… ").rstrip(":"))
            assert re.search(rf'log\.{level.lower()}\(\s*"(%s: )?{start}', code) or (
                re.search(rf'LOST: Final = \(\s*"%s: {start}', code)
            ), line


def test_the_defaults() -> None:
    """The seconds that the page names are those of the package."""
    page = (DOCS / "operators.md").read_text("utf-8")
    for store in (RedisStore, SQLStore):
        lease = inspect.signature(store).parameters["lease"].default
        assert f"{lease:.0f} by default" in page
    timeout = inspect.signature(TokenSource).parameters["timeout"].default
    assert f"({timeout:.0f} s by default)" in page
