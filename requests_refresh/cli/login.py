"""`requests-refresh login`: the first token, by a code, a browser, a secret or by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from ..errors import ConfigurationError
from ..grants.discovery import discovered
from ..logins import DevicePrompt
from ..tokens import Token
from . import profiles
from .options import with_settings
from .settings import Settings, read_secret
from .shown import lifetime_of

_CLIENT = "client-credentials"


@click.command("login")
@click.option("--device", "way", flag_value="device", help="By a code, entered on any device.")
@click.option("--browser", "way", flag_value="browser", help="In a browser on this host (PKCE).")
@click.option(
    "--client-credentials",
    "way",
    flag_value=_CLIENT,
    help="As the program itself, by its secret; no person is needed.",
)
@click.option("--paste", "way", flag_value="paste", help="With a token that you have.")
@click.option(
    "--token-file",
    metavar="PATH",
    help="Where the token is that you have, - for standard input: a refresh token, or an OAuth"
    " reply in JSON. Without it you are asked.",
)
@click.option("--access-token", is_flag=True, help="The token that you have is an access token.")
@click.option("--save", is_flag=True, help="Keep these settings, but no secret, as the profile.")
@with_settings(new=True)
def login_command(
    settings: Settings, way: str | None, token_file: str | None, access_token: bool, save: bool
) -> None:
    """Log in once, and keep the login in a store.

    Where you do not say how: by a code, if the provider's device endpoint is known,
    else in a browser, else with a token that you have. What is stored is as good
    as a password, so keep the store to yourself.

    \b
    requests-refresh login -p acme --save --issuer https://login.example.com --client-id ID
    requests-refresh login -p hub --save --preset github --client-id ID
    requests-refresh login -p robot --save --client-credentials --token-url URL \\
        --client-id ID --client-secret-file ~/.config/robot-secret
    """
    if token_file is not None or access_token:
        if way not in (None, "paste"):
            raise click.UsageError("--token-file and --access-token go with --paste.")
        way = "paste"
    way = way or _way_of(settings)
    if way == _CLIENT:
        settings = replace(settings, grant=_CLIENT)
    console = Console(stderr=True)
    kept = settings.to_keep()
    provider = not access_token or {"issuer", "token_url", "preset"} & kept.keys()
    with settings.source(provider=bool(provider)) as tokens:
        if way == "paste":
            tokens.login(_pasted(token_file, access_token))
        else:
            tokens.login(_asked_for(settings, way, console))
        token = tokens.token()  # a refresh token that was pasted is tried
    say(console, f"Logged in as {settings.whose!r}: {lifetime_of(token)}.", "bold green")
    if token.refresh_token is None and settings.grant != _CLIENT:
        say(console, "No refresh token came, so the login ends with it. Often a scope such as")
        say(console, "offline_access has to be asked for: --scope.")
    if save:
        path = profiles.write(settings.profile, kept)
        say(console, f"The settings are kept as profile {settings.profile!r} in {path}.")
        if settings.client_secret is not None or settings.client_secret_file == "-":
            say(console, "The client's secret is not: give it by REQUESTS_REFRESH_CLIENT_SECRET or")
            say(console, "client_secret_file.")


def say(console: Console, text: str, style: str = "") -> None:
    """One line, in which nothing is taken for markup."""
    console.print(Text(text, style), soft_wrap=True)


def _way_of(settings: Settings) -> str:
    """How to log in, where the user does not say: by what is known of the provider."""
    if settings.grant == _CLIENT:
        return _CLIENT
    preset: Any = settings.filled()
    known: Mapping[str, Any] = {}
    if settings.issuer is not None and settings.token_url is None:
        known = discovered(settings.issuer).fields
    if settings.device_url or getattr(preset, "device_url", None):
        return "device"
    if "device_authorization_endpoint" in known:
        return "device"
    if settings.authorize_url or getattr(preset, "authorize_url", None):
        return "browser"
    return "browser" if "authorization_endpoint" in known else "paste"


def _asked_for(settings: Settings, way: str, console: Console) -> Token:
    """The token that the provider issues. Blocks until it does; shows what a person is to do."""
    if way == _CLIENT:
        grant: Any = settings.make_grant()
        with console.status("Asking the provider…"):
            token = grant(None)
    elif way == "device":
        waiting = console.status("Asking the provider for a code…")

        def show(prompt: DevicePrompt) -> None:
            say(console, "Open  " + (prompt.verification_uri_complete or prompt.verification_uri))
            say(console, f"and enter  {prompt.user_code}", "bold")
            waiting.update("Waiting for you…")

        login = settings.device_login(show)
        with waiting:
            token = login()
    else:
        browser = settings.browser_login(lambda url: say(console, f"Open on this host:  {url}"))
        with console.status("Waiting for you, in the browser…"):
            token = browser()
    assert isinstance(token, Token)
    return token


def _pasted(path: str | None, is_access_token: bool) -> Token:
    """The token that the user has. Raises ConfigurationError, or InvalidReply, quoting nothing."""
    kind = "access token" if is_access_token else "refresh token"
    if path is None:
        text = str(click.prompt(kind.capitalize(), hide_input=True, err=True)).strip()
    else:
        text = read_secret(path, kind)
    try:
        reply = json.loads(text) if text.startswith("{") else None
        problem = "an object" if isinstance(reply, (dict, type(None))) else None
    except (ValueError, RecursionError):
        reply, problem = None, None
    if problem is None:
        del text, reply  # tracebacks with locals show no token
        raise ConfigurationError("What was given begins like JSON and is none. Nothing was stored.")
    if reply is None:
        return Token(text) if is_access_token else Token(refresh_token=text)
    if reply.get("access_token"):
        return Token.from_reply(reply)
    refresh_token = reply.get("refresh_token")
    del text, reply
    if not isinstance(refresh_token, str) or not refresh_token:
        raise ConfigurationError("There is no token in this JSON. Nothing was stored.")
    return Token(refresh_token=refresh_token)
