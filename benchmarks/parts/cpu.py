"""What a session that keeps itself logged in adds to the CPU of a request, and where it goes.

By itself, with the name of a contender and a number, it only sends so many
requests: that is run under a tool that counts instructions.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from shutil import which
from types import SimpleNamespace
from typing import Any, cast

from requests import PreparedRequest, Request, Response
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse, Retry

from benchmarks.base import Figure, Found, Plot, Size, Table, WentOn
from benchmarks.peers import BARE, OURS, Contender, Peer, peers
from benchmarks.server import Server
from requests_refresh import RefreshAdapter, adapter
from requests_refresh.gate import at_work
from requests_refresh.origins import origin_of
from requests_refresh.replay import Body

TITLE = "CPU added to a request"

_NOWHERE = cast(  # nothing is ever sent
    Server,
    SimpleNamespace(api="http://127.0.0.1:9/", token_url="http://127.0.0.1:9/token"),
)
_LOGIN = {
    "access_token": "access-" + "a" * 800,  # about what a JWT takes
    "token_type": "Bearer",
    "scope": "all",
    "expires_in": 86400,
    "refresh_token": "refresh",
}
_BATCH = 25  # requests that are timed at once: few, so that most batches are undisturbed
_WARM_UP = 300  # requests
_COUNTED = 300  # requests whose instructions are counted
_BY_HAND = Peer("header set by hand", "requests", BARE.make)

# What is measured: a name, trust_env, and whether each request has a URL of its own.
_CASES = {
    "one URL": (False, False),
    "URLs that differ": (False, True),
    "trust_env=True": (True, True),
}
_FIRM = "one URL"  # for which the figure is to be reached


class Null(HTTPAdapter):
    """Sends nothing: a fresh, empty 200 at once, as small as a Session takes it."""

    _raw = HTTPResponse(status=200, retries=Retry(0))

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        response = Response()
        response.status_code = 200
        response.url = request.url or ""
        response.request = request
        response.raw = self._raw
        response.connection = self
        response._content = b""  # as if it were read, or reading it would cost more than all else
        return response


def steps(size: Size) -> int:
    return _rounds(size) + 2


def _rounds(size: Size) -> int:
    return 24 * size.rounds


def run(size: Size, went_on: WentOn) -> Found:
    here = _contenders()
    with ExitStack() as stack:
        running = {peer.name: stack.enter_context(closing(_made(peer))) for peer in here}
        means = _measure(running, _rounds(size), went_on)
    added = {case: _added(found) for case, found in means.items()}
    bare = {case: statistics.median(found[BARE.name]) for case, found in means.items()}
    firm = added[_FIRM]
    parts, alone = _split(15 if size.small else 60, firm[OURS.name])
    went_on("ours in its parts")
    tool, instructions = _instructions([peer.name for peer in here], size.small)
    went_on("instructions")
    return Found(
        _text(size, tool),
        [_table(added, bare, instructions), parts],
        [Plot("cpu", lambda figure: _draw(figure, added), _CAPTION, height=4.2)],
        figures=[
            Figure(f"CPU that a request costs more, trust_env=False, {over}", more, 6, unit="µs")
            for over, more in {
                "over one that carries no token": firm[OURS.name],
                "over one with the header set by hand": firm[OURS.name] - firm[_BY_HAND.name],
                "the adapter's `send` alone": alone,
            }.items()
        ],
    )


def _contenders() -> list[Peer]:
    here, _ = peers()
    return [BARE, _BY_HAND, *(peer for peer in here if peer is not BARE)]


def _made(peer: Peer) -> Contender:
    contender = peer.make(_NOWHERE, _LOGIN, Null())
    contender.session.trust_env = False
    if peer is BARE:  # the floor: not even a header more
        del contender.session.headers["Authorization"]
    return contender


# ----- times

_Means = dict[str, dict[str, list[float]]]  # µs of a request: by case and name, of each round


def _measure(running: Mapping[str, Contender], rounds: int, went_on: WentOn) -> _Means:
    means: _Means = {case: {name: [] for name in running} for case in _CASES}
    for contender in running.values():
        _batch(contender, _paths(True, _WARM_UP))
    for done in range(rounds):
        for case, (trusting, differ) in _CASES.items():
            turns = list(running)
            random.shuffle(turns)
            for name in turns:
                running[name].session.trust_env = trusting
                means[case][name].append(_batch(running[name], _paths(differ, _BATCH)))
        went_on(f"round {done + 1}")
    return means


_numbers = itertools.count()


def _paths(differ: bool, number: int) -> list[str]:
    """Paths to send to; those that differ were never there before, so nothing is kept of them."""
    return [f"items/{next(_numbers)}" if differ else "items/0" for _ in range(number)]


def _batch(contender: Contender, paths: list[str]) -> float:
    """Microseconds of this thread's CPU for each request."""
    get = contender.get
    begun = time.thread_time_ns()
    for path in paths:
        get(path)
    return (time.thread_time_ns() - begun) / len(paths) / 1000


