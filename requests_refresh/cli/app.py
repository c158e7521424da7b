"""The command line itself: its commands, its exit status, its words for errors."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Any

import click
import requests
from click.shell_completion import get_completion_class

from ..errors import LoginRequired, RefreshError, RefreshTimeout, RefreshUnavailable

PROGRAM = "requests-refresh"
_SETTINGS = {"help_option_names": ["-h", "--help"]}
_COMPLETE = "_REQUESTS_REFRESH_COMPLETE"
# Each command, the module that has it, and its line in --help. A module is
# imported when its command is called, so that completion is quick.
_COMMANDS = {
    "login": ("login", "Log in once, and keep the login in a store."),
    "status": ("status", "Show the logins in a store, and how long they live."),
    "refresh": ("use", "Renew the access token now."),
    "get": ("use", "Send a GET request through a stored login."),
    "run": ("use", "Run a command with a fresh access token in a variable."),
    "logout": ("use", "Forget a login, here and, if you like, at the provider."),
    "copy": ("use", "Copy or move logins from one store to another."),
    "doctor": ("doctor", "Look for what is wrong, and say what to do."),
    "demo": ("demo", "Watch many threads survive the death of their token."),
    "completion": ("app", "Print what makes your shell complete this command."),
}
_HELP = """One expiry, one refresh, nobody notices.

Log in once, then use the login from scripts, from curl, or from Python:

\b
  requests-refresh login -p acme --save --issuer https://login.example.com --client-id ID
  requests-refresh get -p acme https://api.example.com/items
  requests-refresh run -p acme -- sh -c 'curl -H "Authorization: Bearer $ACCESS_TOKEN" …'

What a command is not told by its options it looks up in environment variables
(REQUESTS_REFRESH_STORE and so on), then in the profile that -p names, in config.toml.

Exit status: 0 all is well, 1 an error, 2 wrong usage, 3 only a new login helps,
4 the provider or the store did not answer, so try later, 130 after Ctrl-C.
"""
LOGIN_REQUIRED, UNAVAILABLE, INTERRUPTED = 3, 4, 130


class _Late(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"{__package__}.{_COMMANDS[cmd_name][0]}")
        found: click.Command = getattr(module, f"{cmd_name}_command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


@click.group(PROGRAM, cls=_Late, help=_HELP, context_settings=_SETTINGS)
@click.version_option(metadata.version("requests_refresh"), prog_name=PROGRAM)
def cli() -> None:
    """The help is in _HELP."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print what makes SHELL complete this command.

    \b
    bash:  requests-refresh completion bash >> ~/.bashrc
    zsh:   requests-refresh completion zsh >> ~/.zshrc
    fish:  requests-refresh completion fish > ~/.config/fish/completions/requests-refresh.fish
    """
    found = get_completion_class(shell)
    assert found is not None  # these three come with click
    click.echo(found(cli, {}, PROGRAM, _COMPLETE).source())


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; prints errors in words. Blocks."""
    try:
        result: Any = cli.main(
            None if argv is None else list(argv),
            prog_name=PROGRAM,
            complete_var=_COMPLETE,
            standalone_mode=False,
        )
    except click.Abort:
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except requests.RequestException as error:  # RefreshError is one
        return _told(error)
    return result if isinstance(result, int) else 0


def _told(error: requests.RequestException) -> int:
    """Say what happened; returns the exit status. No RefreshError's message holds a secret."""
    if not isinstance(error, RefreshError):
        click.echo(f"The request failed: {type(error).__name__}: {error}", err=True)
        return UNAVAILABLE if isinstance(error, (requests.ConnectionError, requests.Timeout)) else 1
    click.echo(str(error), err=True)
    if isinstance(error, LoginRequired):
        click.echo("To log in again: requests-refresh login", err=True)
        return LOGIN_REQUIRED
    return UNAVAILABLE if isinstance(error, (RefreshUnavailable, RefreshTimeout)) else 1
