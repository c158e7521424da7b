"""A gate whose rounds begin when a test says so, on its clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from requests_refresh import RefreshError, Token
from requests_refresh.gate import Gate, Round
from requests_refresh.tokens import Current, Outcome

OLD, NEW = Token("old"), Token("new")


def living(token: Token) -> Current:
    return Current(token, math.inf, math.inf)


def issued(token: Token = NEW) -> Outcome:
    return Outcome(living(token), refreshed=True)


class Steps:
    """A gate whose rounds begin when they are told to: `jobs` holds what a thread would run."""

    def __init__(self, work: Callable[[Round], Outcome | None], **options: Any) -> None:
        self.now = 1000.0
        self.jobs: list[Callable[[], None]] = []
        self.after: list[Round] = []
        self.rounds: list[Round] = []

        def noted(round_: Round) -> Outcome | None:
            self.rounds.append(round_)
            assert len(self.rounds) < 9, "rounds without an end"
            return work(round_)

        options.setdefault("spawn", self.jobs.append)
        options.setdefault("after", self.after.append)
        self.gate = Gate(noted, clock=lambda: self.now, **options)
        self.gate.current = living(OLD)

    def get(self, stale: Token | None = OLD, patience: float = 10.0, **options: Any) -> Outcome:
        return self.gate.get(stale, self.now + patience, self.now + 30.0, **options)

    def start(self, stale: Token = OLD, refused: bool = True) -> bool:
        return self.gate.start(stale, self.now + 30.0, refused=refused)


def at_once(work: Callable[[Round], Outcome | None], **options: Any) -> Steps:
    """A gate whose rounds are done before anybody waits."""
    return Steps(work, spawn=lambda job: job(), **options)


def fails(error: RefreshError) -> Callable[[Round], Outcome | None]:
    def work(round_: Round) -> Outcome | None:
        raise error

    return work


def no_thread(job: Callable[[], None]) -> None:
    raise RuntimeError("no thread")


def locals_below(error: BaseException) -> dict[str, Any]:
    """What the frame still holds that the one which caught the error had called."""
    assert error.__traceback__ is not None
    assert error.__traceback__.tb_next is not None
    return dict(error.__traceback__.tb_next.tb_frame.f_locals)
