"""All pages: every block of code is run by some test, every command and every link is right."""

from __future__ import annotations

import ast
import configparser
import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import DOCS, PAGES, TOP, in_order

# Which module of tests runs the blocks of a page.
RUN_BY = {
    "README.md": "test_readme.py",
    "docs/faq.md": "docs/test_faq.py",
    "docs/grants.md": "test_grant_tables.py",
    "docs/howto/celery.md": "docs/test_servers_guides.py",
    "docs/howto/cron.md": "docs/test_howto.py",
    "docs/howto/django.md": "docs/test_servers_guides.py",
    "docs/howto/from-authlib.md": "docs/test_moving.py",
    "docs/howto/from-google-auth.md": "docs/test_moving.py",
    "docs/howto/from-interceptors.md": "docs/test_moving.py",
    "docs/howto/from-requests-oauthlib.md": "docs/test_moving.py",
    "docs/howto/sdk.md": "docs/test_howto.py",
    "docs/howto/tenants.md": "docs/test_howto.py",
    "docs/howto/testing.md": "docs/test_howto.py",
    "docs/index.md": "docs/test_tutorial.py",
    "docs/logins.md": "logins/test_docs.py",
    "docs/neighbours.md": "neighbours/test_page.py",
    "docs/operators.md": "test_docs.py",
    "docs/providers.md": "presets/test_docs.py",
    "docs/servers.md": "test_docs.py",
    "docs/stores.md": "test_docs.py",
    "docs/tutorial.md": "docs/test_tutorial.py",
}
EXAMPLES = TOP / "examples"  # linked to, and not in every copy of the tree
COMMANDS = ("sh", "console")
LINK = re.compile(r"\]\(<?([^)>\s]+)>?\)")
CODE = re.compile(r"^( *)```.*?^\1```", re.DOTALL | re.M)


def label(page: Path) -> str:
    return page.relative_to(TOP).as_posix()


def taken_apart(module: Path, page: str) -> list[list[str]]:
    """The names that blocks of Python of a page are given at the top of a module, each time."""
    found = []
    for node in ast.parse(module.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Tuple, ast.List)):
            value = ast.unparse(node.value)
            named = re.findall(r"'([\w/.-]+\.md)'", value)
            spoken = re.findall(r"blocks\('[^']*', '(\w+)'\)", value)
            ours = named == [page.removeprefix("docs/")] or (
                not named and re.search("(?i)block|```python", value)
            )
            if ours and spoken in ([], ["python"]) and "sql" not in value:
                found.append([ast.unparse(target) for target in node.targets[0].elts])
    return found


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_block_of_python_is_run(page: Path) -> None:
    """Each has a name in the page's module of tests, and something there uses that name."""
    written = [text for language, text in in_order(page) if language == "python"]
    assert bool(written) == (label(page) in RUN_BY), "say in RUN_BY which tests run it"
    if written:
        module = TOP / "tests" / RUN_BY[label(page)]
        (names,) = taken_apart(module, label(page))
        assert len(names) == len(written)
        tree = ast.parse(module.read_text("utf-8"))
        used = {
            node.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        assert set(names) <= used


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_python_is_called_python(page: Path) -> None:
    """No block of code hides from the tests behind another name, or none."""
    fences = re.findall(r"^ *```(.*)$", page.read_text("utf-8"), re.M)[::2]
    known = {"python", "sh", "console", "text", "sql", "toml", "{toctree}", "{eval-rst}", ""}
    assert set(fences) <= known
    for text in re.findall(r"^```\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.M):
        assert "import " not in text


def anchors(page: Path) -> set[str]:
    """What titles are called in a link, where repositories are hosted and in the site."""
    text = CODE.sub("", page.read_text("utf-8"))
    titles = [
        re.sub(r"[`*]|\]\([^)]*\)", "", title) for title in re.findall("^#+ (.*)$", text, re.M)
    ]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links(page: Path) -> None:
    """A link to another page, or to a part of one, leads somewhere."""
    for target in LINK.findall(CODE.sub("", page.read_text("utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        name, _, part = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if there.is_relative_to(EXAMPLES) and not EXAMPLES.is_dir():
            continue
        assert there.exists(), target
        assert not part or part in anchors(there), target


def test_links_to_other_sites() -> None:
    """Each is https, names a host that is real, and calls one repository by one name."""
    spelled: dict[str, str] = {}
    for page in PAGES:
        for target in LINK.findall(CODE.sub("", page.read_text("utf-8"))):
            if not target.startswith("http"):
                continue
            found = re.fullmatch(r"https://([\w-]+(?:\.[\w-]+)+)(/[^\s<>]*)?", target)
            assert found, target
            assert not found[1].endswith(("example.com", "example.org")), target
            repository = re.match(r"https://github\.com/([\w.-]+/[\w.-]+)", target)
            if repository:
                name = repository[1]
                assert spelled.setdefault(name.partition("/")[2].lower(), name) == name, target


def test_every_page_is_in_the_contents() -> None:
    """The site has no page that nobody comes to, and none but these."""
    listed = set()
    for page in DOCS.rglob("*.md"):
        text = page.read_text("utf-8")
        for contents in re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL):
            for line in contents.splitlines():
                name = re.sub(r".*<(.*)>", r"\1", line.strip())
                if name and not name.startswith(":"):
                    listed.add((page.parent / f"{name}.md").resolve())
    assert {page for page in listed if not page.exists()} == set()
    assert {page.resolve() for page in DOCS.rglob("*.md")} - listed == {DOCS / "index.md"}


def commands() -> list[str]:
    """What the pages say to type, one command in each."""
    found = []
    for page in PAGES:
        for language, text in in_order(page):
            if language in COMMANDS:
                lines = text.replace("\\\n", " ").splitlines()
                if language == "console":
                    lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
                found += [part for line in lines if line for part in line.split(" && ")]
    return sorted(set(found))


@functools.cache
def help_of(*words: str) -> str:
    command = [sys.executable, "-m", "requests_refresh", *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", commands())
def test_commands(command: str) -> None:
    """An extra that is installed, a module that is run and an option that is given are there."""
    config = configparser.ConfigParser()
    config.read(TOP / "setup.cfg", "utf-8")
    words = shlex.split(command)
    program = Path(words[0]).name
    if program == "pip":
        for word in words:
            for extra in re.findall(r"\[(.*)\]$", word):
                if extra == "cli" and extra not in config["options.extras_require"]:
                    pytest.skip("the extra [cli] is not here yet")
                assert set(extra.split(",")) <= set(config["options.extras_require"])
    ours = words[1:] if program == "requests-refresh" else words[3:]
    if program == "requests-refresh" or words[1:3] == ["-m", "requests_refresh"]:
        ours = ours[: ours.index("--")] if "--" in ours else ours
        if not re.search(rf"^\W*{ours[0]}\b", help_of(), re.M):
            pytest.skip(f"the command {ours[0]} is not here yet")
        options = [word for word in ours if word.startswith("-")]
        assert [option for option in options if option not in help_of(ours[0])] == []
