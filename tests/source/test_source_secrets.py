"""I9: no error, traceback, log, repr or pickle of a source shows a token."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from requests_refresh import (
    FileStore,
    InvalidReply,
    LoginRequired,
    MemoryStore,
    RefreshError,
    StoreError,
    Token,
    TokenSource,
)
from requests_refresh.testing import AuthServer, Fault

from ..adapter.support import crowd
from .conftest import Fickle, Make, login

CANARY = "canary-4f0d"
STORED = Token(f"{CANARY}-a", refresh_token=f"{CANARY}-r", extra={"id_token": f"{CANARY}-i"})


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all that can be reached from it, each once."""
    todo: list[Any] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            todo += [one.__cause__, one.__context__, *one.args, *vars(one).values()]


def shown(error: BaseException) -> str:
    """All that a log of `error` with its locals could show."""
    texts = []
    for one in chain(error):
        texts += [str(one), repr(one), repr(one.args), repr(vars(one))]
        trace = traceback.TracebackException.from_exception(one, capture_locals=True)
        texts += trace.format()
        texts += [str(vars(v)) for v in vars(one).values() if hasattr(v, "__dict__")]
    return "".join(texts)


def lock_up(text: str) -> Exception:
    """A requests error that holds the form with the refresh token, and the reply."""
    request = requests.Request("POST", "http://x.example/", data={"t": text}).prepare()
    response = requests.Response()
    response.status_code, response._content = 400, text.encode()
    response.request = request
    return requests.HTTPError("400", request=request, response=response)


def refuses(old: Token | None) -> Any:
    form = {"refresh_token": old.refresh_token if old else CANARY}
    raise LoginRequired("over", error="invalid_grant") from lock_up(form["refresh_token"] or "")


def breaks(old: Token | None) -> Any:
    secret = (old.refresh_token if old else None) or CANARY
    return int("no number") if secret else None


def cannot_connect(old: Token | None) -> Any:
    form = {"refresh_token": old and old.refresh_token}
    raise requests.ConnectionError(
        request=requests.Request("POST", "http://x/", data=form).prepare()
    )


def refused_by_status(old: Token | None) -> Any:
    secret = CANARY + "-reply"
    raise lock_up(secret)


def leaves(old: Token | None) -> Any:
    secret = CANARY + "-local"
    raise SystemExit(len(secret))


GRANTS: dict[str, Callable[[Token | None], Any]] = {
    "a refusal": refuses,
    "a bug": breaks,
    "no connection": cannot_connect,
    "a status": refused_by_status,
    "SystemExit": leaves,
    "a wrong reply": lambda old: {"error": "x", "refresh_token": CANARY},
    "a wrong token": lambda old: f"{CANARY}\r\n",
    "a list": lambda old: [CANARY],
    "no access token": lambda old: Token(refresh_token=CANARY),
}