def _added(found: Mapping[str, list[float]]) -> dict[str, float]:
    """Over the bare session's batch of the same round: the medians over the rounds."""
    bare = found[BARE.name]
    return {
        name: statistics.median(mine - floor for mine, floor in zip(times, bare, strict=True))
        for name, times in found.items()
    }


# ----- ours in its parts


def _split(batches: int, in_session: float) -> tuple[Table, float]:
    with closing(_made(OURS)) as contender:
        url = _NOWHERE.api + "items/0"
        request = contender.session.prepare_request(Request("GET", url))
        ours = contender.session.get_adapter(url)
        assert isinstance(ours, RefreshAdapter)
        null = Null()
        options: dict[str, Any] = {"stream": False, "timeout": 30.0, "verify": True}
        options |= {"cert": None, "proxies": {}}
        pieces = _pieces(ours, request, null.send(request))
        pieces["(the whole)"] = lambda: ours.send(request, **options)
        pieces["(the transport)"] = lambda: null.send(request, **options)
        pieces["(nothing)"] = lambda: None
        best = dict.fromkeys(pieces, float("inf"))
        for _ in range(batches):
            for name in random.sample(list(pieces), len(pieces)):
                best[name] = min(best[name], _repeated(pieces[name], 1000))
    whole, transport, nothing = (
        best.pop(f"({what})") for what in ("the whole", "the transport", "nothing")
    )
    alone = {name: max(0.0, took - nothing) for name, took in best.items()}
    ordered = sorted(alone.items(), key=lambda item: -item[1])
    rows: list[list[object]] = [[name, round(took, 2)] for name, took in ordered]
    rest = whole - transport - sum(alone.values())
    rows.append(["calls from one to the next, arguments, letting go of the copy", round(rest, 2)])
    rows.append(["**all of `RefreshAdapter.send` but the transport**", round(whole - transport, 2)])
    rows.append(["**the same amid a session's other work**", round(in_session, 2)])
    return Table(["part", "µs"], rows, "Ours in its parts, each alone"), whole - transport


def _pieces(
    ours: RefreshAdapter, request: PreparedRequest, response: Response
) -> dict[str, Callable[[], object]]:
    """What `RefreshAdapter.send` does for a request whose token is fresh."""
    tokens, scheme = ours.tokens, ours._scheme
    token = tokens.token()
    url, headers, origin = request.url, request.headers, origin_of(request.url)
    signed = request.copy()

    def options() -> object:
        return {"stream": 0, "timeout": 0, "verify": 0, "cert": 0, "proxies": 0}

    def body() -> Body:
        return adapter._NO_BODY if request.body is None else Body(request, 0)

    def overwriting() -> bool:
        return not ours._overwrote and len(headers) - len(headers) > ours._adds

    def restored() -> None:
        response.request = request
        response.connection = ours

    def history() -> None:
        for _ in getattr(getattr(response.raw, "retries", None), "history", ()):
            pass

    return {
        "origin: cutting the URL": lambda: origin_of(url),
        "origin: is it declared": lambda: origin in ours._origins,
        "is the request `anonymous`": lambda: adapter._MARK in request.hooks,
        "is it the round's own": lambda: at_work(tokens._gate),
        "options for the transport": options,
        "can the body be sent again": body,
        "is the token fresh": tokens._fresh,
        "what the caller was handling": lambda: sys.exc_info()[1],
        "copying the request": lambda: adapter._shallow_copy(request),
        "copying the headers": headers.copy,
        "a header of the caller's own": overwriting,
        "putting the token on it": lambda: scheme.attach(signed, token),
        "restoring the response's request": restored,
        "failed sends before it": history,
        "is another nonce wanted": lambda: hasattr(scheme, "again"),
        "was it refused": lambda: scheme.refused(response),
        "has the token proved good": lambda: tokens._strikes.unproven is token,
    }


def _repeated(work: Callable[[], object], times: int) -> float:
    """Microseconds of each."""
    numbers = range(times)
    begun = time.perf_counter()
    for _ in numbers:
        work()
    return (time.perf_counter() - begun) / times * 1e6


# ----- instructions


def _instructions(names: list[str], small: bool) -> tuple[str, dict[str, int]]:
    """What they were counted with, "" if they were not, and how many each request takes."""
    tool = "perf" if _count("perf", BARE.name, 0) else "valgrind"
    if tool == "valgrind" and (small or which(tool) is None):  # it takes minutes
        return "", {}
    found = {}
    for name in names:
        once, twice = (_count(tool, name, times * _COUNTED) for times in (1, 2))
        if once and twice:
            found[name] = (twice - once) // _COUNTED
    return tool, found


