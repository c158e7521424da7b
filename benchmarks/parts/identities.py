"""Identities: does a request cost more with 100,000 in one TokenPool than with one?

Each number of identities has a process of its own, with a pool and a heap of its
own, garbage collection as a user has it; they take turns. Requests end in an
adapter that answers at once, so what is measured is the work of the client alone.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests
from requests.adapters import HTTPAdapter

from benchmarks.base import Figure, Found, Size, Table, WentOn
from requests_refresh import MemoryStore, RefreshAdapter, Token, TokenPool, TokenSource

TITLE = "Identities: many in one process"
API = "http://127.0.0.1/"
DRAWS = {"kept": 200, "live": 200, "lookup": 4000}  # of identities, in each turn
TEXT = """\
One `TokenPool` with so many identities, each with a token of {token} bytes. A request is what a web
tier does for one of its users: a session of its own, since a session keeps that user's cookies,
with `RefreshAdapter(pool[user], origins=API, inner=transport)` mounted on it; the `transport` is
shared, and answers at once. "Live": somebody holds the source of every identity, as workers do that
have a task for each. "Kept": nobody does, so the pool makes the source anew from the access token
that it has kept; with one identity the last source would still be there, so this is told over
1,000. Each turn of each process is {requests} requests, or {lookups} look-ups, for identities drawn
at random, all equally likely; names are made before, a new text each, as if they came with a
request. Ratios are medians over the turns.

What bounds it: the work is the same for any number, one look-up in a hash table. But one identity
lies in the processor's caches and {most} do not, so that one drawn at random is read from memory:
its name, a weak reference, the source, its gate, its token. That takes a few microseconds, many
times the look-up of one that is at hand, and little beside a whole request.

The bytes are the growth of the process by identity, token included; a live one has its kept token
as well. A full garbage collection goes through all that lives. Python runs one each time that a
quarter more has come to live, so where much lives it is rare, and long; a median shows none of it.
`gc.freeze()` takes out of it what is there for good."""


@dataclass
class _Seen:
    """What one process told: microseconds for each draw, by way; then bytes and milliseconds."""

    micros: dict[str, list[float]] = field(default_factory=lambda: {way: [] for way in DRAWS})
    kept: float = 0.0
    live: float = 0.0
    collection: float = 0.0


def _numbers(size: Size) -> list[int]:
    return [1, 1_000, 20_000] if size.small else [1, 1_000, 100_000]


def _turns(size: Size) -> int:
    return 5 * size.rounds


def steps(size: Size) -> int:
    return 2 + 2 * _turns(size)


def run(size: Size, went_on: WentOn) -> Found:
    numbers = _numbers(size)
    seen = {number: _Seen() for number in numbers}
    with ExitStack() as stack:
        pools = {number: stack.enter_context(_Pool(number)) for number in numbers}

        def take_turns(*ways: str) -> None:
            for _ in range(_turns(size)):
                for way in ways:
                    for number in random.sample(numbers, len(numbers)):
                        seen[number].micros[way].append(pools[number].ask(way))
                went_on(f"identities: {' and '.join(ways)}")

        for number, pool in pools.items():
            seen[number].kept = pool.hear()
        went_on("identities: tokens kept")
        take_turns("kept")
        for pool in pools.values():
            pool.tell("hold")
        for number, pool in pools.items():
            seen[number].live = seen[number].kept + pool.hear()
        went_on("identities: sources made")
        take_turns("live", "lookup")
        for number, pool in pools.items():
            seen[number].collection = pool.ask("collect")
    return _tell(seen)


class _Pool:
    """A process with a TokenPool of so many identities. It answers each word with a figure."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> _Pool:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.parts.identities", str(self._number)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(self, *exc: object) -> None:
        with self._process:
            self._process.kill()

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")
        self._process.stdin.flush()

    def hear(self) -> float:
        assert self._process.stdout is not None
        return float(json.loads(self._process.stdout.readline()))

    def ask(self, word: str) -> float:
        self.tell(word)
        return self.hear()


# ---------------------------------------------------- what such a process runs


