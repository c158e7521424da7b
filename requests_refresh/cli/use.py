"""The commands that use a login: refresh, get, run, logout, copy."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import click
import requests

from ..errors import ConfigurationError
from ..origins import origin_of, parse_origins
from ..stores import TokenStore, copy
from .options import with_settings
from .profiles import VARIABLE
from .settings import Settings
from .shown import left_of, lifetime_of

_CHUNK = 65536  # bytes
_NOT_FOUND, _NOT_RUN = 127, 126  # as a shell has them


@click.command("refresh")
@click.option("--if-due", is_flag=True, help="Only in the last part of the token's life, or after.")
@with_settings()
def refresh_command(settings: Settings, if_due: bool) -> None:
    """Renew the access token now, and keep what the provider issues.

    Others that share the store take it over; nobody is disturbed.
    """
    with settings.source(background=False) as tokens:
        token = tokens.token()
        if not if_due and not tokens.stats.refreshes:
            token = tokens.renew(token)
        done = "Renewed" if tokens.stats.refreshes else "Not due"
    click.echo(f"{done}: {lifetime_of(token)}.")


@click.command("get")
@click.argument("url")
@click.option("-H", "--header", multiple=True, metavar="NAME:VALUE", help="One more header.")
@click.option("-o", "--output", type=click.File("wb", lazy=True), help="Write to a file.")
@click.option("-i", "--include", is_flag=True, help="Show status and headers, on standard error.")
@with_settings()
def get_command(
    settings: Settings, url: str, header: tuple[str, ...], output: BinaryIO | None, include: bool
) -> int:
    """Send a GET request for URL through a stored login; its answer streams to stdout.

    The token goes to the origins of the profile, or of --origin; where none is
    named, to that of URL. A redirect to another server goes without it.

    Exit status: 1 where the API answers with an error, whose body is printed too.
    """
    _check_goes_to(settings, url)
    headers = dict(map(_header, header))
    with settings.source() as tokens, requests.Session() as session:
        adapter = settings.adapter(tokens, url)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        with session.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
            if include:
                _show_head(response)
            out = sys.stdout.buffer if output is None else output
            for chunk in response.iter_content(_CHUNK):
                out.write(chunk)
            out.flush()
    if response.status_code >= 400:
        click.echo(f"HTTP {response.status_code} {response.reason}", err=True)
        return 1
    return 0


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True)
@click.option(
    "--variable", default="ACCESS_TOKEN", show_default=True, help="The variable that has the token."
)
@click.option(
    "--at-least",
    type=click.FloatRange(min=0.0),
    metavar="SECONDS",
    help="How long the token is to live at least; it is renewed before if need be.",
)
@with_settings()
def run_command(
    settings: Settings, command: tuple[str, ...], variable: str, at_least: float | None
) -> int:
    """Run COMMAND with a fresh access token in a variable, for tools that cannot mount.

    \b
    requests-refresh run -p acme -- sh -c \\
        'curl -H "Authorization: Bearer $ACCESS_TOKEN" https://api.example.com/items'

    COMMAND takes this one's place: its exit status, its signals. It gets one token
    and no more, and none of this command's own secrets.
    """
    if not variable.isidentifier():
        raise click.UsageError("--variable takes a name of letters, digits and underscores.")
    with settings.source(background=False) as tokens:
        token = tokens.token()
        left = left_of(token)
        if at_least is not None and left is not None and left < at_least:
            token = token if tokens.stats.refreshes else tokens.renew(token)
    if token.token_type.lower() == "dpop":
        raise ConfigurationError(
            "This login is bound to a key (DPoP), and its token is of no use without it. Nothing"
            " was run. Use `requests-refresh get`, or the library."
        )
    environ = {k: v for k, v in os.environ.items() if not k.startswith(VARIABLE)}
    environ[variable] = token.access_token or ""
    program = shutil.which(command[0], path=environ.get("PATH"))
    if program is None:
        click.echo(f"{command[0]!r} is no command that can be found.", err=True)
        return _NOT_FOUND
    sys.stdout.flush()
    sys.stderr.flush()
    with suppress(OSError):
        os.execve(program, list(command), environ)  # noqa: S606  # what the user asks for
    click.echo(f"{program!r} cannot be run.", err=True)
    return _NOT_RUN


@click.command("logout")
@click.option("--revoke", is_flag=True, help="Have the provider end it as well (RFC 7009).")
@with_settings()
def logout_command(settings: Settings, revoke: bool) -> None:
    """Forget a login, for all that share the store."""
    with settings.opened() as store:
        was_there = store.load(settings.whose) is not None
    if not was_there:
        click.echo(f"No login of {settings.whose!r} is stored.", err=True)
        return
    with settings.source(provider=revoke) as tokens:
        tokens.logout(revoke=revoke)
    click.echo(f"Logged out: {settings.whose!r}" + " at the provider, too." * revoke)


@click.command("copy")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--identity", multiple=True, help="Only this login; may be repeated.")
@click.option("--move", is_flag=True, help="Remove each from SRC once it is in DST.")
def copy_command(source: str, target: str, identity: tuple[str, ...], move: bool) -> None:
    """Copy logins from the store SRC to the store DST, or move them.

    Each is the URL of a store, or the name of a profile whose store is meant. What
    DST holds is never overwritten. A login that is used from two stores is
    lost to one of them at the next refresh, under most providers: stop who uses SRC
    before, or --move.
    """
    with _named(source) as from_, _named(target) as to:
        names: Iterable[str] | None = identity or None
        done = copy(from_, to, names, move=move)
    click.echo(f"{done} {'moved' if move else 'copied'}")


@contextmanager
def _named(place: str) -> Iterator[TokenStore]:
    """The store of a URL or of a profile, closed in the end."""
    given = {"store": place} if ":" in place else {"profile": place}
    with Settings.gather(given, environ={}).opened() as store:  # what is named is meant
        yield store


def _check_goes_to(settings: Settings, url: str) -> None:
    """Raise ConfigurationError where the token would not go to `url`."""
    if settings.origins and origin_of(url) not in parse_origins(settings.origins):
        raise ConfigurationError(
            "This URL is on none of the origins that the login is for, so nothing was sent. If the"
            " server may see the token, name it: --origin."
        )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError("--header takes NAME:VALUE.")
    return name.strip(), value.strip()


def _show_head(response: requests.Response) -> None:
    click.echo(f"HTTP {response.status_code} {response.reason}", err=True)
    for name, value in response.headers.items():
        click.echo(f"{name}: {value}", err=True)
    click.echo(err=True)