@pytest.mark.parametrize("grant", GRANTS.values(), ids=GRANTS.keys())
@pytest.mark.parametrize("how", ["grant", "relogin"])
def test_errors_of_a_grant(
    grant: Callable[[Token | None], Any],
    how: str,
    make: Make,
    naps: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """I9: whatever a grant or relogin raises or returns, errors and the DEBUG log show no token."""
    caplog.set_level(logging.DEBUG)
    if how == "grant":
        source = make(grant, token=STORED)
    else:
        source = make(refuses, token=STORED, relogin=lambda: grant(None))
    stale = source.token()
    errors = crowd(lambda i: source.renew(stale), 3)
    errors += crowd(lambda i: source.renew(stale), 1)  # held back from
    make.settle()
    for error in (*errors, *make.logouts):
        assert isinstance(error, RefreshError)
        assert CANARY not in shown(error)
    assert CANARY not in caplog.text
    records = [repr(vars(record)) for record in caplog.records]
    assert CANARY not in "".join(records)
    assert len({id(error) for error in errors}) == len(errors)


@pytest.mark.parametrize("method", ["load", "save", "exclusive", "leave", "delete"])
def test_errors_of_a_store(method: str, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """I9: a store that fails with a token in its frames and its words shows it to nobody."""
    caplog.set_level(logging.DEBUG)
    store = Fickle()

    def fail() -> None:
        secret = f"{CANARY}-frame"
        raise KeyError(len(secret))

    source = make(refuses, store, token=STORED)
    if method in ("delete", "leave"):
        source.token()
    store.before[method] = fail
    errors = crowd(lambda i: source.renew(STORED), 2) if method != "exclusive" else []
    with pytest.raises(RefreshError) as caught:
        source.login(STORED) if method == "save" else source.renew(STORED)
    store.before.pop(method)
    assert isinstance(caught.value, StoreError) or method in ("leave", "delete")
    for error in (*errors, without_the_test(caught.value)):
        assert CANARY not in shown(error)
    assert CANARY not in caplog.text


def without_the_test(error: BaseException) -> BaseException:
    """The error without the frame of the test, which holds what it likes."""
    trace = error.__traceback__
    return error.with_traceback(None if trace is None else trace.tb_next)


BAD_TOKENS: dict[str, Any] = {
    "control": f"{CANARY}\n",
    "reply": {"access_token": f"{CANARY}\n", "refresh_token": CANARY},
    "no access token": {"refresh_token": CANARY},
    "bytes": CANARY.encode(),
    "list": [CANARY],
}


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
@pytest.mark.parametrize("how", ["token=", "login", "renew"])
def test_errors_for_what_is_no_token(how: str, bad: Any, make: Make) -> None:
    """I9: what is given for a token and is none is not shown by the error."""
    source = make(refuses)
    if how == "login":
        calls: list[Callable[[], Any]] = [lambda: source.login(bad)]
    elif how == "renew":
        calls = [lambda: source.renew(bad)]
    else:
        calls = [lambda: TokenSource(refuses, token=bad)]
    [error] = _errors(calls)
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    error.__traceback__ = trace
    assert CANARY not in shown(error)


def _errors(calls: list[Callable[[], Any]]) -> Iterator[BaseException]:
    for call in calls:
        try:
            call()
        except RefreshError as error:
            yield error


def test_a_bad_setting_beside_a_token() -> None:
    """I9: a ConfigurationError shows neither the token nor the password in a store's URL."""
    for options in ({"timeout": -1}, {"store": f"nosuch://user:{CANARY}@host/"}, {"ahead": "x"}):
        given: dict[str, Any] = {"token": f"{CANARY}-plain", **options}
        with pytest.raises(RefreshError) as caught:
            TokenSource(refuses, **given)
        del given
        error = without_the_test(caught.value)
        assert f"{CANARY}-plain" not in shown(error)
    assert CANARY not in shown(error)


def test_reprs_and_pickles(make: Make, tmp_path: Path) -> None:
    """I9: a source's repr and its pickle hold no token; a copy of it is the source."""
    store = FileStore(tmp_path / "tokens" / "t.json")
    source = TokenSource(plain, store, token=STORED, identity="me")
    source.token()
    parts: list[Any] = [source, source._gate, source._place, source._renewal, source.stats, store]
    assert CANARY not in "".join(repr(part) for part in parts)
    assert repr(source) == "<TokenSource 'me'>"
    assert copy.copy(source) is source
    assert copy.deepcopy([source])[0] is source
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        text = pickle.dumps(source, protocol)
        assert CANARY.encode() not in text
        assert pickle.loads(text) is source  # noqa: S301  # what was just dumped
    source.close()


def plain(old: Token | None) -> str:  # a name that pickle finds
    return "x"


FAULTS: dict[str, tuple[Fault, type[RefreshError]]] = {
    "invalid_grant": (Fault(status=400, body={"error": "invalid_grant"}), LoginRequired),
    "503": (Fault(status=503, body="down", headers={"Retry-After": "50"}), RefreshError),
    "reset": (Fault(reply="reset"), RefreshError),
    "cut": (Fault(status=200, body={"access_token": f"{CANARY}-cut"}, reply="cut"), RefreshError),
    "rubbish": (Fault(status=200, body={"refresh_token": CANARY}), InvalidReply),
}


@pytest.mark.parametrize(("fault", "kind"), FAULTS.values(), ids=FAULTS.keys())
def test_errors_of_a_provider(
    fault: Fault,
    kind: type[RefreshError],
    make: Make,
    naps: list[float],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """I9: whatever a provider answers, errors and the DEBUG log show nobody's tokens."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    caplog.set_level(logging.DEBUG)
    with AuthServer(client_id="app", client_secret=f"{CANARY}-secret") as server:
        server.faults("token", fault, times=None)
        source = make(server.grant(), MemoryStore(), token=STORED)
        stale = source.token()
        errors = crowd(lambda i: source.renew(stale), 3)
        make.settle()
    for error in errors:
        assert isinstance(error, kind)
        assert CANARY not in shown(error)
    assert CANARY not in caplog.text


def test_the_callers_own_trouble_is_left_alone(make: Make) -> None:
    """An error that the caller was handling when he asked keeps its frames, as the context."""
    source = make(refuses, token=login())
    stale = source.token()

    def ask() -> None:
        mine = "still here"
        try:
            raise KeyError(mine)
        except KeyError:
            source.renew(stale)

    with pytest.raises(LoginRequired) as caught:
        ask()
    links = list(chain(caught.value))
    [own] = [one for one in links if isinstance(one, KeyError)]
    assert own.__traceback__ is not None
    assert own.__traceback__.tb_frame.f_locals.get("mine") == "still here"