def _count(tool: str, name: str, requests: int) -> int:
    """Instructions of a process that sends so many requests; 0 if they cannot be counted."""
    if which(tool) is None:
        return 0
    perf = ["perf", "stat", "--no-inherit", "-x,", "-e", "instructions:u"]
    valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no"]
    valgrind += [f"--cachegrind-out-file={os.devnull}"]
    python = [sys.executable, "-m", __spec__.name, name, str(requests)]
    done = subprocess.run(
        (perf if tool == "perf" else valgrind) + python,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
    )
    pattern = r"^(\d+),.*instructions" if tool == "perf" else r"I\s+refs:\s+([\d,]+)"
    found = re.search(pattern, done.stderr, re.MULTILINE)
    return int(found[1].replace(",", "")) if found and not done.returncode else 0


def _send(name: str, requests: int) -> None:
    peer = next(peer for peer in _contenders() if peer.name == name)
    with closing(_made(peer)) as contender:
        for path in _paths(False, requests):
            contender.get(path)


# ----- the report


def _table(
    added: Mapping[str, Mapping[str, float]],
    bare: Mapping[str, float],
    instructions: Mapping[str, int],
) -> Table:
    rows: list[list[object]] = []
    for name in added[_FIRM]:
        row: list[object] = [name]
        for case in _CASES:
            is_floor = name == BARE.name
            row.append(f"({bare[case]:.0f})" if is_floor else round(added[case][name], 1))
        if name in instructions:
            row.append(instructions[name] - (0 if name == BARE.name else instructions[BARE.name]))
        rows.append(row + [None] * (len(_CASES) + bool(instructions) + 1 - len(row)))
    columns = ["", *(f"{case}, µs" for case in _CASES)]
    return Table(columns + ["instructions"] * bool(instructions), rows, "Added to a request")


_CAPTION = "Microseconds of CPU that each adds to a request, trust_env=False, nothing sent."


def _draw(figure: Any, added: Mapping[str, Mapping[str, float]]) -> None:
    axes = figure.subplots()
    found = sorted(
        ((more, name) for name, more in added[_FIRM].items() if name != BARE.name), reverse=True
    )
    colors = ["C0" if name == OURS.name else "#999999" for _, name in found]
    bars = axes.barh([name for _, name in found], [more for more, _ in found], color=colors)
    axes.bar_label(bars, [f"{more:.1f}" for more, _ in found], padding=3)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.1)
    axes.set_xlabel("µs added to a request")


def _text(size: Size, tool: str) -> str:
    if tool:
        counted = (
            f" Instructions, all in user space, were counted by {tool}, as the difference of"
            f" {_COUNTED} requests and twice as many, so that starting cancels out."
        )
    else:
        counted = (
            " Instructions were not counted: perf cannot count them here, and valgrind, which takes"
            " minutes, is left to the nightly size."
        )
    return (
        "Each contender sends GETs through a transport that returns an empty 200 at once, the same"
        f" for all. Batches of {_BATCH} requests take turns, {_rounds(size)} rounds, timed by the"
        " CPU of their thread; told is the median of the differences to the bare session's batch"
        " of the same round, which has no token at all (its own time is in brackets). With"
        " `trust_env=True` requests looks for proxies and a netrc at each request, which a session"
        " that has an `auth` of its own is in part spared. URLs that differ are never in the caches"
        f" of `urllib.parse`.{counted}\n\n"
        "Three figures are told of ours. Over a session whose requests carry no token at all: the"
        " strictest, with what any way to put a token on a request costs. Over a session with the"
        " same header set by hand, which is what one would have without a library. And"
        " `RefreshAdapter.send` alone, in a loop, less its transport: the second table takes that"
        " apart, each part alone, the best of its batches. In a loop everything is at hand in the"
        " processor's caches; amid a session's other work about the same instructions take about"
        " twice as long, as the last row shows.\n\n"
        "What bounds it: a signed copy needs headers of its own, and `CaseInsensitiveDict.copy`"
        " sets one after the other in Python; then the calls themselves. What was tried, in a"
        " session, of 9 µs: copying the headers by requests' private `_store` saves 1.6, a mapping"
        " laid over the caller's headers 1.5, not looking whether a header of the caller's is"
        " overwritten 0.5, fewer calls from function to function 0.8; the mapping and fewer calls"
        " together leave 6.5"
        " to 6.9. None was kept: they reach into requests, give adapters headers that change under"
        " them, or hide how the code goes. What was kept: cutting a URL by the very call that"
        " requests makes, so that it is cut once; copying a request attribute by attribute, which"
        " makes no dict of it; nothing made for waiting before somebody waits."
    )


if __name__ == "__main__":
    _send(sys.argv[1], int(sys.argv[2]))
