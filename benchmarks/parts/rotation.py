"""Tokens that live two seconds, under load: whether any request notices that they are replaced."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks import peers
from benchmarks.base import Count, Figure, Found, Plot, Size, Table, WentOn
from benchmarks.parts.load import Load, percentile
from benchmarks.server import Server
from requests_refresh import RefreshAdapter, TokenSource

TITLE = "Rotation under load"

LIFETIME, NEVER = 2, 3600  # seconds
LATENCY = 0.3  # seconds that the provider takes
WAITED = 0.8 * LATENCY  # seconds over the median, from which on a request has waited
FIRST = 3  # requests of each thread that are not timed: they open its connection
IN_SMALL = ("google-auth, non-blocking", "botocore")


@dataclass(frozen=True)
class _Plan:
    threads: int
    seconds: float  # of one turn
    rounds: int
    peer_rounds: int


@dataclass
class _Run:
    """One turn of one contender."""

    times: list[float]  # sorted, in seconds
    requests: int
    failed: int
    waited: int  # by the clock
    counts: dict[str, int]  # the server's
    did: dict[str, int] = field(default_factory=dict)  # by our own stats

    def at(self, share: float) -> float:
        return percentile(self.times, share)


def _plan(size: Size) -> _Plan:
    return _Plan(16, 2.2, 2, 1) if size.small else _Plan(64, 10.0, 6, 2)


def _others(size: Size) -> list[peers.Peer]:
    here = [peer for peer in peers.peers()[0] if peer not in (peers.BARE, peers.OURS)]
    return [peer for peer in here if not size.small or peer.name in IN_SMALL]


def steps(size: Size) -> int:
    plan = _plan(size)
    return 2 * plan.rounds + len(_others(size)) * plan.peer_rounds


def run(size: Size, went_on: WentOn) -> Found:
    plan = _plan(size)
    dying: list[_Run] = []
    never: list[_Run] = []
    others: dict[str, list[_Run]] = {peer.name: [] for peer in _others(size)}
    with Server(latency=LATENCY) as server:
        for number in range(plan.rounds):
            turns = [(peers.OURS, LIFETIME, dying), (peers.OURS, NEVER, never)]
            if number < plan.peer_rounds:
                turns += [(peer, LIFETIME, others[peer.name]) for peer in _others(size)]
            for peer, lifetime, runs in turns[:: -1 if number % 2 else 1]:
                runs.append(_turn(server, peer, lifetime, plan))
                went_on(f"{peer.name}, tokens of {lifetime} s")
    return _found(plan, dying, never, others)


def _turn(server: Server, peer: peers.Peer, lifetime: int, plan: _Plan) -> _Run:
    server.set(lifetime=lifetime)
    contender = peer.make(server, server.login(), None)
    try:
        tokens = _source(contender, server) if peer is peers.OURS else None
        contender.get("first")  # the login is taken up, for which others would wait
        before = _stats(tokens)
        load = Load(lambda _: contender.get("item"), plan.threads)
        time.sleep(plan.seconds)
        load.stop(patience=60.0)
        after = _stats(tokens)
    finally:
        contender.close()
    done = _stats(tokens)  # a refresh that was under way at the end has come in by now
    did = {name: after[name] - before[name] for name in after} | {
        "refreshes": done.get("refreshes", 0)
    }
    samples = [sample for each in load.samples for sample in each]
    times = sorted(sample.took for each in load.samples for sample in each[FIRST:])
    late = percentile(times, 0.5) + WAITED
    waited = sum(took > late for took in times)
    failed = sum(not sample.fine for sample in samples)
    return _Run(times, len(samples), failed, waited, server.counts(), did)


def _source(contender: peers.Contender, server: Server) -> TokenSource:
    adapter = contender.session.get_adapter(server.api)
    assert isinstance(adapter, RefreshAdapter)
    return adapter.tokens


def _stats(tokens: TokenSource | None) -> dict[str, int]:
    if tokens is None:
        return {}
    stats = tokens.stats
    return {"waits": stats.waits, "replays": stats.replays, "refreshes": stats.refreshes}


def _found(
    plan: _Plan, dying: list[_Run], never: list[_Run], others: dict[str, list[_Run]]
) -> Found:
    ratios = {
        share: statistics.median(
            one.at(share) / other.at(share) for one, other in zip(dying, never, strict=True)
        )
        for share in (0.5, 0.99, 0.999)
    }
    rows = [_row("requests_refresh", dying), _row("the same, a token that never dies", never)]
    rows += [_row(name, runs) for name, runs in others.items()]
    head = ("", "requests", "refreshes", "reuses", "waited", "failed", "p50", "p99", "p99.9, ms")
    refreshes = _sum(dying, "refreshes")
    least = plan.rounds * int(plan.seconds / LIFETIME)
    replays = sum(run.did["replays"] for run in dying)
    waits = sum(run.did["waits"] for run in dying)
    counted = sum(run.did["refreshes"] for run in dying)
    text = (
        f"{plan.threads} threads send as fast as they can, with tokens that live {LIFETIME} s from"
        f" a provider that takes {LATENCY} s, and in turns with a token that does not die;"
        f" {plan.rounds} rounds of {plan.seconds:g} s each, in {plan.peer_rounds} of which the"
        " peers take turns too. Every contender begins with the reply of a fresh login. *Waited* is"
        f" what took {WAITED * 1000:.0f} ms (0.8 of the provider's time) more than the median of"
        f" its own turn. By its own counts ours had {waits} waits and {replays} requests sent"
        f" again; the server issued {refreshes} tokens to it, for {_sum(dying, 'calls')} calls.\n\n"
        f"Over the token that never dies: p50 {ratios[0.5]:.2f}, p99 {ratios[0.99]:.2f}, p99.9"
        f" {ratios[0.999]:.2f} (medians of the rounds). All latencies are those of as many threads"
        " in one Python process, and of a server on the same processors: at the far percentiles"
        " they show when a thread got its turn. That falls on both alike, so the ratio is what"
        f" tells. A turn of ours has {min(len(run.times) for run in dying):,} timed requests or"
        " more, of which one in a thousand took longer than its p99.9."
    )
    return Found(
        text,
        tables=[Table(head, rows)],
        plots=[_plot(dying, never)],
        counts=[
            Count("rotation: requests of ours that waited", waits, 0),
            Count("rotation: requests of ours sent again", replays, 0),
            Count("rotation: requests of ours that failed", _failed(dying), 0),
            Count("rotation: spent refresh tokens that ours used", _sum(dying, "reuses"), 0),
            Count("rotation: calls of ours for tokens", _sum(dying, "calls"), refreshes),
            Count("rotation: refreshes by our stats", counted, refreshes),
            Count("rotation: tokens short of one for each life", max(0, least - refreshes), 0),
        ],
        figures=[
            Figure("rotation: p99.9 over that of a token that never dies", ratios[0.999], 1.2)
        ],
    )


def _sum(runs: list[_Run], name: str) -> int:
    return sum(run.counts[name] for run in runs)


def _failed(runs: list[_Run]) -> int:
    return sum(run.failed for run in runs)


def _row(name: str, runs: list[_Run]) -> list[object]:
    times = [
        f"{1000 * statistics.median(run.at(share) for run in runs):.1f}"
        for share in (0.5, 0.99, 0.999)
    ]
    return [
        name,
        f"{sum(run.requests for run in runs):,}",
        _sum(runs, "refreshes"),
        _sum(runs, "reuses"),
        sum(run.waited for run in runs),
        _failed(runs),
        *times,
    ]


def _plot(dying: list[_Run], never: list[_Run]) -> Plot:
    shares = (0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999)
    lines = [
        (name, style, sorted(took for run in runs for took in run.times))
        for name, style, runs in (
            (f"tokens of {LIFETIME} s", "-o", dying),
            ("a token that never dies", "--s", never),
        )
    ]

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for name, style, times in lines:
            values = [1000 * percentile(times, share) for share in shares]
            axes.plot(range(len(shares)), values, style, label=name, markersize=4)
        axes.set_xticks(range(len(shares)), [f"p{100 * share:g}" for share in shares])
        axes.set_yscale("log")
        axes.set_ylabel("latency, ms")
        axes.grid(True, which="both", alpha=0.3)
        axes.legend()

    caption = (
        "Latency of requests while their token is replaced again and again, and while it is not."
    )
    return Plot("rotation", draw, caption)
