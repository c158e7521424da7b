"""`requests-refresh status`: what a store holds, and how long it lives. Never a secret."""

from __future__ import annotations

import json
import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..stores import TokenStore
from ..tokens import Token
from .options import with_settings
from .settings import Settings
from .shown import bar, left_of, printable, span

LOGIN_REQUIRED = 3
_STYLES = {"alive": "green", "renewable": "yellow", "over": "red"}


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@with_settings(provider=False)
def status_command(settings: Settings, as_json: bool) -> int:
    """Show the logins in a store, and how long they live. No secret is shown.

    alive: the access token lives. renewable: it is dead, and its refresh token
    will bring a new one. over: only a new login helps. Refreshes nothing.

    Exit status: 0 when there is a login and none is over, 3 otherwise.
    """
    with settings.opened() as store:
        names = sorted(store.identities()) if settings.identity is None else [settings.whose]
        found = [row for name in names if (row := _row(store, name)) is not None]
        where = repr(store)
    if as_json:
        click.echo(json.dumps({"store": where, "logins": [row for row, _ in found]}, indent=2))
    elif found:
        Console(soft_wrap=True).print(_table(where, found))
    else:
        click.echo(f"No login is stored in {where}. To log in: requests-refresh login", err=True)
    good = found and all(row["state"] != "over" for row, _ in found)
    return 0 if good else LOGIN_REQUIRED


def _row(store: TokenStore, identity: str) -> tuple[dict[str, Any], Token] | None:
    token = store.load(identity)
    if token is None:
        return None
    left = left_of(token)
    alive = left is None or left > 0
    state = "alive" if alive else "renewable" if token.refresh_token else "over"
    row = {
        "identity": identity,
        "state": state,
        "seconds_left": None if left is None else max(0, int(left)),
        "expires_at": token.expires_at,
        "issued_at": token.issued_at,
        "scope": token.scope,
        "token_type": token.token_type,
        "refresh_token": token.refresh_token is not None,
    }
    return row, token


def _table(where: str, found: list[tuple[dict[str, Any], Token]]) -> Table:
    table = Table(title=Text(where), title_justify="left", box=None, pad_edge=False)
    for name in ("identity", "state", "time left", "", "renewed", "scope"):
        table.add_column(name, overflow="fold")
    for row, token in found:
        left, issued = row["seconds_left"], row["issued_at"]
        table.add_row(
            Text(printable(row["identity"])),
            Text(row["state"], _STYLES[row["state"]]),
            Text(bar(token), _STYLES[row["state"]]),
            "no end known" if left is None else span(left),
            "" if issued is None else f"{span(time.time() - issued)} ago",
            Text(printable(row["scope"] or "")),
        )
    return table
