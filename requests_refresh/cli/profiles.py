"""Profiles: settings by name in one TOML file, in the configuration directory of the platform.

    [profiles.acme]
    issuer = "https://login.example.com"
    client_id = "sync"
    origins = ["https://api.example.com/"]

No secret has a place in it; it may say in which file one is. The URL of a store
may hold a password, and then the file must be its owner's alone.
"""

from __future__ import annotations

import os
import re
import stat
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, StoreError
from ..stores.private import prepare_directory, write_new

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

VARIABLE = "REQUESTS_REFRESH_"  # what the names of environment variables begin with
TEXTS = {
    "store",
    "identity",
    "keys_file",
    "preset",
    "issuer",
    "token_url",
    "device_url",
    "authorize_url",
    "revocation_url",
    "client_id",
    "client_secret_file",
    "client_auth",
    "scope",
    "audience",
    "resource",
    "grant",
}
LISTS, TABLES, SWITCHES = {"origins"}, {"fill"}, {"dpop"}
KNOWN = TEXTS | LISTS | TABLES | SWITCHES
_SECRETS = re.compile("secret$|password|token$|^keys?$")
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]*")


def config_file() -> Path:
    """Where profiles are: $REQUESTS_REFRESH_CONFIG, or config.toml in the user's directory."""
    import platformdirs

    named = os.environ.get(f"{VARIABLE}CONFIG")
    if named:
        return Path(named).expanduser()
    return platformdirs.user_config_path("requests-refresh", appauthor=False) / "config.toml"


def data_directory() -> Path:
    """Where tokens are kept for those who name no store."""
    import platformdirs

    return platformdirs.user_data_path("requests-refresh", appauthor=False)


def names() -> list[str]:
    """The names of all profiles. Raises ConfigurationError for a file that is none."""
    return sorted(_profiles(_document(config_file()) or {}))


def read(name: str, *, missing_ok: bool = False) -> dict[str, Any]:
    """The settings of the profile `name`, by the names of their options.

    missing_ok: no such profile is an empty one. Raises ConfigurationError for a
    file or a profile that cannot be read, naming the file, never quoting it.
    """
    check_name(name)
    path = config_file()
    found = _profiles(_document(path) or {}).get(name)
    if found is None:
        if missing_ok:
            return {}
        raise ConfigurationError(
            f"There is no profile {name!r} in {str(path)!r}. Make one with `requests-refresh login"
            f" -p {name} --save` and the options that it should keep."
        )
    values = dict(found) if isinstance(found, Mapping) else {"": None}
    problem = next(filter(None, map(_problem, values, values.values())), None)
    if problem is None and _tells_a_password(values.get("store")) and not _is_private(path):
        problem = "its store has a password, and others may read the file: chmod 600 it"
    if problem is not None:
        del found, values  # tracebacks with locals show no secret
        raise ConfigurationError(f"The profile {name!r} in {str(path)!r} is not right: {problem}.")
    return values


def write(name: str, values: Mapping[str, Any]) -> Path:
    """Keep `values` as the profile `name`, beside what else is in the file; returns its path.

    What the profile held under other names stays. Written whole, for its owner
    alone. Raises ConfigurationError for a file that is no TOML, and StoreError
    where it cannot be written; it is as it was then.
    """
    import tomlkit

    check_name(name)
    path = config_file()
    document = _document(path) or tomlkit.document()
    if "profiles" not in document:
        document["profiles"] = tomlkit.table(is_super_table=True)
    profiles: Any = document["profiles"]
    profile = profiles.setdefault(name, tomlkit.table()) if isinstance(profiles, dict) else None
    if not isinstance(profile, dict):
        raise ConfigurationError(f"{str(path)!r} has no table of profiles to write into.")
    for key, value in values.items():
        profile[key] = list(value) if isinstance(value, tuple) else value
    _replace(path, tomlkit.dumps(document).encode())
    return path


def check_name(name: str) -> None:
    """Raise ConfigurationError unless `name` can be that of a profile, and of a file."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            "The name of a profile is made of letters, digits, dots, hyphens and underscores, and"
            " begins with a letter or a digit."
        )


def _document(path: Path) -> TOMLDocument | None:
    """What is in the file; None where there is no file."""
    import tomlkit
    from tomlkit.exceptions import ParseError

    problem = None
    try:
        return tomlkit.parse(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ParseError as error:  # its message quotes the file
        problem = f"it is no TOML, at line {error.line}, column {error.col}"
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "it is no TOML in UTF-8"
    raise ConfigurationError(f"{str(path)!r} cannot be read: {problem}. Nothing was changed.")


def _profiles(document: Mapping[str, Any]) -> Mapping[str, Any]:
    found = document.get("profiles", {})
    return found if isinstance(found, Mapping) else {}


def _problem(key: str, value: object) -> str | None:
    """What is wrong with a setting; never its value."""
    if _SECRETS.search(key) and key not in KNOWN:
        return (
            f"{key} is no place for a secret. Put it into a file of its own (client_secret_file,"
            f" keys_file) or into a variable ({VARIABLE}CLIENT_SECRET, {VARIABLE}KEYS)"
        )
    if key not in KNOWN:
        return f"it has no setting {key!r}; there are {', '.join(sorted(KNOWN))}"
    if key in LISTS:
        texts = value if isinstance(value, list) else [None]
    elif key in TABLES:
        texts = list(value.values()) if isinstance(value, Mapping) else [None]
    elif key in SWITCHES:
        return None if isinstance(value, bool) else f"{key} is true or false"
    else:
        texts = [value]
    kind = "a list of texts" if key in LISTS else "a table of texts" if key in TABLES else "a text"
    return None if all(isinstance(text, str) for text in texts) else f"{key} is {kind}"


def _tells_a_password(url: object) -> bool:
    from ..stores.urls import holds_secret

    return isinstance(url, str) and holds_secret(url)


def _is_private(path: Path) -> bool:
    return not hasattr(os, "geteuid") or not stat.S_IMODE(path.stat().st_mode) & 0o077


def _replace(path: Path, data: bytes) -> None:
    path = Path(os.path.realpath(path))  # a link to a file under version control stays one
    prepare_directory(str(path.parent))
    beside = f"{path}.{uuid.uuid4().hex}"
    try:
        write_new(beside, data)
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(beside)
        raise StoreError(
            f"{str(path)!r} could not be written: {error.strerror}. It is as it was."
        ) from error
