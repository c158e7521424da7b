"""The options that commands share, and `Settings` made of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ..errors import ConfigurationError
from . import profiles
from .profiles import VARIABLE
from .settings import GRANTS, PRESETS, Settings

_F = TypeVar("_F", bound=Callable[..., Any])


class ProfileName(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic since click 8.4
    """A profile's name, completed by the shell."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The profiles that there are."""
        try:
            found = profiles.names()
        except ConfigurationError:
            return []
        return [CompletionItem(name) for name in found if name.startswith(incomplete)]


def _option(name: str, meaning: str, **more: Any) -> Callable[[_F], _F]:
    """An option that the environment may give as well, and says so in its help."""
    dest = more.pop("dest", name.lstrip("-").replace("-", "_"))
    if more.pop("variable", True):
        meaning = f"{meaning} [${VARIABLE}{dest.upper()}]"
    return click.option(name, *more.pop("also", ()), dest, help=meaning, **more)


_PLACE = [
    _option(
        "--profile",
        "Settings by name, from config.toml.",
        also=("-p",),
        type=ProfileName(),
        metavar="NAME",
    ),
    _option(
        "--store",
        "Where the tokens are: file://…, redis://…, postgresql+psycopg://…, keyring:…;"
        " a file of your own by default.",
        metavar="URL",
    ),
    _option("--identity", "Whose login it is.", metavar="NAME"),
    _option(
        "--keys-file",
        f"Keys with which the store encrypts; or ${VARIABLE}KEYS.",
        metavar="PATH",
        variable=False,
    ),
]
_PROVIDER = [
    _option("--preset", f"A known provider: {', '.join(PRESETS)}.", metavar="NAME"),
    _option(
        "--fill",
        "What a preset leaves open, such as domain=acme.okta.com; may be repeated.",
        metavar="NAME=VALUE",
        multiple=True,
        variable=False,
    ),
    _option("--issuer", "A provider that says itself where its endpoints are.", metavar="URL"),
    _option("--token-url", "The token endpoint.", metavar="URL"),
    _option("--device-url", "The device authorization endpoint.", metavar="URL"),
    _option("--authorize-url", "The authorization endpoint.", metavar="URL"),
    _option("--revocation-url", "The revocation endpoint.", metavar="URL"),
    _option("--client-id", "The provider's name for this program.", metavar="ID"),
    _option(
        "--client-secret-file",
        f"A file with the client's secret, - for standard input; or ${VARIABLE}CLIENT_SECRET.",
        metavar="PATH",
        variable=False,
    ),
    click.option(
        "--ask-client-secret",
        is_flag=True,
        help="Ask for the client's secret; it is not shown while it is typed.",
    ),
    _option(
        "--client-auth",
        "How the client proves who it is: client_secret_basic, client_secret_post,"
        " client_secret_jwt, none.",
        metavar="WAY",
    ),
    _option("--scope", "What the login may do, in the provider's words.", metavar="TEXT"),
    _option("--audience", "Whom the token is for, by name.", metavar="TEXT"),
    _option("--resource", "Whom the token is for, by URI (RFC 8707).", metavar="URI"),
    _option("--grant", f"How a token is renewed: {', '.join(GRANTS)}.", metavar="KIND"),
    click.option("--dpop", is_flag=True, default=None, help="Bind the token to a key (RFC 9449)."),
    _option(
        "--origin",
        "A server that may see the token; may be repeated.",
        dest="origins",
        metavar="URL",
        multiple=True,
    ),
]
_NAMES = {"profile", *profiles.KNOWN}


def with_settings(*, provider: bool = True, new: bool = False) -> Callable[[_F], _F]:
    """Give a command the shared options, and hand it what they say as a `Settings`.

    provider: with those that say how a token is obtained. new: the profile may
    be one that is not there yet.
    """

    def decorate(command: _F) -> _F:
        @functools.wraps(command)
        def call(**given: Any) -> Any:
            said = {name: given.pop(name) for name in _NAMES & given.keys()}
            if provider:
                said["fill"] = _pairs(said["fill"])
                if given.pop("ask_client_secret"):
                    said["client_secret"] = click.prompt("Client secret", hide_input=True, err=True)
            return command(Settings.gather(said, new=new), **given)

        for option in reversed(_PLACE + (_PROVIDER if provider else [])):
            call = option(call)
        return call  # type: ignore[return-value] # click passes what the options say

    return decorate


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(pair.partition("=")[::2] for pair in given)
    if not all("=" in pair for pair in given):
        raise click.UsageError("--fill takes NAME=VALUE.")
    return pairs
