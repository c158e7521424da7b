"""Work that tests of DPoP have done by processes of their own.

The functions take a Connection to report on, and where the servers are.
"""

from __future__ import annotations

import base64
import json
import os
from multiprocessing.connection import Connection

import requests

from requests_refresh import DPoP, RefreshAdapter, RefreshTokenGrant, TokenSource, open_store
from tests.adapter.support import crowd

SAFETY = 60  # seconds


def session_on(url: str, token_url: str, store: str) -> tuple[requests.Session, TokenSource]:
    """A session of the public client, with whatever login the store has."""
    grant = RefreshTokenGrant(token_url, client_id="public", dpop=True, timeout=10)
    tokens = TokenSource(grant, open_store(store))
    session = requests.Session()
    session.trust_env = False
    session.mount(url, RefreshAdapter(tokens, origins=url, scheme=DPoP()))
    return session, tokens


def fetching(connection: Connection, url: str, token_url: str, store: str, threads: int) -> None:
    """Each time it is told to: so many threads fetch at once; the statuses are reported."""
    session, tokens = session_on(url, token_url, store)
    connection.send("ready")
    while connection.poll(SAFETY):
        try:
            connection.recv()
        except EOFError:
            break
        connection.send(crowd(lambda n: session.get(f"{url}{n}", timeout=30).status_code, threads))
    session.close()
    tokens.close()


def forking(connection: Connection, url: str, token_url: str, store: str) -> None:
    """Fetch, fork, and fetch on both sides: the statuses of the parent and of the child."""
    session, tokens = session_on(url, token_url, store)
    found = [session.get(url, timeout=30).status_code]
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        statuses = [session.get(url, timeout=30).status_code for _ in range(3)]
        os.write(writing, json.dumps(statuses).encode())
        tokens.close()
        os._exit(0)
    found += [session.get(url, timeout=30).status_code for _ in range(3)]
    os.waitpid(child, 0)
    connection.send((found, json.loads(os.read(reading, 1000))))
    session.close()
    tokens.close()


def claims(proof: str) -> dict[str, object]:
    """What a proof says, unverified."""
    part = proof.split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found
