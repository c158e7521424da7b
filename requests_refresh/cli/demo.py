"""The demo: many threads, one session, tokens that die under their hands.

The server leaves out `expires_in`, so the client cannot renew ahead of time
and learns of each expiry by the 401s alone: that is the hard way. The demo
does not run for a time but until so many tokens have died in use, and the
server itself counts expiries, refreshes and 401s.
"""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, MutableSequence, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..errors import RefreshError
from ..testing import AuthServer, Counts
from ..tokens import Token
from . import picture, storm
from .settings import Settings as Given
from .storm import Children, Job, Tally

_LOOK = 0.1  # seconds between two looks at the counts, for the live view
_INTERRUPTED = 130
_CELLS = (("·", "dim"), ("■", "yellow"), ("■", "green"), ("■", "blue"))  # as storm's states
_LEGEND = (("sent ", "green"), ("held ", "yellow"), ("sent again", "blue"))


@dataclass(frozen=True)
class Settings:
    """What the command line says; lifetime and latency in seconds."""

    naive: bool = False
    threads: int = 32
    expiries: int = 5
    lifetime: float = 2.0
    latency: float = 0.3
    processes: int = 1
    store: str | None = None
    svg: str | None = None


@click.command("demo")
@click.option(
    "--naive", is_flag=True, help="With the refresh queue of browser code, carried over to threads."
)
@click.option(
    "--threads", type=click.IntRange(1, 500), default=32, show_default=True, help="In each process."
)
@click.option(
    "--processes",
    type=click.IntRange(1, 32),
    default=1,
    show_default=True,
    help="With more than one, they share a store.",
)
@click.option(
    "--store", metavar="URL", help="The store that they share: a URL, or a profile whose is meant."
)
@click.option("--expiries", type=click.IntRange(1, 1000), default=5, show_default=True)
@click.option(
    "--lifetime",
    type=click.FloatRange(0.1, 600.0),
    default=2.0,
    show_default=True,
    help="Seconds that an access token lives.",
)
@click.option(
    "--latency",
    type=click.FloatRange(0.0, 10.0),
    default=0.3,
    show_default=True,
    help="Seconds that a refresh takes.",
)
@click.option(
    "--svg", metavar="PATH", type=click.Path(dir_okay=False), help="Draw the last storm, as an SVG."
)
def demo_command(**given: object) -> int:
    """Watch many threads survive the death of their token.

    Starts a provider with an API on this host, whose access tokens live for
    seconds, and which ends a login whose refresh token is used twice. Many threads
    work there on one session until so many tokens have died in use.

    Exit status: 0 when the promise was kept (one refresh for each expiry, no 401 and
    no error that a caller saw, the login alive at the end), 1 when it was broken,
    with --naive too.
    """
    return run(Settings(**given))  # type: ignore[arg-type] # click has checked them


def run(settings: Settings) -> int:
    """Run the demo, print its table, return the exit status: 0, 1 or 130. Blocks."""
    if settings.lifetime != settings.lifetime or settings.latency != settings.latency:
        raise click.UsageError("--lifetime and --latency are numbers of seconds.")
    server = AuthServer(
        lifetime=settings.lifetime,
        expires_in=False,
        log_size=0,
        # A request and its repetition must fit well into a token's life.
        latency={
            "token": settings.latency,
            "api": min(0.05, settings.lifetime / 10),
            "/api/report": min(2 * settings.latency, settings.lifetime / 4),
        },
    )
    tally = Tally()
    try:
        many = f"{settings.processes} processes, " * (settings.processes > 1)
        each = " each" * (settings.processes > 1)
        print(
            f"{many}{settings.threads} threads{each} on one session, {settings.expiries} expiries;"
            f" access tokens live {settings.lifetime:g} s, a refresh takes {settings.latency:g} s.",
            flush=True,
        )
        if settings.naive:
            print("The refresh queue of browser code, carried over to threads (--naive).")
        with server:
            _work(settings, server, tally)
            counts, alive = server.counts, server.logged_in()
    except KeyboardInterrupt:
        print("\nInterrupted.")
        return _INTERRUPTED
    print(_table(counts, tally, alive))
    broken = broken_promises(settings, counts, tally, alive)
    print("\nBroken:" if broken else "\nKept: one expiry, one refresh, nobody noticed.")
    for promise in broken:
        print(f"  - {promise}")
    if settings.svg is not None:
        print(_drawn(settings, tally))
    return 1 if broken else 0


