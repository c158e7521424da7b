"""The pages, their blocks of code, and how a block is run: as it stands, but for the addresses."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from requests_refresh.testing import AuthServer

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"
PAGES = [
    *(TOP / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
    *sorted(DOCS.rglob("*.md")),
    *sorted((TOP / "examples").rglob("*.md")),
]
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.DOTALL | re.M)


def in_order(page: Path) -> list[tuple[str, str]]:
    """Each block of a page: its language, and what it says."""
    found = BLOCK.findall(page.read_text("utf-8"))
    return [(language, textwrap.dedent(text)) for _, language, text in found]


def blocks(page: str, language: str = "python") -> list[str]:
    """The blocks of a page in docs/ that are of a language."""
    return [text for spoken, text in in_order(DOCS / page) if spoken == language]


def at(server: AuthServer, text: str) -> str:
    """The text, with the addresses of a server in place of those that are made up."""
    text = text.replace("https://api.example.com/", server.api)
    text = text.replace("https://www.googleapis.com/", server.api)
    return text.replace("https://auth.example.com/token", server.token_url)


def run(text: str, server: AuthServer, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a block leaves behind, and what was there before it."""
    names = {"SECRET": "hush"} if names is None else names
    exec(compile(at(server, text), "docs", "exec"), names)
    return names
