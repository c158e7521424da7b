"""A storm seen as a picture: each request a bar in time, coloured by what it did."""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from benchmarks.base import Count, Found, Plot, Size, WentOn
from benchmarks.peers import CONNECTIONS, OURS, REQUESTS_OAUTHLIB, Peer, version
from benchmarks.server import Server

TITLE = "A storm, seen"

THREADS, LASTS, LATENCY = 40, 2.4, 0.3  # threads; seconds of all; seconds of the provider
# Seconds of the first token, as its reply says and as the server keeps it: it ends before it can
# be refreshed ahead, which nobody would see.
TOLD, LIVES = 1, 0.5
_PAUSE = 0.06  # seconds between the requests of a thread
_HELD = 0.05  # seconds from a request's start to its first send that are more than its own work
_SEEN = 0.006  # seconds: a bar that is shorter is drawn so long, to be seen

SENT, HELD, AGAIN, FAILED = "sent", "held, then sent", "refused, sent again", "failed"
COLOURS = {SENT: "#56b4e9", HELD: "#e69f00", AGAIN: "#0072b2", FAILED: "#d55e00"}


@dataclass(frozen=True)
class _Bar:
    thread: int
    begun: float
    ended: float
    what: str


class _Recorder(HTTPAdapter):
    """Notes, for the thread that sends, when it first sent to the API and what was refused."""

    def __init__(self) -> None:
        super().__init__(pool_maxsize=CONNECTIONS)
        self.seen = threading.local()

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        seen = vars(self.seen)
        seen.setdefault("first", time.perf_counter())
        response = super().send(request, *args, **options)
        seen["refused"] = seen.get("refused", 0) + (response.status_code == 401)
        return response


def _record(peer: Peer) -> tuple[list[_Bar], dict[str, int]]:
    """What each request did, and what the server counted."""
    bars: list[_Bar] = []
    with Server(lifetime=3600, latency=LATENCY) as server:
        recorder = _Recorder()
        contender = peer.make(server, server.login() | {"expires_in": TOLD}, recorder)
        origin = time.perf_counter()

        def work(thread: int) -> None:
            time.sleep(thread * _PAUSE / THREADS)
            while (begun := time.perf_counter()) < origin + LASTS:
                vars(recorder.seen).clear()
                status = 0  # as for whatever a peer raises
                with suppress(Exception):
                    status = contender.get("item")
                ended, seen = time.perf_counter(), vars(recorder.seen)
                what = SENT
                if status != 200:
                    what = FAILED
                elif seen["refused"]:
                    what = AGAIN
                elif seen["first"] - begun > _HELD:
                    what = HELD
                bars.append(_Bar(thread, begun - origin, ended - origin, what))
                time.sleep(_PAUSE)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        try:
            for worker in workers:
                worker.start()
            time.sleep(max(0.0, origin + LIVES - time.perf_counter()))
            server.kill()
            for worker in workers:
                worker.join()
        finally:
            contender.close()
            recorder.close()
        return bars, server.counts()


def steps(size: Size) -> int:
    return 2


def run(size: Size, went_on: WentOn) -> Found:
    panels = []
    logging.disable()  # of errors that are looked for here
    try:
        for peer in (OURS, REQUESTS_OAUTHLIB):
            if version(peer) is not None:
                panels.append((peer.name, *_record(peer)))
            went_on(peer.name)
    finally:
        logging.disable(logging.NOTSET)

    def draw(figure: Any) -> None:
        _draw(figure, panels)

    caption = (
        f"{THREADS} threads on one login, whose token dies at {LIVES} s. Each bar is a request."
    )
    found = Found(_TEXT, plots=[Plot("storm", draw, caption, width=9.0, height=5.2)])
    bars, counts = panels[0][1:]
    found.counts = [
        Count("picture: refreshes", counts["refreshes"], 1),
        Count("picture: failed requests", sum(bar.what == FAILED for bar in bars), 0),
    ]
    return found


def _draw(figure: Any, panels: list[tuple[str, list[_Bar], dict[str, int]]]) -> None:
    figure.set_facecolor("white")
    all_axes = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, bars, counts) in zip(all_axes, panels, strict=True):
        for what, colour in COLOURS.items():
            # One line with gaps for all bars of a colour: the file stays small.
            xs, ys = list[float](), list[float]()
            for bar in bars:
                if bar.what == what:
                    xs += [bar.begun, max(bar.ended, bar.begun + _SEEN), math.nan]
                    ys += [bar.thread, bar.thread, math.nan]
            axes.plot(xs, ys, color=colour, linewidth=2.2, solid_capstyle="butt", label=what)
        failed = sum(bar.what == FAILED for bar in bars)
        asked = f"the provider asked {_times(counts['calls'])}"
        axes.set_title(f"{name}: {asked}, {failed:,} of {len(bars):,} requests failed")
        axes.set_facecolor("white")
        axes.set_ylabel("thread")
        axes.set_yticks([])
        axes.grid(False)
        for moment in (LIVES, TOLD):
            axes.axvline(moment, color="#555555", linewidth=0.8, linestyle=":")
    all_axes[-1].set_xlim(0, LASTS + _PAUSE)
    all_axes[-1].set_xlabel("seconds; dotted: the server's end of the token, and the clock's")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


_TEXT = f"""\
{THREADS} threads send one GET after the other with one session and one login. Its first token says
that it lives {TOLD} s, but the server ends it after {LIVES} s: were it to live as long as it says,
ours would be refreshed ahead, and nothing would be seen. The provider takes {LATENCY} s. Each runs
by itself, against a server of its own. A request is held when more than {_HELD} s pass before its
first send, and a bar is drawn {_SEEN} s long at least.

requests-oauthlib does not look at a 401: its requests fail from the server's end of the token on.
At the clock's end each thread refreshes with the same refresh token, and that ends the login.
"""
