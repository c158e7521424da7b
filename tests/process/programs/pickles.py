"""Programs that are handed a pickle made by another process."""

from __future__ import annotations

import pickle

from ..child import GIVEN, hear, run, say, try_get


def ask() -> None:
    """Unpickle sessions and ask with each, after the first at a word."""
    for number, text in enumerate(GIVEN["pickles"]):
        if number == 1:
            hear()
        say("answer", **try_get(pickle.loads(bytes.fromhex(text))))  # noqa: S301  # it is ours


if __name__ == "__main__":
    run(globals())
