"""What a DPoP proof adds to a request.

Sends the same requests over loopback with a Bearer token and with a DPoP token
and its proof, in turns over several rounds, to a server that answers at once
and verifies nothing, in a process of its own; and makes proofs alone. For each
kind of key that a login may be bound to. Prints medians in microseconds.

    python benchmarks/dpop.py [requests in a round] [rounds]

Run it from the top of the repository, with the [test] extra installed.
"""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from joserfc.jwk import ECKey, OKPKey, RSAKey

sys.path.insert(0, str(Path(__file__).parents[1]))

from requests_refresh import DPoP, RefreshAdapter, Token, TokenSource
from requests_refresh.signing import Signer, proof, signer_of

KEYS: dict[str, Any] = {
    "P-256 (ES256)": ECKey.generate_key("P-256"),
    "RSA 2048 (RS256)": RSAKey.generate_key(2048),
    "Ed25519 (EdDSA)": OKPKey.generate_key("Ed25519"),
}
ACCESS = "a" * 800  # about what a JWT takes
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"


def serve(listener: socket.socket) -> None:
    """Answer each request on one connection after the other."""
    while True:
        connection, _ = listener.accept()
        data = b""
        while piece := connection.recv(65536):
            data += piece
            if data.endswith(b"\r\n\r\n"):
                connection.sendall(OK)
                data = b""
        connection.close()


def session_to(url: str, token: Token, scheme: Any = None) -> requests.Session:
    def grant(old: Token | None) -> Token:
        raise AssertionError("Nothing is to be refreshed here.")

    session = requests.Session()
    session.trust_env = False
    adapter = RefreshAdapter(TokenSource(grant, token=token), origins=url, scheme=scheme)
    session.mount(url, adapter)
    return session


def microseconds(work: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1e6


def requests_with(url: str, token: Token, scheme: Any, times: int) -> float:
    with session_to(url, token, scheme) as session:
        microseconds(lambda: session.get(url), 50)  # to warm up
        return microseconds(lambda: session.get(url), times)


def measure(url: str, jwk: dict[str, Any], times: int) -> list[float]:
    """Microseconds of a request with a Bearer token, of one with a proof, of a proof alone."""
    signer = signer_of(jwk)
    assert isinstance(signer, Signer), signer
    bound = Token(ACCESS, token_type="DPoP", extra={"dpop_jwk": jwk})
    return [
        requests_with(url, Token(ACCESS), None, times),
        requests_with(url, bound, DPoP(), times),
        microseconds(lambda: proof(signer, "GET", url, nonce="n" * 22, access_token=ACCESS), times),
    ]


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    found: dict[str, list[list[float]]] = {name: [] for name in KEYS}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        context = multiprocessing.get_context("fork")
        server = context.Process(target=serve, args=(listener,), daemon=True)
        server.start()
        for _ in range(rounds):
            for name, key in KEYS.items():
                found[name].append(measure(url, key.as_dict(private=True), times))
        server.kill()
        server.join()
    for name, all_rounds in found.items():
        columns = zip(*all_rounds, strict=True)
        bearer, proved, alone = (statistics.median(column) for column in columns)
        print(
            f"{name}: Bearer {bearer:.0f} us, DPoP {proved:.0f} us:"
            f" {proved - bearer:+.0f} us ({proved / bearer - 1:+.0%}); a proof alone {alone:.0f} us"
        )


if __name__ == "__main__":
    main()
