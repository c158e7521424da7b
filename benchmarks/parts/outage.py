"""A provider that is down: while the token lives nobody is to notice, after that all fail fast."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import requests

from benchmarks import peers
from benchmarks.base import Count, Figure, Found, Size, Table, WentOn
from benchmarks.parts.load import Load, Sample
from benchmarks.server import Server
from requests_refresh import RefreshAdapter, RefreshTokenGrant, TokenSource

TITLE = "The provider is down"

DOWNS = {"503": "answers 503", "hang": "never answers", "closed": "takes no connection"}
TIMEOUT = (1, 1)  # seconds to connect and to read, of our grant
LATE = 0.25  # seconds over the median before the outage, from which on a request was delayed
PAUSE, DEAD_PAUSE = 0.2, 0.5  # seconds between two requests of a thread
BEFORE = 1.25  # seconds before a token's last part at which it goes down: some round its end
FAST = 2.0  # seconds that a failure may take
IN_SMALL = ("Authlib", "google-auth, non-blocking", "botocore")
AT_ONCE = 4  # contenders, each with its providers


@dataclass(frozen=True)
class _Plan:
    life: int  # seconds of the token that lives; its last part is a quarter
    threads: int  # while it lives; one of them sends one-shot bodies
    dead_threads: int
    outage: float  # seconds, with a dead token
    recovery: float  # seconds that the recovery may take
    rounds: int


@dataclass
class _Alive:
    """What came of the requests of one contender and one kind of outage, while its token lives."""

    plain: list[Sample]
    one_shot: list[Sample]
    late: float  # seconds, from which on a request was delayed
    calls: int
    waits: int  # of ours, by its own count: requests that waited for a renewal
    wait_seconds: float  # and how long, all together

    def delayed(self, samples: list[Sample]) -> int:
        return sum(sample.took > self.late for sample in samples)


@dataclass
class _Dead:
    """The same with a dead token. In seconds; inf: not in the time there was."""

    first: float  # until the first failure
    later: list[float]  # what those took that began after that, and before the provider was back
    unanswered: int
    succeeded: float  # from the provider's return to the first success
    all_well: float  # to the last failure


Alive = dict[tuple[str, str], list[_Alive]]  # by a contender's name and a kind of outage
Dead = dict[tuple[str, str], list[_Dead]]
_Run = TypeVar("_Run", _Alive, _Dead)


class _OneShot:
    """A body that can be read once, of known length."""

    def __init__(self) -> None:
        self._left = [b"some of it, ", b"and the rest"]
        self._length = sum(map(len, self._left))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._left:
            raise StopIteration
        return self._left.pop(0)


@dataclass
class _Ours:
    """As `peers.OURS`, with timeouts short enough to see several rounds, and `ahead` in seconds."""

    session: requests.Session
    api: str
    tokens: TokenSource

    def get(self, path: str) -> int:
        return self.session.get(self.api + path, timeout=peers.TIMEOUT).status_code

    def close(self) -> None:
        self.session.close()
        self.tokens.close()


def _ours(server: Server, reply: peers.Reply, transport: object) -> _Ours:
    grant = RefreshTokenGrant(server.token_url, client_id="bench", timeout=TIMEOUT)
    tokens = TokenSource(grant, token=dict(reply), ahead=reply["expires_in"] / 4)
    session = requests.Session()
    session.mount(server.api, RefreshAdapter(tokens, origins=server.api, pool_maxsize=64))
    return _Ours(session, server.api, tokens)


OURS = peers.Peer("requests_refresh", "requests_refresh", _ours)


def _plan(size: Size) -> _Plan:
    if size.small:
        return _Plan(8, 8, 20, 4.5, 3.0, 1)
    return _Plan(20, 8, 20, 8.0, 12.0, 2)


def _groups(size: Size) -> list[list[peers.Peer]]:
    """Contenders that are tried at the same time: nearly all that they do is wait."""
    here = [peer for peer in peers.peers()[0] if peer not in (peers.BARE, peers.OURS)]
    others = [peer for peer in here if not size.small or peer.name in IN_SMALL]
    everybody = [OURS, *others]
    return [everybody[at : at + AT_ONCE] for at in range(0, len(everybody), AT_ONCE)]


def steps(size: Size) -> int:
    return _plan(size).rounds * len(_groups(size))


def run(size: Size, went_on: WentOn) -> Found:
    plan, groups = _plan(size), _groups(size)
    cells = [(peer.name, down) for group in groups for peer in group for down in DOWNS]
    alive: Alive = {cell: [] for cell in cells}
    dead: Dead = {cell: [] for cell in cells}
    said = logging.getLogger("requests_refresh")
    said.addHandler(unseen := logging.NullHandler())  # it warns of each outage
    try:
        for number in range(plan.rounds):
            for group in groups[:: -1 if number % 2 else 1]:
                _try(group, plan, size, alive, dead)
                went_on(", ".join(peer.name for peer in group))
    finally:
        said.removeHandler(unseen)
    return _found(plan, alive, {cell: runs for cell, runs in dead.items() if runs})


def _try(group: Sequence[peers.Peer], plan: _Plan, size: Size, alive: Alive, dead: Dead) -> None:
    """Each with a provider of its own for each kind of outage, at once; then with a dead token.

    Ours does both at once. Peers keep settings in their modules, so these are not mixed.
    """
    others = [peer for peer in group if peer is not OURS and not size.small]
    with ThreadPoolExecutor(2 * len(DOWNS) * len(group)) as pool:

        def each(
            job: Callable[[peers.Peer, str, _Plan, ExitStack], _Run],
            these: Sequence[peers.Peer],
            runs: dict[tuple[str, str], list[_Run]],
        ) -> Callable[[], None]:
            ends = ExitStack()  # all are closed when all are done: a peer's close may clear others
            futures = {
                (peer.name, down): pool.submit(job, peer, down, plan, ends)
                for peer in these
                for down in DOWNS
            }

            def done() -> None:
                with ends:
                    for cell, future in futures.items():
                        runs[cell].append(future.result())

            return done

        ours_dead = each(_when_dead, [peer for peer in group if peer is OURS], dead)
        each(_while_alive, group, alive)()
        ours_dead()
        each(_when_dead, others, dead)()


def _while_alive(peer: peers.Peer, down: str, plan: _Plan, ends: ExitStack) -> _Alive:
    with Server(lifetime=plan.life) as server:
        born, reply = time.perf_counter(), server.login()
        contender = peer.make(server, reply, None)
        ends.callback(contender.close)

        def send(number: int) -> int:
            if number:
                return contender.get("item")
            answer = contender.session.put(
                server.api + "upload", data=_OneShot(), timeout=peers.TIMEOUT
            )
            return answer.status_code

        _sleep_until(born + plan.life * 3 / 4 - BEFORE - 1.0)
        load = Load(send, plan.threads, PAUSE)
        _sleep_until(born + plan.life * 3 / 4 - BEFORE)
        server.set(down=down)
        went_down, before = time.perf_counter(), _waits(contender)
        _sleep_until(born + plan.life - LATE - 0.35)
        load.stop(patience=LATE + 0.1)
        calls = server.counts()["calls"]
    load.join(patience=5.0)  # the server is gone, so whatever waited for it ends
    waits, wait_seconds = (now - then for now, then in zip(_waits(contender), before, strict=True))
    plain = [sample for samples in load.samples[1:] for sample in samples]
    usual = statistics.median(one.took for one in plain if one.began < went_down)
    return _Alive(
        [one for one in plain if one.began >= went_down],
        [one for one in load.samples[0] if one.began >= went_down],
        usual + LATE,
        calls,
        int(waits),
        wait_seconds,
    )


def _when_dead(peer: peers.Peer, down: str, plan: _Plan, ends: ExitStack) -> _Dead:
    with Server(lifetime=1) as server:
        contender = peer.make(server, server.login(), None)
        ends.callback(contender.close)
        server.set(down=down)
        time.sleep(1.2)
        begun = time.perf_counter()
        load = Load(lambda _: contender.get("item"), plan.dead_threads, DEAD_PAUSE)
        time.sleep(plan.outage)
        server.set(down="")
        back = time.perf_counter()
        while time.perf_counter() < back + plan.recovery and not all(
            samples and samples[-1].fine for samples in load.samples
        ):
            time.sleep(0.02)
        all_samples = load.stop(patience=LATE)
    load.join(patience=5.0)
    failed = [sample for sample in all_samples if not sample.fine]
    first = min((one.began + one.took for one in failed if one.answered), default=math.inf)
    later = [one for one in failed if first < one.began < back]
    fine = min((one.began + one.took for one in all_samples if one.fine), default=math.inf)
    well = max((one.began + one.took for one in failed), default=0.0)
    return _Dead(
        first - begun,
        [one.took for one in later],
        sum(not one.answered for one in all_samples),
        fine - back,
        max(0.0, well - back) if all(samples[-1].fine for samples in load.samples) else math.inf,
    )


def _waits(contender: peers.Contender) -> tuple[float, float]:
    if not isinstance(contender, _Ours):
        return 0, 0.0
    stats = contender.tokens.stats
    return stats.waits, stats.wait_seconds


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.perf_counter()))


def _found(plan: _Plan, alive: Alive, dead: Dead) -> Found:
    ours = [run for down in DOWNS for run in alive[OURS.name, down]]
    waits, seconds = sum(run.waits for run in ours), sum(run.wait_seconds for run in ours)
    found = Found(_text(plan, waits, seconds), [_alive_table(alive), _dead_table(dead)])
    for down, does in DOWNS.items():
        runs = alive[OURS.name, down]
        samples = [sample for run in runs for sample in run.plain + run.one_shot]
        failed = sum(one.answered and not one.fine for one in samples)
        found.counts.append(Count(f"outage: failed while it {does}, token alive", failed, 0))
        if down != "hang":  # that it is down is not known before the first timeout
            # By our own clock at the gate, and whole seconds: a busy machine delays, too.
            waited = int(sum(run.wait_seconds for run in runs) / len(runs))
            what = f"outage: whole seconds waited while it {does}, token alive"
            found.counts.append(Count(what, waited, 0))
        delayed = sum(run.delayed(run.plain + run.one_shot) for run in runs)
        what = f"outage: delayed while it {does}, token alive"
        found.figures.append(Figure(what, delayed, at_most=0))
        worst = max(max(run.later, default=0.0) for run in dead[OURS.name, down])
        what = f"outage: slowest failure while it {does}, token dead"
        found.figures.append(Figure(what, worst, at_most=FAST, unit="s"))
    return found


def _text(plan: _Plan, waits: int, seconds: float) -> str:
    return (
        "The provider goes down in three ways: it answers 503, takes requests and never answers,"
        " or takes no connection. Every contender has a provider of its own for each. They go on"
        f" side by side, up to {AT_ONCE} contenders at once, {plan.rounds} time(s), since nearly"
        " all of it is waiting.\n\n"
        f"**While the token lives**: a token of {plan.life} s, and {plan.threads} threads that"
        " send, one of them PUTs of a body that can be read once. The provider goes down"
        f" {BEFORE} s before the token's last quarter and stays down until the token's end, shortly"
        " before which the count stops. In that quarter all contenders begin to refresh (ours by"
        " `ahead`), but for requests-oauthlib, which does so at the end. botocore has one thread"
        " refresh for its first third, and all for the rest, as it does in the last ten minutes of"
        f" an hour. *Delayed* is what took {LATE} s more than the median before the outage, or had"
        f" taken that long without an answer at the end. By its own counts {waits} requests of ours"
        f" waited for a renewal, {seconds:.2f} s all together: bodies that can be read once, which"
        " wait for a call that is under way rather than risk a refusal, and not for the pauses"
        " between calls; so one that comes during the first call to a provider that never answers"
        " is delayed for a second."
        " *Calls* are those that reached the"
        " provider. The timeout of our grant is 1 s, so that more than one round is seen in so"
        " short a time.\n\n"
        f"**When the token is dead**: {plan.dead_threads} threads send, each {DEAD_PAUSE} s after"
        " its last answer. Told are the time to the first failure, and what those took that came"
        " after it. In ours, who comes while the provider is asked anew waits for its answer, a"
        " second at most once it is known to be in trouble; between such rounds, which back off,"
        " all fail at once. After"
        f" {plan.outage:g} s the provider is back, and ours goes on when its backoff has ended."
        f" *inf*: not within {plan.recovery:g} s, as where threads refreshed side by side and their"
        " login is over."
    )


def _alive_table(alive: Alive) -> Table:
    head = ["", "the provider", "requests", "failed", "delayed"]
    head += ["with one-shot bodies", "failed", "delayed", "calls"]
    rows: list[list[object]] = []
    for (name, down), runs in alive.items():
        row: list[object] = [name, DOWNS[down]]
        for kind in ("plain", "one_shot"):
            each: list[list[Sample]] = [getattr(run, kind) for run in runs]
            row.append(sum(map(len, each)))
            row.append(sum(s.answered and not s.fine for samples in each for s in samples))
            row.append(sum(run.delayed(s) for run, s in zip(runs, each, strict=True)))
        row.append(sum(run.calls for run in runs) or "")
        rows.append(row)
    return Table(head, rows, "While the token lives")


def _dead_table(dead: Dead) -> Table:
    head = ["", "the provider", "first failure, s", "later ones: median, ms", "worst, s"]
    head += ["unanswered", "first success after its return, s", "last failure after it, s"]
    rows: list[list[object]] = []
    for (name, down), runs in dead.items():
        later = [took for run in runs for took in run.later]
        rows.append(
            [
                name,
                DOWNS[down],
                f"{statistics.median(run.first for run in runs):.2f}",
                f"{1000 * statistics.median(later):.0f}" if later else "",
                f"{max(later):.2f}" if later else "",
                sum(run.unanswered for run in runs),
                f"{statistics.median(run.succeeded for run in runs):.2f}",
                f"{statistics.median(run.all_well for run in runs):.2f}",
            ]
        )
    return Table(head, rows, "When the token is dead")
