"""A process that asks for tokens: `python -m tests.grants.asker KIND URL FILE`.

It says "ready" before it asks, and then the access token that it got. With
KIND "refresh_token" it then reads a line, asks for a token in place of that
one, and says what came: the token, or the name of the error.
"""

from __future__ import annotations

import sys

from requests_refresh import FileStore, RefreshTokenGrant, TokenSource
from requests_refresh.errors import RefreshError
from tests.grants.support import ASKED_ANEW


def main(kind: str, url: str, path: str) -> None:
    if kind != "refresh_token":
        tokens = TokenSource(ASKED_ANEW[kind](url), store=FileStore(path))
        print("ready", flush=True)
        print(tokens.token().access_token, flush=True)
        return
    tokens = TokenSource(RefreshTokenGrant(url, client_id="sync"), store=FileStore(path))
    stale = tokens.token()
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        print(tokens.renew(stale).access_token, flush=True)
    except RefreshError as exc:
        print(type(exc).__name__, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
