"""What a soak shows: which rules were broken, and the table.

The rules: no request fails that no fault explains, no refresh comes twice or too soon
that no fault explains, no process grows, nothing hangs, the login lives to the end, and
its newest refresh token is in the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from .kinds import LIFE, Fault
from .ledger import Issue
from .run import Failed, Process, Sample, Soak

_WARM = 10.0  # seconds in which a process grows into its size
_FEWEST = 20  # samples after that, for a judgement
_TOO_SOON = 0.25  # of a life; nobody renews before half of it
# Of memory: 16 threads that send by requests alone, without this package, take about 6 MiB
# more in their first 20,000 requests, and nothing after that.
_MOST_GROWTH = {"rss": 10 << 20, "files": 4, "sockets": 8, "threads": 4}
_SHOWN = 10  # of the failures that break a rule


def explains(faults: list[Fault], failed: Failed) -> Fault | None:
    """The fault that explains a failure, the latest of several, or None."""
    for fault in reversed(faults):
        mine = not fault.kind.own or fault.pid == failed.pid
        may = mine and failed.outcome in fault.kind.errors
        if may and fault.touches(failed.began, failed.ended):
            return fault
    return None


def needless(issues: list[Issue]) -> Iterator[tuple[str, Issue, Issue]]:
    """The refreshes beyond one for each expiry: in which way, what was there, what came."""
    for last, issue in pairwise(issues):
        if issue.repeat:
            yield "repeat", last, issue
        elif issue.sent - last.sent < _TOO_SOON * LIFE and not last.revoked:
            yield "early", last, issue


def growth(process: Process) -> dict[str, tuple[float, float]]:
    """Of each thing a process has: the median when it was warm, and at its end."""
    warm = [one for one in process.samples if one.at - process.began > _WARM]
    if len(warm) < _FEWEST:
        return {}
    part = len(warm) // 5

    def middle(name: str, samples: list[Sample]) -> float:
        return float(median(getattr(one, name) for one in samples))

    return {name: (middle(name, warm[:part]), middle(name, warm[-part:])) for name in _MOST_GROWTH}


class Verdict:
    """`broken`: what was broken, in words. `table()`: the figures."""

    def __init__(self, soak: Soak) -> None:
        self._soak = soak
        self.broken = [*soak.wrong]
        self.explained: Counter[tuple[str, str]] = Counter()
        self.extra: Counter[tuple[str, str]] = Counter()
        self._judge_requests()
        self._judge_refreshes()
        self._judge_processes()
        if not soak.alive:
            self.broken.append("the login has ended")
        if not soak.stored:
            self.broken.append("the newest refresh token is not in the store")

    def _judge_requests(self) -> None:
        soak = self._soak
        unexplained = []
        for failed in soak.failed:
            fault = explains(soak.faults, failed)
            if fault is None:
                unexplained.append(failed)
            else:
                self.explained[fault.kind.name, f"{failed.kind} {failed.outcome}"] += 1
        if unexplained:
            self.broken.append(f"{len(unexplained)} requests failed that no fault explains")
        for failed in unexplained[:_SHOWN]:
            began, ended = failed.began - soak.began, failed.ended - soak.began
            self.broken.append(
                f"  {began:.2f} to {ended:.2f} s, process {failed.pid}: {failed.kind}"
                f" {failed.outcome} {failed.text}"
            )
        if not self.requests["GET ok"]:
            self.broken.append("no request succeeded")

    def _judge_refreshes(self) -> None:
        soak, counts = self._soak, self._soak.server.counts
        if len(soak.server.issues) < 2:
            self.broken.append("nothing was refreshed")
        if counts.reuses or counts.refresh_refused:
            self.broken.append(
                f"the provider refused {counts.refresh_refused} refreshes, for"
                f" {counts.reuses} of which a refresh token was used that had been spent"
            )
        for way, last, issue in needless(soak.server.issues):
            for fault in reversed(soak.faults):
                if way in fault.kind.refreshes and fault.touches(last.sent, issue.at):
                    self.extra[way, fault.kind.name] += 1
                    break
            else:
                self.broken.append(
                    f"a refresh at {issue.at - soak.began:.2f} s by {issue.by}, {way}:"
                    f" {issue.sent - last.sent:.2f} s after that by {last.by}"
                )

    def _judge_processes(self) -> None:
        for process in self._soak.processes:
            for name, (first, last) in growth(process).items():
                # A pool makes a connection for each of its threads, the last of them late.
                few = self._soak.threads_each if name == "sockets" else 0
                if last - max(first, few) > _MOST_GROWTH[name]:
                    self.broken.append(
                        f"the {name} of worker {process.number}, process {process.popen.pid},"
                        f" grew from {first:.0f} to {last:.0f}"
                    )

    @property
    def requests(self) -> Counter[str]:
        return sum((Counter(one.counts) for one in self._soak.processes), Counter[str]())

    def table(self) -> str:
        soak, issues = self._soak, self._soak.server.issues
        ran = soak.ended - soak.began
        quiet = ran - sum(ended - began for began, ended in self._rows())
        ends = sum(not issue.repeat for issue in issues) - 1
        begun = (
            f"seed {soak.seed}: {ran:.0f} s of {soak.seconds:.0f}"
            f"{', interrupted' * soak.interrupted}, {soak.threads} threads in all;"
            f" {len(soak.faults)} faults; {quiet:.0f} s in which nothing explains a failure"
        )
        refreshed = (
            f"refreshes: {len(issues) - 1} for {ends} expiries,"
            f" {soak.server.revocations} of them early by revocation"
        )
        extra = sorted(self.extra.items())
        lines = [
            begun,
            "",
            "requests",
            *(f"  {name:32}{times:8}" for name, times in sorted(self.requests.items())),
            "",
            "failures explained, by fault",
            *(
                f"  {fault:18}{what:32}{times:6}"
                for (fault, what), times in sorted(self.explained.items())
            ),
            "",
            refreshed,
            *(f"  {way:8}{fault:24}{times:6}" for (way, fault), times in extra),
            "",
            "faults, by kind",
            *map(self._came, sorted({fault.kind.name for fault in soak.faults})),
            "",
            "worker      pid  lived s    RSS MiB warm, last    files     sockets    threads",
            *map(self._row, soak.processes),
            "",
            f"logged as errors: {len(soak.logs)}",
            *(f"  {line}" for line in soak.logs[:_SHOWN]),
            "",
            *(["BROKEN", *self.broken] if self.broken else ["no rule was broken"]),
        ]
        return "\n".join(lines)

    def _rows(self) -> Iterator[tuple[float, float]]:
        """When something was explained, within the run."""
        row = 0.0
        for fault in sorted(self._soak.faults, key=lambda fault: fault.began):
            if fault.row_ends != row:
                row = fault.row_ends
                yield fault.began, min(row, self._soak.ended)

    def _came(self, name: str) -> str:
        lasted = [one.ended - one.began for one in self._soak.faults if one.kind.name == name]
        return f"  {name:24}{len(lasted):6}, for {max(lasted):.1f} s at most"

    @staticmethod
    def _row(process: Process) -> str:
        lived = (process.ended or 0.0) - process.began
        said = f"{process.number:6}{process.popen.pid:9}{lived:9.0f}"
        grown = growth(process)
        if not grown:
            return f"{said}    too short a life"
        rss, *others = grown.values()
        said += f"{rss[0] / 2**20:15.1f}{rss[1] / 2**20:7.1f}"
        return said + "".join(f"{first:7.0f}{last:4.0f}" for first, last in others)
