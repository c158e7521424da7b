"""How many requests a second go over loopback, bare and mounted, and how long each takes."""

from __future__ import annotations

import random
import statistics
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

from benchmarks.base import Count, Figure, Found, Plot, Size, Table, WentOn
from benchmarks.peers import BARE, OURS, Contender, peers
from benchmarks.server import Server

TITLE = "Requests per second, bare and mounted"

THREADS = (1, 8, 64)
FIRM = 8  # threads; for which the figure is to be reached
QUANTILES = (0.5, 0.99, 0.999)


@dataclass
class _Seen:
    """Of one contender with one number of threads."""

    rates: list[float] = field(default_factory=list)  # requests per second, of each slice
    cores: list[float] = field(default_factory=list)  # that this process kept busy, of each slice
    times: list[float] = field(default_factory=list)  # seconds, of each request of all slices
    failed: int = 0

    def quantiles(self) -> list[float]:
        ordered = sorted(self.times)
        return [ordered[int(share * (len(ordered) - 1))] for share in QUANTILES]


_AllSeen = dict[tuple[int, str], _Seen]  # by the number of threads and the contender's name


def steps(size: Size) -> int:
    return 1 + _rounds(size)


def _rounds(size: Size) -> int:
    return 2 * size.rounds


def run(size: Size, went_on: WentOn) -> Found:
    who = [BARE, OURS] if size.small else peers()[0]
    seconds = 0.45 if size.small else 1.0
    seen: _AllSeen = {(threads, peer.name): _Seen() for threads in THREADS for peer in who}
    with ExitStack() as stack:
        server = stack.enter_context(Server(lifetime=86400))
        login = server.login()
        contenders: dict[str, Contender] = {}
        for peer in who:
            contenders[peer.name] = stack.enter_context(closing(peer.make(server, login, None)))
            contenders[peer.name].session.trust_env = False
            _slice(contenders[peer.name], max(THREADS), 0.2, _Seen())
        went_on("warm")
        for done in range(_rounds(size)):
            turns = list(seen)
            random.shuffle(turns)
            turns.sort(key=lambda turn: turn[0])  # what is compared takes turns side by side
            for threads, name in turns:
                _slice(contenders[name], threads, seconds, seen[threads, name])
            went_on(f"round {done + 1}")
        counts = server.counts()
    failed = sum(each.failed for each in seen.values()) + counts["refused"]
    ratio = _ratio(seen, FIRM, OURS.name)
    return Found(
        _text(size, seconds),
        [_table(seen)],
        [Plot("throughput", lambda figure: _draw(figure, seen), _CAPTION, height=3.6)],
        [
            Count("failed requests of steady load", failed, 0),
            Count("refreshes under steady load", counts["calls"], 0),
        ],
        [Figure(f"requests per second with {FIRM} threads, mounted over bare", ratio, None, 0.98)],
    )


def _slice(contender: Contender, threads: int, seconds: float, seen: _Seen) -> None:
    """Send without pause from so many threads for so long."""
    begin = threading.Barrier(threads + 1)
    found: list[list[float]] = [[] for _ in range(threads)]
    failed = [0] * threads
    until = 0.0

    def send(number: int) -> None:
        get, times, clock = contender.get, found[number], time.perf_counter
        begin.wait()
        now = clock()
        while now < until:
            try:
                failed[number] += get("items") != 200
            except Exception:
                failed[number] += 1
            before, now = now, clock()
            times.append(now - before)

    workers = [threading.Thread(target=send, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    begun, busy = time.perf_counter(), time.process_time()
    until = begun + seconds
    begin.wait()
    for worker in workers:
        worker.join()
    took = time.perf_counter() - begun
    seen.cores.append((time.process_time() - busy) / took)
    seen.rates.append(sum(map(len, found)) / took)
    for times in found:
        seen.times += times
    seen.failed += sum(failed)


def _ratio(seen: _AllSeen, threads: int, name: str) -> float:
    """Over the bare session's slice of the same round: the median over the rounds."""
    rates = zip(seen[threads, name].rates, seen[threads, BARE.name].rates, strict=True)
    return statistics.median(rate / bare for rate, bare in rates)


def _table(seen: _AllSeen) -> Table:
    rows: list[list[object]] = []
    for (threads, name), each in seen.items():
        milliseconds = [round(1000 * value, 2) for value in each.quantiles()]
        rate, ratio = round(statistics.median(each.rates)), round(_ratio(seen, threads, name), 3)
        cores = round(statistics.median(each.cores), 2)
        rows.append([threads, name, rate, ratio, *milliseconds, cores])
    times = ("p50 ms", "p99 ms", "p99.9 ms")
    return Table(["threads", "", "requests/s", "over bare", *times, "client's cores"], rows)


_CAPTION = (
    "Requests per second, and how long a request took (a dot for p50, p99 and p99.9), by the number"
    " of threads."
)


def _draw(figure: Any, seen: _AllSeen) -> None:
    left, right = figure.subplots(1, 2)
    names = list(dict.fromkeys(name for _, name in seen))
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        at = [place + (number - (len(names) - 1) / 2) * width for place in range(len(THREADS))]
        rates = [statistics.median(seen[threads, name].rates) for threads in THREADS]
        bars = left.bar(at, rates, width, label=name)
        for place, threads in zip(at, THREADS, strict=True):
            marks = [1000 * value for value in seen[threads, name].quantiles()]
            color = bars.patches[0].get_facecolor()
            right.plot([place] * len(marks), marks, "o-", color=color, markersize=4, linewidth=1)
    for axes, title in ((left, "requests per second"), (right, "milliseconds, p50 to p99.9")):
        axes.set_xticks(range(len(THREADS)), THREADS)
        axes.set_xlabel("threads")
        axes.set_title(title)
    right.set_yscale("log")
    right.yaxis.set_major_formatter("{x:g}")
    left.set_ylim(top=left.get_ylim()[1] * (1.1 + 0.07 * len(names)))
    left.legend()


def _text(size: Size, seconds: float) -> str:
    more = "" if not size.small else " The peers run beside them in the nightly size."
    return (
        f"{', '.join(map(str, THREADS))} threads send GETs without pause to the server, a process"
        " of its own on the same machine, and read its 11 bytes. All sessions have"
        " `trust_env=False`, warm pools with room for every thread's connection, and send the same"
        " token; on the bare session it is a header set by hand. Slices of"
        f" {seconds:g} s take turns, {_rounds(size)} rounds; rates are medians over the rounds, and"
        f" the ratio is the median of each round's own.{more}\n\n"
        "The last column tells how many cores the client kept busy. The interpreter's lock allows"
        " it about one: where it has that, whatever CPU is added to a request is taken from all"
        " threads, and the ratio is what a bare request takes over that and what was added. With"
        " many threads p99 and p99.9 are made of waiting for that lock, with whatever session."
    )
