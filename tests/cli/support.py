"""A user's home: his profiles, his stores."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from requests_refresh import Token, TokenStore, open_store
from requests_refresh.testing import AuthServer


class Home:
    """One user's directory. store: the URL of a file in it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.config = top / "conf" / "config.toml"
        self.tokens = top / "data" / "requests-refresh"  # where no store is named
        self.store = f"file://{top}/private/tokens.json"

    def profile(self, name: str, text: str, mode: int = 0o600) -> None:
        """Write a profile by hand, as a user does."""
        self.config.parent.mkdir(exist_ok=True)
        with self.config.open("a") as file:
            file.write(f"[profiles.{name}]\n{text}\n")
        self.config.chmod(mode)

    def secret(self, name: str, text: str) -> Path:
        """A file with a secret in it."""
        path = self.top / name
        path.write_text(text + "\n")
        path.chmod(0o600)
        return path

    def opened(self) -> closing[TokenStore]:
        """The store, to be closed."""
        return closing(open_store(self.store))

    def log_in(self, server: AuthServer, identity: str = "default") -> Token:
        """Have a login in the store; a profile `it` that can renew it."""
        token = Token.from_reply(server.login(identity))
        with self.opened() as store:
            store.save(identity, token)
        if not self.config.exists():
            secret = self.secret("client", server.client_secret or "none")
            self.profile(
                "it",
                f'store = "{self.store}"\ntoken_url = "{server.token_url}"\nclient_id = "sync"\n'
                f'client_secret_file = "{secret}"\nrevocation_url = "{server.revoke_url}"\n'
                f'origins = ["{server.url}"]',
            )
        return token
