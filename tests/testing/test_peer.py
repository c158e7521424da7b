"""The other process of the stores' contract, and the words that it understands."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path

import pytest

from requests_refresh import FileStore, Token
from requests_refresh.testing.peer import Peer, _Worker
from tests.stores.contract import NEW, OLD, SAFETY


@pytest.fixture
def worker(tmp_path: Path) -> _Worker:
    told: list[object] = []
    worker = _Worker(told.append)
    store = FileStore(tmp_path / "private" / "tokens.json")
    worker.open(base64.b64encode(pickle.dumps(store)).decode())
    return worker


def test_the_words_that_it_understands(worker: _Worker) -> None:
    """Each command does in that process what its name says, and gives back what JSON can hold."""
    assert worker.load("a") is None
    worker.save(OLD.to_mapping(), "a", "b")
    assert worker.load("b") == OLD.to_mapping()
    assert worker.swap("a", OLD.to_mapping(), NEW.to_mapping())
    assert not worker.swap("a", OLD.to_mapping(), NEW.to_mapping())
    assert worker.swap("c", None, Token("new").to_mapping())
    worker.delete("a")
    assert worker.load("a") is None
    worker.count("steps", 3, SAFETY)
    counted = worker.load("steps")
    assert counted is not None
    assert counted["extra"] == {"steps": 3}
    worker.close()


def test_holding_there(worker: _Worker) -> None:
    """A place that is entered is held until it is left, or closed."""
    assert worker.enter("a", 0.0)
    assert not worker.enter("a", 0.0)
    worker.leave()
    assert worker.enter("a", 0.0)
    worker.close()
    assert worker.enter("a", 0.0)
    worker.close()


def test_one_that_has_died_is_told_of() -> None:
    """A process that ended in the middle of a command is said to have died."""
    peer = Peer()
    peer._process.kill()
    peer._asked = 1
    with pytest.raises(AssertionError, match="has died"):
        peer.answer(SAFETY)
