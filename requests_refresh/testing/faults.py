"""`Fault`: what a test wants to go wrong in a call to the server, and when.

A fault is a fact without state; `Faults` is the list of those that wait for
their call. Nothing here does I/O.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Headers = Mapping[str, str] | Sequence[tuple[str, str]]
Manner = Literal["whole", "cut", "reset", "silence", "drip"]

#: What a fault or a latency can be put on, beside a path such as "/api/items".
CALLS = ("login", "token", "refresh", "cookie", "logout", "revoke", "api")


@dataclass(frozen=True)
class Answer:
    """A reply on its way to the wire: status, headers, body, and the manner of sending."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    manner: Manner = "whole"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way in which a call goes wrong. The parts combine.

    delay: seconds to wait.
    hold: an event to wait for. `AuthServer.stop` ends both waits too.
    status, headers, body: an answer in place of the real one. headers: a
        mapping, or pairs where a name comes twice. body: bytes, str, or what
        JSON can say.
    reply: how the answer is sent. "whole"; "cut": all of the headers, half of
        the body, then the connection is closed; "drip": the body byte by
        byte, `pause` seconds apart; "reset": nothing, the connection is
        reset; "silence": nothing, and the connection stays open.
    after_work: False: the waiting comes before the work (the rotation, the
        revocation), and a fault that does not send the real answer leaves
        the work undone. True: the work is done first, and everything else
        befalls its reply: `Fault(after_work=True, reply="reset")` is a
        rotation whose answer was lost.
    """

    delay: float = 0.0
    hold: threading.Event | None = None
    status: int | None = None
    headers: Headers = ()
    body: Any = b""
    reply: Manner = "whole"
    pause: float = 0.05
    after_work: bool = False

    def answer(self) -> Answer | None:
        """The answer in place of the real one, or None if that is to be sent."""
        if self.status is None:
            return None
        pairs = self.headers.items() if isinstance(self.headers, Mapping) else self.headers
        return make_answer(self.status, self.body, pairs)


def make_answer(status: int, body: Any = b"", headers: Any = ()) -> Answer:
    """An answer; its body bytes, str, or what JSON can say, with the Content-Type to it."""
    kind = "text/plain; charset=utf-8"
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body, kind = json.dumps(body).encode(), "application/json"
    pairs = tuple(headers)
    if body and not any(name.lower() == "content-type" for name, _ in pairs):
        pairs = (("Content-Type", kind), *pairs)
    return Answer(status, pairs, body)


class _Plan:
    """A fault that waits for its call."""

    def __init__(self, where: str, fault: Fault, times: int | None, at: int | None) -> None:
        self.where = where
        self.fault = fault
        self.times = times
        self.at = at
        self.calls = 0


class Faults:
    """The faults that wait for their calls. Its user sees to the locking."""

    def __init__(self) -> None:
        self._plans: list[_Plan] = []

    def add(self, where: str, fault: Fault, times: int | None, at: int | None) -> None:
        """See `AuthServer.faults`."""
        if where not in CALLS and not where.startswith("/"):
            raise ValueError(
                f"{where!r} is no call of the server's. Give a path or one of {CALLS}."
            )
        if at is not None and at < 1:
            raise ValueError("at counts calls from now on; the next one is 1.")
        self._plans.append(_Plan(where, fault, times, at))

    def clear(self) -> None:
        """Forget them all."""
        self._plans.clear()

    def take(self, call: str, path: str) -> Fault | None:
        """The fault for this call, now used up by it, or None."""
        matching = [plan for plan in self._plans if plan.where in (call, path)]
        for plan in matching:
            plan.calls += 1
        for plan in matching:  # one that waits for exactly this call goes first
            if plan.at == plan.calls:
                self._plans.remove(plan)
                return plan.fault
        for plan in matching:
            if plan.at is None:
                if plan.times is not None:
                    plan.times -= 1
                    if plan.times <= 0:
                        self._plans.remove(plan)
                return plan.fault
        return None
