"""Adapters of others as `inner`: one that limits the rate, one for Unix sockets."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from requests_ratelimiter import LimiterAdapter, LimiterSession
from requests_unixsocket.adapters import UnixAdapter

from requests_refresh import ConfigurationError, RefreshAdapter, Token, TokenSource
from requests_refresh.testing import AuthServer


def test_a_limited_rate(server: AuthServer, tokens: TokenSource) -> None:
    """I1: as `inner` it counts each time that a request is sent, the second time too."""
    limited = LimiterAdapter(per_second=1000)
    with requests.Session() as session:
        session.trust_env = False
        session.mount(server.url, RefreshAdapter(tokens, origins=server.url, inner=limited))
        server.revoke_access()
        assert session.get(server.api + "items").status_code == 200
    assert (server.counts.refreshes, server.counts.api_requests) == (1, 2)
    limited.close()


def test_a_session_with_a_limited_rate(server: AuthServer, tokens: TokenSource) -> None:
    """The longer mount wins, so requests to the API go by us and are not counted."""
    with LimiterSession(per_second=1000) as session:
        session.trust_env = False
        session.mount(server.url, RefreshAdapter(tokens, origins=server.url))
        server.revoke_access()
        assert session.get(server.api + "items").status_code == 200
    assert server.counts.refreshes == 1


class Handler(BaseHTTPRequestHandler):
    """An API on a Unix socket that takes the token `new` alone."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        good = self.headers["Authorization"] == "Bearer new"
        body = json.dumps({"path": self.path}).encode()
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *args: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def test_a_unix_socket(tmp_path: Path) -> None:
    """I1, I9: an origin may be a socket of this host, if another adapter does the sending."""
    path = str(tmp_path / "api.sock")
    api = f"http+unix://{quote(path, safe='')}/"
    tokens = TokenSource(lambda token: Token("new", refresh_token="r"), token=Token("old"))
    with Server(path, Handler) as running, requests.Session() as session:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        session.trust_env = False
        unix = UnixAdapter()
        session.mount("http+unix://", RefreshAdapter(tokens, origins=api, inner=unix))
        assert session.get(api + "items").json() == {"path": "/items"}
        assert tokens.stats.refreshes == 1
        session.close()
        unix.close()
        running.shutdown()
    tokens.close()


def test_a_unix_socket_needs_its_adapter() -> None:
    """I9: without another adapter that does the sending no such origin is taken."""
    with pytest.raises(ConfigurationError):
        RefreshAdapter(TokenSource(lambda token: "a"), origins="http+unix://%2Fx.sock/")
