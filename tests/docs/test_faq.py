"""docs/faq.md: each answer's code runs, one after the other, and shows what it says."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from requests_refresh import TokenSource
from requests_refresh.testing import AuthServer, Fault

from .pages import DOCS, blocks, run

(
    BEGIN,
    SENT_AGAIN,
    EXPIRES_IN,
    THREADS,
    STORES,
    SHARED,
    OUTAGE,
    TOLD,
    LOGS,
    UPLOAD,
    LOOP,
    WAITING,
    CANCELLED,
    REDIRECT,
    LOCK,
    FORBIDDEN,
) = blocks("faq.md")


@pytest.fixture
def names(server: AuthServer, home: Path) -> Iterator[dict[str, Any]]:
    """What the first block leaves behind, logged in, with an access token that died."""
    found = run(BEGIN, server)
    reply = server.login()
    found |= {"ACCESS_TOKEN": reply["access_token"], "REFRESH_TOKEN": reply["refresh_token"]}
    found["tokens"].login(reply)
    server.revoke_access()
    yield found
    found["tokens"].close()
    found["session"].close()


@pytest.mark.parametrize(
    ("block", "printed"),
    [
        (SENT_AGAIN, "200 1\n"),
        (EXPIRES_IN, "200\n"),
        (THREADS, "{200}\n"),
        (UPLOAD, "8\n"),
        (LOOP, "401 1\n"),
        (FORBIDDEN, "200\n"),
    ],
    ids=["sent again", "expires_in", "threads", "upload", "loop", "forbidden"],
)
def test_an_answer(
    server: AuthServer,
    names: dict[str, Any],
    block: str,
    printed: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """I1, I11, I12: with a dead token at its start, each costs one refresh."""
    run(block, server, names)
    assert capsys.readouterr().out == printed
    assert server.counts.refreshes == 1


def test_stores(
    server: AuthServer, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL tells which, and the lease of one on a server is said there."""
    monkeypatch.setenv("TOKEN_STORE", f"file://{tmp_path}/private/tokens.json")
    run(STORES, server, names)
    assert isinstance(names["shared"], TokenSource)
    run(LOCK, server, names)
    with names["store"].exclusive("sync", 5.0):
        pass
    names["store"].close()


def test_two_processes(server: AuthServer, names: dict[str, Any]) -> None:
    """I1: the second takes over what the first has stored."""
    run(SHARED, server, names)
    stale = names["web"].token()
    names["web"].renew(stale)
    assert names["worker"].renew(stale).same_issue(names["web"].token())
    assert (server.counts.refreshes, server.counts.reuses) == (1, 0)


def test_an_outage(
    server: AuthServer, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """I8: it is told when to try again, and the login is as it was."""
    server.faults("token", Fault(status=502, headers={"Retry-After": "60"}), times=None)
    run(OUTAGE, server, names)
    assert re.fullmatch(r"try again in \d+\.\d+ s\n", capsys.readouterr().out)
    assert server.logged_in()


def test_told_of_a_new_token(
    server: AuthServer, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The callback is called once, after the token is stored."""
    run(TOLD, server, names)
    names["tokens"].close()
    assert re.fullmatch(r"default has a new token until \d+\.\d+\n", capsys.readouterr().out)


def test_logs(
    server: AuthServer, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """I9: at DEBUG nothing that is logged or printed is a token."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        run(LOGS, server, names)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    names["tokens"].close()
    output = capsys.readouterr()
    assert "token refreshed" in output.err
    token = names["tokens"].token()
    for secret in (token.access_token, token.refresh_token, names["REFRESH_TOKEN"]):
        assert secret not in output.err + output.out


def test_waiting(
    server: AuthServer, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """I3: who waits for a refresh that was refused is told so."""
    server.revoke_login()
    names["tokens"].logout()
    run(WAITING, server, names)
    assert capsys.readouterr().out == "LoginRequired\n"


def test_cancelled(server: AuthServer, names: dict[str, Any]) -> None:
    """I7: the refresh goes on without its caller, and the block asserts that its token is there."""
    server.latency = {"token": 0.2}
    run(CANCELLED, server, names)
    assert (server.counts.refreshes, server.counts.reuses) == (1, 0)


def test_a_redirect(server: AuthServer, names: dict[str, Any]) -> None:
    """I9: the other host gets the request, and no token."""
    with AuthServer() as files:
        run(REDIRECT.replace("https://files.example.com/", files.url), server, names)
        assert names["reply"].url == files.url + "report"
        (seen,) = files.log
        assert "Authorization" not in seen.headers


def test_every_question_names_where_it_was_asked() -> None:
    """Each has an answer, code, and a link to the thread."""
    answers = (DOCS / "faq.md").read_text("utf-8").split("\n## ")[1:]
    assert len(answers) == 15
    for answer in answers:
        assert answer.partition("\n")[0].endswith("?")
        assert "```python\n" in answer
        assert re.search(r"https://github.com/[\w.-]+/[\w.-]+/issues/\d+", answer)
