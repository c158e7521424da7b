"""`TokenStoreContract`: a good store passes it, and it catches each of many faults, in words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from requests_refresh import testing
from tests.testing import faulty_stores

SAFETY = 120.0  # seconds
CLASSES = [
    thing
    for thing in vars(faulty_stores).values()
    if isinstance(thing, type) and issubclass(thing, faulty_stores.InMemory)
    if thing.__name__.startswith("Test")
]
LINE = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED) .*?::(\w+)::(\w+)\S*", re.MULTILINE)


def run(tests: list[str], directory: Path, *options: str) -> tuple[str, dict[tuple[str, str], str]]:
    """Run pytest on tests in a process of its own: what it wrote, and the outcome of each."""
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *options, *tests]
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=SAFETY,
        check=False,
    )
    found = LINE.findall(done.stdout)
    return done.stdout + done.stderr, {(cls, test): outcome for outcome, cls, test in found}


@pytest.mark.long
def test_each_fault_is_caught(tmp_path: Path) -> None:
    """Every test that a faulty store is to be caught by fails, and says what is wrong in words."""
    expected = [(cls.__name__, test) for cls in CLASSES for test in sorted(cls.caught_by)]
    path = faulty_stores.__file__
    written, outcomes = run(
        [f"{path}::{cls}::{test}" for cls, test in expected],
        Path(path).parents[2],
        f"--basetemp={tmp_path / 'base'}",
        "--tb=line",
    )
    missed = [test for test in expected if outcomes.get(test) not in ("FAILED", "ERROR")]
    assert not missed, written
    for words in (
        "`save` with replacing=None succeeded where a token was: it has to raise StoreConflict",
        "compare by Token.same_issue",
        "8 threads replaced the same token",
        "3 processes replaced the same token",
        "Another thread entered what one thread holds",
        "An instance entered what another process holds",
        "The thread that holds an identity entered it again",
        "It hangs here:",
        "`exclusive` gave up after 0.0",
        "A `wait` after a change that came since `load` did not end",
        "`wait` missed a change that another process made",
        "identities are taken for others that look alike",
        "Texts of 100000 characters came back otherwise",
        "What was saved before `close` is gone after it",
        "What another process saved over a token is not what is loaded here",
        "shows a token's secret in ['save.text']",
        "A StoreConflict has to name the identity; this one says: conflict",
        "stayed held for longer than takeover",
        "The place of a holder that lives was free within 0.45 s",
        "it left the block that it was forked in, and so freed it for its parent",
        "The child of a fork hangs",
        "The store cannot be pickled (cannot pickle a connection)",
    ):
        assert words in written, f"{words}\n{written}"


GOOD = """
    import threading
    from requests_refresh import FileStore, StoreConflict, TokenStore
    from requests_refresh.stores import ANY
    from requests_refresh.testing import TokenStoreContract

    class MyStore(TokenStore):
        def __init__(self):
            self.tokens, self.lock = {}, threading.Lock()

        def load(self, identity):
            return self.tokens.get(identity)

        def save(self, identity, token, *, replacing=ANY):
            with self.lock:
                found = self.tokens.get(identity)
                if replacing is not ANY and found is not replacing:
                    if found is None or not found.same_issue(replacing):
                        raise StoreConflict(f"another token is stored for {identity!r}")
                self.tokens[identity] = token
                if token is None:
                    del self.tokens[identity]

        def delete(self, identity, *, replacing=ANY):
            self.save(identity, None, replacing=replacing)

        def identities(self):
            return list(self.tokens)

    class TestMyStore(TokenStoreContract):
        def make_store(self):
            return MyStore()

    class Shared(FileStore):
        pass

    class TestShared(TokenStoreContract):
        between_processes = True

        def make_store(self):
            Shared.path = f"{tempfile.mkdtemp()}/tokens.json"
            return Shared(Shared.path)

        def share(self, store):
            return Shared(Shared.path)
"""


def test_a_good_store_passes(tmp_path: Path) -> None:
    """A store of a few lines, in a module of tests that knows nothing of ours, keeps it all."""
    path = tmp_path / "test_mine.py"
    path.write_text("import tempfile\n" + textwrap.dedent(GOOD))
    written, outcomes = run([str(path)], tmp_path, "-W", "error", f"--basetemp={tmp_path / 'base'}")
    bad = [test for test, outcome in outcomes.items() if outcome != "PASSED"]
    assert not bad, written
    assert {cls for cls, _ in outcomes} == {"TestMyStore", "TestShared"}, written
    between = {test for cls, test in outcomes if cls == "TestShared"}
    here = {test for cls, test in outcomes if cls == "TestMyStore"}
    assert here < between
    assert len(between - here) == 8, "tests between processes"


def test_the_server_is_had_without_pytest() -> None:
    """A demo that imports the server does not import pytest; the contract does."""
    code = (
        "import sys, requests_refresh.testing as t; assert 'pytest' not in sys.modules;"
        " t.TokenStoreContract; t.TokenStoreContract; assert 'pytest' in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=SAFETY)


def test_other_names_are_none() -> None:
    """What the package of tests does not have is an AttributeError, as everywhere."""
    with pytest.raises(AttributeError, match="no attribute 'Contract'"):
        vars(testing)["__getattr__"]("Contract")