def broken_promises(settings: Settings, counts: Counts, tally: Tally, alive: bool) -> list[str]:
    """What went wrong, in words; empty when all was kept."""
    broken = []
    if counts.refreshes + counts.refresh_refused != counts.expiries:
        broken.append(
            f"expiries: {counts.expiries}, refreshes: {counts.refreshes},"
            f" refused ones: {counts.refresh_refused}"
        )
    if tally.refused:
        broken.append(f"401s that a caller saw: {tally.refused}")
    if tally.errors:
        broken.append(f"errors that a caller saw: {tally.errors}; the first: {tally.first_error}")
    if not alive:
        broken.append(
            "the login is dead" + ": a refresh token was used twice" * bool(counts.reuses)
        )
    if counts.expiries < settings.expiries and not broken:
        broken.append(f"only {counts.expiries} of {settings.expiries} expiries came to pass")
    return broken


def _work(settings: Settings, server: AuthServer, tally: Tally) -> None:
    """Let the threads work through the expiries; `tally` is what their callers saw."""
    rows, reply = settings.threads * settings.processes, server.login()
    with _shared(settings, reply) as (store, identity):
        jobs = [
            Job(
                settings.naive,
                settings.threads,
                first,
                server.url,
                server.api,
                server.token_url,
                reply,
                store,
                identity,
                patience=2 * settings.latency + 2,
            )
            for first in range(0, rows, settings.threads)
        ]
        if settings.processes > 1:
            children = Children(jobs, rows)
            try:
                _watch(settings, server, tally, children.cells)
            finally:
                children.finish(tally)
            return
        cells, stop = bytearray(rows), threading.Event()
        storm.work(jobs[0], cells, tally, stop, lambda: _watch(settings, server, tally, cells))


@contextmanager
def _shared(settings: Settings, reply: dict[str, object]) -> Iterator[tuple[str | None, str]]:
    """The URL of a store with the login in it, and under which name; nothing of it is left."""
    identity = f"demo-{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory() as directory:
        url = settings.store
        if url is None and settings.processes > 1:
            url = f"file://{directory}/tokens.json"
        if url is None or settings.naive:  # the naive way knows no store
            yield None, identity
            return
        given = Given.gather({"store" if ":" in url else "profile": url}, environ={})
        with given.opened() as store:
            store.save(identity, Token.from_reply(reply))
            try:
                yield given.store, identity
            finally:
                with suppress(RefreshError):
                    store.delete(identity)


def _watch(
    settings: Settings, server: AuthServer, tally: Tally, cells: MutableSequence[int]
) -> None:
    """Block until enough tokens have died in use, or the login, or all patience is over."""
    limit = 10 + 2 * settings.expiries * (settings.lifetime + settings.latency)
    limit += settings.processes  # each takes its time to start
    until = time.monotonic() + limit
    counts = server.counts

    def over(counts: Counts) -> bool:
        return counts.expiries >= settings.expiries or counts.logins_ended > 0

    def view() -> Text:
        return _view(settings, counts, cells)

    console = Console()
    with Live(view(), console=console, transient=True, auto_refresh=False) as live:
        while not over(counts) and time.monotonic() < until:
            try:
                counts = server.wait_for(over, timeout=_LOOK)
            except TimeoutError:
                counts = server.counts
            if console.is_terminal:
                live.update(view(), refresh=True)


def _view(settings: Settings, counts: Counts, cells: Sequence[int]) -> Text:
    """The threads at this moment, a cell for each; one line for a process."""
    shown = Text()
    for first in range(0, len(cells), settings.threads):
        for cell in cells[first : first + settings.threads]:
            shown.append(*_CELLS[cell])
        shown.append("\n")
    shown.append(f"expiry {counts.expiries} of {settings.expiries}, ")
    shown.append(f"{counts.refreshes} refreshes, {counts.api_200} answers   ")
    for word, style in _LEGEND:
        shown.append(word, style)
    return shown


def _table(counts: Counts, tally: Tally, alive: bool) -> str:
    rows = [
        ("requests", f"{tally.requests}"),
        ("expiries: tokens that died in use", f"{counts.expiries}"),
        ("refreshes", f"{counts.refreshes}"),
        ("refreshes that were refused", f"{counts.refresh_refused}"),
        ("401s on the wire", f"{counts.api_401}"),
        ("requests held", f"{tally.held}"),
        ("longest hold", f"{tally.longest_hold:.2f} s"),
        ("401s that a caller saw", f"{tally.refused}"),
        ("errors that a caller saw", f"{tally.errors}"),
        ("login at the end", "alive" if alive else "dead"),
    ]
    return "\n" + "\n".join(f"  {name:<36}{value:>10}" for name, value in rows)


def _drawn(settings: Settings, tally: Tally) -> str:
    """Write the picture; what to say of it."""
    title = "The refresh queue of browser code" if settings.naive else "requests_refresh"
    drawn = picture.storm(tally.done, settings.lifetime / 2, f"{title}: one expiry")
    if drawn is None or settings.svg is None:
        return "\nNobody was refused, so there is no storm to draw."
    try:
        Path(settings.svg).write_text(drawn, "utf-8")
    except OSError as error:
        return f"\nThe picture could not be written: {error.strerror}."
    return f"\nThe storm is drawn in {settings.svg}."
