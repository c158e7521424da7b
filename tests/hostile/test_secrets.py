"""Places where a secret still shows: logs, errors, frames of tracebacks, reprs and pickles."""

from __future__ import annotations

import logging
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from requests_refresh import (
    FileStore,
    RedisStore,
    SQLStore,
    StoreError,
    Token,
    TokenPool,
    TokenSource,
)
from requests_refresh.errors import chain_of
from requests_refresh.stores import MemoryStore, TokenStore, copy, open_store
from tests.servers import PostgresServer

CANARY = "canary"
TOKEN = Token(f"{CANARY}-access", refresh_token=f"{CANARY}-refresh")


def grant(token: Token | None) -> str:
    return "new"


def shown(work: Callable[[], object]) -> list[str]:
    """Where the error that `work` raises shows the canary."""
    try:
        work()
    except BaseException as error:
        return [*_places(error)]
    pytest.fail("It raised nothing.")


def _places(error: BaseException) -> Iterator[str]:
    for exc in chain_of(error):
        if CANARY in f"{exc} {exc!r} {exc.args!r}":
            yield f"words of {type(exc).__name__}"
        at = exc.__traceback__
        while at is not None:
            frame = at.tb_frame
            if frame.f_code.co_filename != __file__:
                for name, value in frame.f_locals.copy().items():
                    if CANARY in repr(value):
                        yield f"{name} in {frame.f_code.co_name}"
            at = at.tb_next


def test_sentinels_that_are_down_show_no_client() -> None:
    """I9: no repr of a client, with a password in it before redis-py 8, is in an error."""
    url = f"redis+sentinel://127.0.0.1:1/service?sentinel_password={CANARY}"
    with closing(RedisStore(url)) as store, pytest.raises(StoreError) as caught:
        store.load("x")
    assert "redis.client" not in str(caught.value)
    assert CANARY not in str(caught.value)


def test_rows_are_not_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """I9: no token is in SQLAlchemy's log at DEBUG, for an engine of ours."""
    with (
        caplog.at_level(logging.DEBUG, "sqlalchemy.engine"),
        closing(SQLStore(f"sqlite:///{tmp_path}/private/tokens.db")) as store,
    ):
        store.save("x", TOKEN)
        store.load("x")
    assert caplog.records
    assert CANARY not in caplog.text


def test_a_commit_that_fails_quotes_no_value(postgres_server: PostgresServer) -> None:
    """I9: what a trigger says at the commit of an Engine's own transaction is not told."""
    table = "found_leaks_commit"
    engine = sqlalchemy.create_engine(postgres_server.url, hide_parameters=True)
    with closing(SQLStore(postgres_server.url, table=table)) as store:
        assert store.load("x") is None  # which makes the table
    function = (
        f"CREATE FUNCTION {table}() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'not %%', NEW.value; END $$"
    )
    trigger = (
        f"CREATE CONSTRAINT TRIGGER late AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED"
        f" FOR EACH ROW EXECUTE FUNCTION {table}()"
    )
    with engine.begin() as at:
        at.exec_driver_sql(function)
        at.exec_driver_sql(trigger)

    @sqlalchemy.event.listens_for(engine, "do_execute")
    def begin(cursor: Any, *_: object) -> None:
        if cursor.connection.autocommit:
            cursor.connection.autocommit = False

    try:
        assert not shown(lambda: SQLStore(engine, table=table).save("x", TOKEN))
    finally:
        engine.dispose()


@pytest.mark.parametrize("made", [CANARY, {"access_token": CANARY}], ids=["text", "reply"])
def test_a_pool_quotes_no_token(made: Any) -> None:
    """I9: a `make` that returns a token in place of a source is told so without the token."""
    assert not shown(lambda: TokenPool(lambda identity: made, maxsize=1)["x"])


@pytest.mark.parametrize(
    "url", ["file:///nowhere/t.json", "redis://h", "sqlite:////t.db", "memory:"]
)
def test_a_key_in_place_of_an_encryption(url: str) -> None:
    """I9: open_store(url, encryption=KEY) shows the key in no frame."""
    assert not shown(lambda: open_store(url, encryption=CANARY))


@pytest.mark.parametrize("turned", [False, True])
def test_a_url_in_place_of_a_store(turned: bool) -> None:
    """I9: copy(url, store) shows no password in a frame, and is told by a ConfigurationError."""
    places: list[Any] = [f"redis://:{CANARY}@h", MemoryStore()]
    places[1].save("x", TOKEN)
    source, target = reversed(places) if turned else places
    assert not shown(lambda: copy(source, target))


def make(kind: str, directory: Path) -> TokenStore:
    if kind == "file":
        return FileStore(directory / "private" / "tokens.json")
    if kind == "sqlite":
        return SQLStore(f"sqlite:///{directory}/private/tokens.db")
    return MemoryStore()


@pytest.mark.parametrize("kind", ["file", "sqlite", "memory"])
def test_a_text_in_place_of_a_token(kind: str, tmp_path: Path) -> None:
    """I9: save(identity, "access token") and a text in `replacing` show in no frame."""
    with closing(make(kind, tmp_path)) as store:
        store.save("x", TOKEN)
        text: Any = CANARY
        assert not shown(lambda: store.save("x", text))
        assert not shown(lambda: store.save("x", TOKEN, replacing=text))
        assert not shown(lambda: store.delete("x", replacing=text))


class _Signal(KeyboardInterrupt):
    pass


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_ctrl_c_in_a_save(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I9: Ctrl-C in a login, or in a save, shows no token in a frame, nor another user's."""

    def interrupt(number: int, frame: object) -> None:
        raise _Signal

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with closing(make(kind, tmp_path)) as store:
            store.save("x", TOKEN)
            if kind == "file":
                monkeypatch.setattr("os.fsync", lambda fd: signal.raise_signal(signal.SIGUSR1))
            else:
                assert isinstance(store, SQLStore)
                sqlalchemy.event.listen(
                    store._connected(),
                    "before_cursor_execute",
                    lambda *_: signal.raise_signal(signal.SIGUSR1),
                )
            source = TokenSource(grant, store, identity="y")
            assert not shown(lambda: source.login(TOKEN))
            assert not shown(lambda: store.save("x", TOKEN))
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_url_without_slashes_is_refused() -> None:
    """I9: redis:user:password@host, a slip, is refused, and so in no repr or pickle."""
    assert not shown(lambda: RedisStore(f"redis:user:{CANARY}@h/0"))


def test_a_url_with_a_slash_too_many() -> None:
    """I9: postgresql+psycopg:///user:password@host, a slip, shows no password in a repr."""
    store = SQLStore(f"postgresql+psycopg:///user:{CANARY}@h/name")
    assert CANARY not in repr(store)
    assert CANARY.encode() not in pickle.dumps(store)


@pytest.mark.parametrize("name", ["passw%6frd", "pass"])
def test_an_encoded_password_is_not_pickled(name: str) -> None:
    """I9: a password in a query stays behind, however its name is written."""
    store = SQLStore(f"mysql+pymysql://user@h/name?{name}={CANARY}")
    assert CANARY.encode() not in pickle.dumps(store)


def test_a_cut_password_in_a_sentinels_url() -> None:
    """I9: a password with a / in it, which cuts the URL, is in no frame."""
    assert not shown(lambda: RedisStore(f"redis+sentinel://user:12/{CANARY}@h:26379/service"))


def test_a_pool_that_was_refused_has_a_repr() -> None:
    """A traceback that shows locals finds a repr of a pool that was not made."""
    assert not shown(lambda: TokenPool(grant, maxsize=0))  # type: ignore[arg-type] # it is not used
