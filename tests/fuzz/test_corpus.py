"""What fuzzing has reached, and what it has found, is gone through again in every run."""

from __future__ import annotations

from pathlib import Path

import pytest

from .targets import TARGETS, run

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_in_the_corpus_fails(name: str) -> None:
    """Every reader of untrusted bytes keeps its promises for all that was ever found to matter."""
    kept = [*(HERE / "corpus" / name).glob("*"), *(HERE / "found" / name).glob("*")]
    assert kept
    for path in sorted(kept):
        run(name, path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_no_seed_fails(name: str) -> None:
    """Well-formed and hostile inputs, written by hand, are read as promised."""
    for data in TARGETS[name].seeds:
        run(name, data)
