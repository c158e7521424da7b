"""The pages of docs/ that are read from the top: their code runs, block after block."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from requests_refresh import FileStore, Token
from requests_refresh.testing import AuthServer, Fault

DOCS = Path(__file__).parent.parent.parent / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.DOTALL | re.M)


@pytest.fixture
def server() -> Iterator[AuthServer]:
    with AuthServer() as running:
        yield running


@pytest.fixture
def names(server: AuthServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a reader has at hand: a home of his own, a login, a store by its variable."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TOKEN_STORE", f"file://{tmp_path}/shared/tokens.json")
    reply = server.login()
    return {
        "SECRET": "unused",
        "ACCESS_TOKEN": reply["access_token"],
        "REFRESH_TOKEN": reply["refresh_token"],
    }


def run(server: AuthServer, names: dict[str, Any], page: str, *texts: str) -> dict[str, Any]:
    for text in texts:
        here = text.replace("https://api.example.com/", server.api)
        here = here.replace("https://auth.example.com/token", server.token_url)
        here = here.replace("https://files.example.com/", server.url)
        here = here.replace("sqlite:///~/", f"sqlite:///{Path.home()}/")
        exec(compile(here, page, "exec"), names)
    return names


def closed(names: dict[str, Any]) -> None:
    for value in list(names.values()):
        if type(value).__name__ in ("TokenSource", "Session", "SQLStore"):
            value.close()


def test_the_tutorial(
    server: AuthServer, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """I1, I8: each block prints what the page says that it prints."""
    *texts, real = blocks("tutorial.md")
    run(server, names, "tutorial.md", *texts)
    page = (DOCS / "tutorial.md").read_text("utf-8")
    said = re.findall(r"^```text\n(.*?)^```", page, re.DOTALL | re.M)
    assert capsys.readouterr().out == "".join(said)
    compile(real, "tutorial.md", "exec")
    closed(names)


def test_the_questions(
    server: AuthServer, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """I1, I9, I11: each answer's code runs after the first lines of the page."""
    first, *texts = blocks("faq.md")
    assert len(texts) >= 14
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        run(server, names, "faq.md", first)
        names["tokens"].login(server.login())
        run(server, names, "faq.md", *texts)
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    out = capsys.readouterr().out
    assert names["ACCESS_TOKEN"] not in out
    assert names["REFRESH_TOKEN"] not in out
    closed(names)


def test_the_first_page(server: AuthServer, names: dict[str, Any]) -> None:
    """I1: the ten lines outlive an expiry."""
    run(server, names, "index.md", *blocks("index.md"))
    names["tokens"].login(server.login())
    server.revoke_access()
    assert names["session"].get(names["API"] + "items").status_code == 200
    assert server.counts.refreshes == 1
    closed(names)


@pytest.mark.parametrize(("trouble", "status"), [("none", 0), ("login", 3), ("outage", 4)])
def test_the_cron_script(
    server: AuthServer, names: dict[str, Any], trouble: str, status: int
) -> None:
    """I8: its exit status tells a lost login from an outage."""
    (text,) = blocks("howto/cron.md")
    made = run(server, {**names, "__name__": "script"}, "cron.md", text)
    FileStore("~/.config/sync/tokens.json").save("default", Token.from_reply(server.login()))
    server.revoke_access()
    if trouble == "login":
        server.revoke_login()
    elif trouble == "outage":
        server.faults("token", Fault(status=503, headers={"Retry-After": "60"}))
    assert made["main"]() == status


@pytest.mark.parametrize(
    "page", sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")), ids=str
)
def test_every_block_is_python(page: str) -> None:
    """A block that is said to be Python can be read as such, by the oldest one too."""
    assert sys.version_info >= (3, 10)
    for text in blocks(page):
        compile(text, page, "exec")
