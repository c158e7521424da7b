"""`requests-refresh doctor`: what is wrong, and what to do. Nothing is spent unless asked for."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from importlib import metadata
from typing import Any, NamedTuple

import click
import requests
from rich.console import Console
from rich.text import Text

from ..errors import LoginRequired, RefreshError, RefreshTimeout
from ..grants.discovery import discovered
from ..grants.settings import shown, url_problem
from ..source import TokenSource
from ..stores import MemoryStore, TokenStore
from ..tokens import Token
from .options import with_settings
from .settings import Settings
from .shown import left_of, lifetime_of

_MARKS = {"ok": ("ok  ", "green"), "look": ("look", "yellow"), "bad": ("BAD ", "bold red")}
_PATIENCE = 5.0  # seconds for the store's place
_SKEW = 5.0  # seconds that a clock may be wrong without a word
_TIMEOUT = (5, 15)  # seconds
_OPTIONAL = ("redis", "SQLAlchemy", "keyring", "cryptography", "joserfc", "oauthlib")


class Found(NamedTuple):
    """One thing that was looked at: ok, look or bad; what was seen; what to do."""

    state: str
    said: str
    todo: str = ""


@click.command("doctor")
@click.option("--try-refresh", is_flag=True, help="Renew once, to see if refresh tokens rotate.")
@click.option(
    "--try-reuse",
    is_flag=True,
    help="Then use the old refresh token again, to see if there is a grace. MAY END THE LOGIN.",
)
@with_settings()
def doctor_command(settings: Settings, try_refresh: bool, try_reuse: bool) -> int:
    """Look for what is wrong, and say what to do.

    The store: reachable, private, lockable? The login: there, alive? The provider:
    reachable, and does its clock agree with this one? Refresh tokens: do they rotate,
    may one be used twice? The last two are tried only if you say so.

    Exit status: 0 when nothing is bad, 1 otherwise.
    """
    console, bad = Console(soft_wrap=True), False
    for found in _examined(settings, try_refresh, try_reuse):
        mark, style = _MARKS[found.state]
        console.print(Text(mark, style), Text(found.said))
        if found.todo:
            console.print(Text(f"       -> {found.todo}"))
        bad = bad or found.state == "bad"
    return 1 if bad else 0


def _examined(settings: Settings, try_refresh: bool, try_reuse: bool) -> Iterator[Found]:
    yield _versions()
    yield Found("ok", f"profile {settings.profile!r}, identity {settings.whose!r}")
    try:
        with settings.opened() as store:
            yield from _store(store, settings)
    except RefreshError as error:
        yield Found("bad", f"store: {error}", "Mend that first; the rest can wait.")
        return
    yield from _provider(settings)
    yield from _rotation(settings, try_refresh or try_reuse, try_reuse)


def _versions() -> Found:
    names = ["requests_refresh", "requests", "urllib3", *_OPTIONAL]
    there = [f"{name} {version}" for name in names if (version := _version(name))]
    return Found("ok", f"Python {platform.python_version()}, {', '.join(there)}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _store(store: TokenStore, settings: Settings) -> Iterator[Found]:
    if isinstance(store, MemoryStore):
        yield Found(
            "bad",
            "store: this one forgets all when the process ends",
            "Name one that lasts, such as --store file://~/.config/sync/tokens.json",
        )
        return
    token = store.load(settings.whose)
    begun = time.monotonic()
    try:
        with store.exclusive(settings.whose, _PATIENCE):
            took = time.monotonic() - begun
    except RefreshTimeout:
        yield Found(
            "look",
            f"store: {store!r} was held by another for {_PATIENCE:g} s",
            "A renewal runs, or a process hangs in one: look for it, then ask again.",
        )
    else:
        yield Found("ok", f"store: {store!r} is there, private, and locked in {took * 1000:.0f} ms")
    if (settings.store or "").startswith("redis:"):
        yield Found(
            "look",
            "store: tokens go to this Redis as they are, over plain TCP",
            "On another host take rediss://, and encrypt them: --keys-file.",
        )
    yield _login(token)


def _login(token: Any) -> Found:
    again = "Log in: requests-refresh login"
    if token is None:
        return Found("look", "login: none is stored under this identity", again)
    left = left_of(token)
    if token.refresh_token is None:
        dead = left is not None and left <= 0
        return Found(
            "bad" if dead else "look",
            f"login: there is no refresh token, and {lifetime_of(token)}",
            again + ", with a scope such as offline_access. With --grant client-credentials it is"
            " as it should be.",
        )
    return Found("ok", f"login: a refresh token is there, and {lifetime_of(token)}")


def _provider(settings: Settings) -> Iterator[Found]:
    """One question to the token endpoint that spends nothing: a GET, which it declines."""
    try:
        url = _endpoint(settings)
        settings.make_grant()
    except RefreshError as error:
        yield Found("bad", f"provider: {error}", "Mend the settings, or try later.")
        return
    problem = url_problem(url, "token_url")
    if problem:
        yield Found("bad", f"provider: {problem}")
        return
    sent = time.time()
    try:
        answer = requests.get(url, timeout=_TIMEOUT, allow_redirects=False, stream=True)
        answer.close()
    except requests.RequestException as error:
        yield Found(
            "bad",
            f"provider: {shown(url)} cannot be reached ({type(error).__name__})",
            "Look at the network, the proxy settings and, for SSLError, REQUESTS_CA_BUNDLE.",
        )
        return
    took, status = time.time() - sent, answer.status_code
    state = "look" if status >= 500 or status == 429 or 300 <= status < 400 else "ok"
    todo = "It answers, but not as a token endpoint does." if state == "look" else ""
    yield Found(state, f"provider: {shown(url)} answers ({status}) in {took:.2f} s", todo)
    yield _clock(answer.headers.get("Date"), sent, took)


def _clock(date: str | None, sent: float, took: float) -> Found:
    try:
        there = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return Found("look", "clock: the provider does not say what time it is")
    # The header has whole seconds, and was written at some time between the two.
    off = max(sent - there - 1.0, there - sent - took, 0.0)
    if off <= _SKEW:
        return Found("ok", "clock: it agrees with the provider's")
    return Found(
        "look",
        f"clock: it differs from the provider's by {off:.0f} s or more",
        "Set it (NTP). Lifetimes are counted here, so they hold; signed assertions and DPoP"
        " proofs may be refused.",
    )


def _endpoint(settings: Settings) -> str:
    if settings.token_url is None and settings.issuer is not None:
        return str(discovered(settings.issuer).fields["token_endpoint"])
    preset = settings.filled()
    return settings.token_url or (preset.token_url if preset is not None else "")


def _asked(question: str) -> bool:
    """Whether the person says yes. Nobody is asked where none is there."""
    if not sys.stdin.isatty():
        return False
    return click.confirm(question, err=True)


def _rotation(settings: Settings, refresh: bool, reuse: bool) -> Iterator[Found]:
    """Whether refresh tokens rotate, whether one can be used twice. Asked before it is tried."""
    if settings.grant == "client-credentials":
        return
    if not refresh and not _asked("Renew once, as usual, to see whether refresh tokens rotate?"):
        yield Found("look", "rotation: not tried", "--try-refresh renews once, to see.")
        return
    try:
        with settings.source() as tokens, settings.opened() as store:
            before = store.load(settings.whose)
            if before is None or before.refresh_token is None:
                yield Found("look", "rotation: not tried, as there is no refresh token")
                return
            after = tokens.renew(before)
            if after.refresh_token == before.refresh_token:
                yield Found("ok", "rotation: none, the refresh token stays the same")
                return
            yield Found("ok", "rotation: on, each refresh brings another refresh token")
            if not reuse and not _asked(
                "Use the old refresh token once more, to see whether there is a grace? A provider"
                " that detects reuse ENDS THE LOGIN for that."
            ):
                yield Found("look", "grace: not tried", "--try-reuse tries; it may end the login.")
                return
            yield _grace(tokens, lambda: _used_again(settings, before))
    except RefreshError as error:
        yield Found("bad", f"refresh: {error}")


def _used_again(settings: Settings, before: Token) -> Any:
    grant: Any = settings.make_grant()
    return grant(before)


def _grace(tokens: TokenSource, use_again: Callable[[], Any]) -> Found:
    """What comes of a second use, and whether the login outlives it."""
    try:
        tokens.login(use_again())  # the newest issue is the one that counts
        granted = True
    except LoginRequired:
        granted = False
    try:
        tokens.renew(tokens.token())
    except LoginRequired:
        return Found(
            "bad",
            "grace: none. The provider took the second use for theft and ended the login",
            "Log in again: requests-refresh login. A process that is killed between the provider's"
            " answer and the save costs the login here: keep the store close and fast.",
        )
    if granted:
        return Found("ok", "grace: a refresh token that was used a moment ago still works")
    return Found("ok", "grace: none, a used refresh token is refused, and the login lives on")