class _Null(HTTPAdapter):
    """Answers at once, and sends nothing."""

    def send(self, request: requests.PreparedRequest, *args: Any, **how: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.request = 200, request
        response.url = request.url or ""
        response._content = b""
        return response


class _Forgetful(MemoryStore):
    """Keeps nothing: only the memory of the pool is to be told."""

    def save(self, identity: str, token: Token, **how: Any) -> None:
        pass


def _be_a_pool(number: int) -> None:
    transport, store = _Null(), _Forgetful()

    def grant(token: Token | None) -> Token:
        raise AssertionError("Nothing is to be refreshed here.")

    pool = TokenPool(lambda user: TokenSource(grant, store, identity=user), maxsize=number)

    def request(user: str) -> None:
        with requests.Session() as session:
            session.trust_env = False
            session.mount(API, RefreshAdapter(pool[user], origins=API, inner=transport))
            assert session.get(API).status_code == 200

    def lookup(user: str) -> None:
        pool[user].token()

    ways: dict[str, Callable[[str], None]] = {"kept": request, "live": request, "lookup": lookup}
    before = _memory()
    for each in range(number):
        pool[_name(each)].login(_token(each))
    kept = _memory()
    _say((kept - before) / number)
    held: list[TokenSource] = []
    for line in sys.stdin:
        word = line.strip()
        if word == "hold":
            held += [pool[_name(each)] for each in range(number)]
            _say((_memory() - kept) / number)
        elif word == "collect":
            begun = time.perf_counter()
            gc.collect()
            _say((time.perf_counter() - begun) * 1e3)
        else:
            if word == "kept":
                gc.collect()  # sources that are used no more live until then
            draws = DRAWS[word]
            drawn = random.choices(range(number), k=draws)
            if word == "kept":  # none twice: the second time it would still live
                drawn = random.sample(range(number), min(number, draws))
            _say(_micros(ways[word], [_name(each) for each in drawn]))


def _micros(work: Callable[[str], None], names: list[str]) -> float:
    begun = time.perf_counter()
    for name in names:
        work(name)
    return (time.perf_counter() - begun) / len(names) * 1e6


def _name(number: int) -> str:
    return f"user-{number:07}@example.com"


def _token(number: int) -> Token:
    now = time.time()
    access = f"{number:07}" + "a" * 800  # about what a JWT takes
    return Token(access, refresh_token="r" * 40, expires_at=now + 86400, issued_at=now)


def _memory() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss)


def _say(figure: float) -> None:
    print(json.dumps(figure), flush=True)


# ------------------------------------------------------------------ the report


def _tell(seen: dict[int, _Seen]) -> Found:
    most = max(seen)

    def ratio(number: int, way: str, base: int = 1) -> float:
        mine, theirs = seen[number].micros[way], seen[base].micros[way]
        return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))

    costs: list[tuple[object, ...]] = []
    sizes: list[tuple[object, ...]] = []
    for number, one in seen.items():
        times = {way: statistics.median(one.micros[way]) for way in DRAWS}
        many = number >= 1_000
        costs.append(
            (
                f"{number:,}",
                f"{times['live']:.0f}",
                f"{ratio(number, 'live'):.3f}",
                f"{times['lookup']:.2f}",
                f"{ratio(number, 'lookup'):.1f}",
                f"{times['kept']:.0f}" if many else "",
                f"{ratio(number, 'kept', 1_000):.3f}" if many else "",
            )
        )
        if many:
            bytes_each = f"{one.kept:,.0f}", f"{one.live:,.0f}"
            sizes.append((f"{number:,}", *bytes_each, f"{one.collection:,.0f}"))
    columns = ("identities", "live: µs a request", "over 1", "`pool[user].token()`: µs", "over 1")
    return Found(
        TEXT.format(
            token=len(_token(0).access_token or ""),
            requests=DRAWS["live"],
            lookups=f"{DRAWS['lookup']:,}",
            most=f"{most:,}",
        ),
        tables=[
            Table((*columns, "kept: µs a request", "over 1,000"), costs, "Time"),
            Table(
                ("identities", "kept: bytes", "live: bytes", "a full collection, live: ms"),
                sizes,
                "Memory, for each identity",
            ),
        ],
        figures=[
            Figure(f"A request with {most:,} identities live, over 1", ratio(most, "live"), 1.05),
            Figure(
                f"A request with {most:,} identities kept, over 1,000", ratio(most, "kept", 1_000)
            ),
            Figure(f"pool[user].token() with {most:,} live, over 1", ratio(most, "lookup")),
        ],
    )


if __name__ == "__main__":
    _be_a_pool(int(sys.argv[1]))
