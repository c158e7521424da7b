"""OpenTelemetry, where the program uses it: what rounds came to, and who was held.

Metrics: the counter `requests_refresh.rounds`, with the attribute `outcome`
("refreshed", "adopted", "failed" or "login_lost"), and the histogram
`requests_refresh.hold.duration`, in seconds, of requests that waited for a token.
A request that was held has an event `requests_refresh.held` on the span that is
current in its thread.

Nothing is imported here: who uses OpenTelemetry has imported its API, and an import
late in a round, which may run while the process ends, would change how it ends.
No attribute holds a secret or an identity. Nothing here runs while a lock is
held or a token is fresh, and what telemetry raises is dropped: it fails no request.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_NAME = "requests_refresh"


def round_ended(outcome: str) -> None:
    """Count a renewal that is over. Does not block."""
    _quietly(lambda found: found.rounds.add(1, {"outcome": outcome}))


def held(seconds: float) -> None:
    """Tell that the current request has waited so long for a token. As `round_ended`."""
    _quietly(lambda found: found.held(seconds))


class _Instruments:
    """What is written to."""

    def __init__(self, metrics: Any, trace: Any) -> None:
        meter = metrics.get_meter(_NAME)
        self.rounds = meter.create_counter(
            f"{_NAME}.rounds", unit="{round}", description="Renewals of a token, by outcome"
        )
        self._holds = meter.create_histogram(
            f"{_NAME}.hold.duration", unit="s", description="How long requests waited for a token"
        )
        self._span: Callable[[], Any] = trace.get_current_span

    def held(self, seconds: float) -> None:
        self._holds.record(seconds)
        span = self._span()
        if span.is_recording():
            span.add_event(f"{_NAME}.held", {f"{_NAME}.hold.seconds": seconds})


_made: _Instruments | None = None


def _instruments() -> _Instruments | None:
    """The instruments, made once; None while the program has not imported OpenTelemetry."""
    global _made
    if _made is None:
        metrics, trace = (sys.modules.get(f"opentelemetry.{name}") for name in ("metrics", "trace"))
        if metrics is None or trace is None:
            return None
        _made = _Instruments(metrics, trace)
    return _made


def _quietly(tell: Callable[[_Instruments], object]) -> None:
    with suppress(Exception):
        found = _instruments()
        if found is not None:
            tell(found)
