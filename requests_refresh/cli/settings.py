"""What a command is told, from all sides, and the parts of the library that are made of it.

Options win over environment variables, these over the profile.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import quote

from .. import presets
from ..adapter import RefreshAdapter
from ..dpop import DPoP
from ..errors import ConfigurationError, LoginRequired
from ..grants import ClientCredentialsGrant, JSONGrant, OAuthGrant, RefreshTokenGrant
from ..logins import BrowserLogin, DeviceLogin
from ..presets import Preset
from ..schemes import Bearer
from ..source import Grant, TokenSource
from ..stores import Encryption, TokenStore, open_store
from ..stores.urls import holds_secret
from ..tokens import Token
from . import profiles
from .profiles import VARIABLE

PRESETS: dict[str, Preset] = {
    name.lower(): value
    for name, value in vars(presets).items()
    if name.isupper() and isinstance(value, Preset)
}
GRANTS = ("refresh-token", "client-credentials", "json")
_KEYS = f"{VARIABLE}KEYS"
_LONGEST_SECRET = 65536  # bytes of a file


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a command may be told of a login; None or empty where nothing was said.

    profile: its name. store: a URL, which may hold a password. The others are
    as the library has them, by the names of the options.
    """

    profile: str = "default"
    store: str | None = field(default=None, repr=False)
    identity: str | None = None
    keys_file: str | None = None
    preset: str | None = None
    fill: Mapping[str, str] = field(default_factory=dict)
    issuer: str | None = None
    token_url: str | None = None
    device_url: str | None = None
    authorize_url: str | None = None
    revocation_url: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    client_secret_file: str | None = None
    client_auth: str | None = None
    scope: str | None = None
    audience: str | None = None
    resource: str | None = None
    grant: str = "refresh-token"
    dpop: bool = False
    origins: tuple[str, ...] = ()

    @classmethod
    def gather(
        cls,
        given: Mapping[str, Any],
        *,
        new: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> Settings:
        """What the options say, else the environment, else the profile.

        given: options by name; None and empty ones say nothing. new: the
        profile that is named need not be there yet. environ: None for the
        process's own.

        Raises ConfigurationError for what is not right in any of them.
        """
        environ = os.environ if environ is None else environ
        name = given.get("profile") or environ.get(f"{VARIABLE}PROFILE") or "default"
        missing_ok = new or name == "default"
        values = profiles.read(name, missing_ok=missing_ok)
        for text in profiles.TEXTS | {"client_secret"}:
            said = environ.get(VARIABLE + text.upper())
            if said:
                values[text] = said
        said = environ.get(f"{VARIABLE}ORIGINS")
        if said:
            values["origins"] = said.split()
        options = {key: value for key, value in given.items() if value not in (None, (), {})}
        if holds_secret(options.get("store", "")):
            del given, options, values  # tracebacks with locals show no password
            raise ConfigurationError(
                "The URL of this store has a password in it, and arguments are seen by everybody"
                f" on this host. Put the URL into the variable {VARIABLE}STORE or into a profile."
            )
        values |= options
        values["profile"] = name
        values["origins"] = tuple(values.get("origins", ()))
        if values.get("grant", GRANTS[0]) not in GRANTS:
            raise ConfigurationError(f"grant is one of {', '.join(GRANTS)}.")
        if values.get("preset", "github") not in PRESETS:
            raise ConfigurationError(f"There is no such preset. There are {', '.join(PRESETS)}.")
        return cls(**{one.name: values[one.name] for one in fields(cls) if one.name in values})

    @property
    def whose(self) -> str:
        """The identity, as a source takes it."""
        return "default" if self.identity is None else self.identity

    @contextmanager
    def opened(self) -> Iterator[TokenStore]:
        """The store, closed in the end. Raises ConfigurationError for a URL that is none."""
        store = self.open_store()
        try:
            yield store
        finally:
            store.close()

    def open_store(self) -> TokenStore:
        """The store; without one that is named a file for this profile in the user's directory."""
        url = self.store
        if url is None:
            path = profiles.data_directory() / f"{self.profile}.json"
            url = f"file://{quote(str(path))}"
        if self.keys_file is not None:
            return open_store(url, encryption=Encryption.from_file(self.keys_file))
        if os.environ.get(_KEYS):
            return open_store(url, encryption=Encryption.from_environment(_KEYS))
        return open_store(url)

    @contextmanager
    def source(self, *, provider: bool = True, **more: Any) -> Iterator[TokenSource]:
        """A source on the store; both are closed in the end.

        provider: False: it is not to refresh, and the settings need not say how.
        more: settings of TokenSource.
        """
        grant = self.make_grant() if provider else _declined
        with self.opened() as store:
            tokens = TokenSource(grant, store, identity=self.whose, **more)
            try:
                yield tokens
            finally:
                tokens.close()

    def make_grant(self) -> Grant:
        """The grant of these settings. Blocks for discovery.

        Raises ConfigurationError where they say no provider, and as grants do.
        """
        kind = ClientCredentialsGrant if self.grant == "client-credentials" else RefreshTokenGrant
        preset = self.filled()
        if preset is not None and preset.speaks == "json":
            return JSONGrant(self.token_url or preset.token_url)
        if self.grant == "json":
            return JSONGrant(self._token_url(preset))
        own: dict[str, Any] = {}
        if preset is not None:
            own["login_over_errors"] = preset.login_over
        if self.grant == "client-credentials" and self.scope is not None:
            own["scope"] = self.scope
        if self.revocation_url is not None:
            own["revocation_url"] = self.revocation_url
        elif preset is not None and preset.revocation_url and self.token_url is None:
            own["revocation_url"] = preset.revocation_url
        made: Grant = self._made(kind, preset, own)
        return made

    def device_login(self, show: Callable[[Any], object]) -> DeviceLogin:
        """The login by a code. show: as DeviceLogin's. Raises as `make_grant`."""
        login: DeviceLogin = self._login(DeviceLogin, "device_url", show)
        return login

    def browser_login(self, show: Callable[[str], object]) -> BrowserLogin:
        """The login in a browser. show: as BrowserLogin's. Raises as `make_grant`."""
        login: BrowserLogin = self._login(BrowserLogin, "authorize_url", show)
        return login

    def adapter(self, tokens: TokenSource, url: str) -> RefreshAdapter:
        """What is mounted: for the origins that are named, else that of `url` alone."""
        return RefreshAdapter(tokens, origins=self.origins or url, scheme=self.scheme())

    def scheme(self) -> Bearer:
        """How the token is put on a request."""
        preset = self.filled()
        return DPoP() if self.dpop else Bearer() if preset is None else preset.scheme()

    def filled(self) -> Preset | None:
        """The preset with its placeholders filled in, if one is named."""
        if self.preset is None:
            return None
        preset = PRESETS[self.preset]
        return preset if self.token_url is not None else preset.filled(**self.fill)

    def to_keep(self) -> dict[str, Any]:
        """What of this a profile may hold: no secret, and nothing that is as by default."""
        kept: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            default = {} if one.name == "fill" else one.default
            if one.name in profiles.KNOWN and value != default:
                kept[one.name] = dict(value) if one.name == "fill" else value
        if holds_secret(kept.get("store", "")):
            del kept["store"]
        if kept.get("client_secret_file") == "-":  # what comes next has another standard input
            del kept["client_secret_file"]
        return kept

    def _login(self, kind: type[OAuthGrant], name: str, show: Callable[[Any], object]) -> Any:
        url, preset = getattr(self, name), self.filled()
        if url is None and preset is not None and self.token_url is None:
            url = getattr(preset, name)
        if url is None and self.issuer is None:
            raise ConfigurationError(
                f"This login needs to know the provider's {name}. Give --{name.replace('_', '-')},"
                " or --issuer for a provider that says itself where it is."
            )
        own: dict[str, Any] = {"show": show}
        if url is not None:
            own[name] = url
        if self.scope is not None:
            own["scope"] = self.scope
        return self._made(kind, preset, own)

    def _made(self, kind: type[OAuthGrant], preset: Preset | None, own: dict[str, Any]) -> Any:
        """A grant or a login, by discovery or by URL. Raises ConfigurationError."""
        issuer = self.issuer if self.token_url is None else None
        url = self._token_url(preset) if issuer is None else ""
        own |= {"client_id": self._client_id(), "dpop": self.dpop}
        for name in ("client_auth", "audience", "resource"):
            if getattr(self, name) is not None:
                own[name] = getattr(self, name)
        try:
            own["client_secret"] = self._secret()
            if own["client_secret"] is not None and preset is not None:
                own.setdefault("client_auth", preset.client_auth)
            return kind(url, **own) if issuer is None else kind.discover(issuer, **own)
        finally:
            own.clear()  # tracebacks with locals show no secret

    def _token_url(self, preset: Preset | None) -> str:
        url = self.token_url or (preset and preset.token_url)
        if not url:
            raise ConfigurationError(
                "Nothing says where the provider is. Give --issuer, --preset or --token-url, or"
                f" name a profile with -p; profiles are in {str(profiles.config_file())!r}."
            )
        return url

    def _client_id(self) -> str:
        if self.client_id is None:
            raise ConfigurationError("The provider's name for this program is missing: --client-id")
        return self.client_id

    def _secret(self) -> str | None:
        if self.client_secret is not None:
            return self.client_secret
        if self.client_secret_file is None:
            return None
        return read_secret(self.client_secret_file, "client secret")


def read_secret(path: str, what: str) -> str:
    """A secret from a file, or from standard input for `-`; without white space at its ends.

    Raises ConfigurationError, which names the file, and never quotes it.
    """
    try:
        if path == "-":
            text = sys.stdin.read(_LONGEST_SECRET)
        else:
            with open(os.path.expanduser(path), encoding="utf-8") as file:
                text = file.read(_LONGEST_SECRET)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise ConfigurationError(f"The {what} cannot be read from {path!r}: {why}.") from None
    if not text.strip():
        raise ConfigurationError(f"There is no {what} in {path!r}: it is empty.")
    return text.strip()


def source_of(name: str) -> TokenSource:
    """A source for the login of the profile `name`, for other programs. Blocks for discovery.

    Its store is open until the process ends. Raises ConfigurationError.
    """
    settings = Settings.gather({"profile": name})
    return TokenSource(settings.make_grant(), settings.open_store(), identity=settings.whose)


def origins_of(name: str) -> tuple[str, ...]:
    """The origins of the profile `name`, which may be none. Raises ConfigurationError."""
    return Settings.gather({"profile": name}).origins


def _declined(token: Token | None) -> Token:
    raise LoginRequired("This command refreshes nothing.")
