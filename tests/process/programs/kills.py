"""Programs that are killed, or kill themselves, in the middle of a round."""

from __future__ import annotations

import os
import signal
from typing import Any

from requests_refresh import FileStore, Token

from ..child import GIVEN, run, say, session, source, try_get


class Deadly(FileStore):
    """SIGKILL before or after the save."""

    def save(self, identity: str, token: Token, **how: Any) -> None:
        if GIVEN["when"] == "after":
            super().save(identity, token, **how)
        os.kill(os.getpid(), signal.SIGKILL)


def dies() -> None:
    """Dies at the save of what the provider has issued."""
    say("answer", **try_get(session(source(Deadly(GIVEN["path"])))))


def asks() -> None:
    """An ordinary request."""
    say("answer", **try_get(session(source())))


if __name__ == "__main__":
    run(globals())
