"""How a token is written in a store: JSON of a known schema, encrypted or not.

`Encryption` is for tokens at rest: who reads a file, a dump or a backup reads
no token. A sealed value is bound to its identity, so nobody who can write to
the store can put one user's token in another's place. What cannot be opened is
told in words and never overwritten: a wrong key loses nothing.

Nothing here raises with a secret in a frame: what is wrong is returned.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError
from ..tokens import DEEPEST, Token, is_deep

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

_SCHEMA: Final = 1
# base64 of 32 bytes. Python's own reader stops at the "=" and drops what follows, a second key too.
_KEY: Final = re.compile(r"[A-Za-z0-9_+/-]{43}=")
_LARGEST_KEY_FILE: Final = 2**16  # bytes
_VARIABLE: Final = "REQUESTS_REFRESH_KEYS"

NOT_JSON: Final = "the extra values of the token are no JSON, or nested too deeply"


class Encryption:
    """Encrypts tokens at rest with keys of yours; for `encryption=` of a store.

    keys: one or more Fernet keys (url-safe base64 of 32 bytes), as `new_key()`
        makes them. The first encrypts, all decrypt. To rotate: add the new key
        at the end everywhere, then move it to the front everywhere, and drop
        the old one when every token has been refreshed since.

    Fernet is AES-128-CBC with HMAC-SHA-256, by way of cryptography's
    MultiFernet; needs `pip install "requests_refresh[crypto]"`. Raises
    ConfigurationError for what is no key, and never quotes it. Thread-safe. A
    pickle takes the name of the variable or file along, never a key.
    """

    _count = 0
    _fernet: MultiFernet | None = None

    def __init__(self, *keys: str | bytes) -> None:
        fernet = _fernet_of(keys)
        count, keys = len(keys), ()  # tracebacks with locals show no key
        if isinstance(fernet, str):
            raise ConfigurationError(fernet)
        self._fernet = fernet
        self._count = count
        self._from: tuple[str, str] | None = None

    @classmethod
    def from_environment(cls, name: str = _VARIABLE) -> Encryption:
        """With the keys in an environment variable, separated by commas or spaces.

        name: of the variable. Raises ConfigurationError if it is not set or
        holds no keys. Read once, now; a pickle of it reads anew where it arrives.
        """
        if not isinstance(name, str):
            raise ConfigurationError("name must be that of an environment variable, a text.")
        value = [os.environ.get(name, "")]
        return _read_from(cls, ("environment", name), f"the environment variable {name}", value)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Encryption:
        """With the keys in a file, separated by commas or white space.

        path: of the file; `~` is expanded, and a link to it is followed, as
            orchestrators mount secrets by links.

        Raises ConfigurationError if it cannot be read, if others than its owner
        and group may read it, or if it holds no keys. Blocks for the file. Read
        once, now; a pickle of it reads anew where it arrives.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise ConfigurationError("path must be that of a file with keys.")
        name = os.path.abspath(os.path.expanduser(os.fspath(path)))
        value = [_read_key_file(name)]
        return _read_from(cls, ("file", name), f"the key file {name!r}", value)

    @staticmethod
    def new_key() -> str:
        """A new random key. Keep it like a password: without it the tokens are lost."""
        key: bytes = _cryptography().Fernet.generate_key()
        return key.decode()

    def seal(self, identity: str, mapping: Mapping[str, Any]) -> str | None:
        """`mapping` encrypted, bound to `identity`; None if it is no JSON."""
        text = _dumps({"identity": identity, "token": mapping})
        if text is None or self._fernet is None:
            return None
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, identity: str, sealed: str) -> Any | None:
        """What `seal` was given for this identity, or None if the keys do not fit."""
        if self._fernet is None:
            return None
        try:
            document = json.loads(self._fernet.decrypt(sealed.encode()))
        except (_cryptography().InvalidToken, ValueError, RecursionError):
            return None
        fits = isinstance(document, dict) and _names(document, identity)
        return document.get("token") if fits else None

    @property
    def problem(self) -> str | None:
        """Why nothing can be encrypted or decrypted, or None."""
        if self._fernet is not None:
            return None
        return (
            "The keys of this Encryption were left behind when its store was pickled, as a pickle"
            " is no place for a secret. What is stored is intact. Use Encryption.from_environment"
            " or from_file, or make the store in this process."
        )

    def __repr__(self) -> str:
        return f"<Encryption with {self._count} keys>"

    def __copy__(self) -> Encryption:
        return self

    def __deepcopy__(self, memo: object) -> Encryption:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._from is None:
            return _without_keys, (self._count,)
        where, name = self._from
        return (Encryption.from_file if where == "file" else Encryption.from_environment), (name,)


class Values:
    """Writes tokens for a store and reads them again. Immutable, so thread-safe."""

    def __init__(self, encryption: Encryption | None = None) -> None:
        if encryption is not None and not isinstance(encryption, Encryption):
            del encryption  # it may be a key
            raise ConfigurationError("encryption must be an Encryption, such as Encryption(key).")
        self.encryption = encryption

    @property
    def problem(self) -> str | None:
        """Why nothing can be written or read at all, or None."""
        return None if self.encryption is None else self.encryption.problem

    def why_not(self) -> str:
        """Why `wrap` or `pack` gave None."""
        if self.problem is not None:
            return self.problem
        return f"That is because {NOT_JSON}. What is stored is as it was. Leave those values out."

    def wrap(self, identity: str, token: Token) -> dict[str, Any] | None:
        """The mapping to store; None if that cannot be, see `why_not`."""
        mapping = token.to_mapping()
        # How deep JSON may be depends on the stack of whoever reads it, and one that is too deep
        # keeps all in a file from being read.
        if is_deep(mapping["extra"], DEEPEST + 1):
            return None
        if self.encryption is None:
            return mapping
        sealed = self.encryption.seal(identity, mapping)
        return None if sealed is None else {"sealed": sealed}

    def unwrap(self, identity: str, mapping: object) -> Token | str:
        """The token in a stored mapping, or what is wrong with it."""
        sealed = mapping.get("sealed") if isinstance(mapping, Mapping) else None
        if self.encryption is None:
            if sealed is not None:
                return "it is encrypted, and this store was given no key, so give it one"
        elif self.encryption.problem is not None:
            return self.encryption.problem.rstrip(".")
        elif not isinstance(sealed, str):
            return "it is not encrypted, and this store takes encrypted values only"
        else:
            mapping = self.encryption.open(identity, sealed)
            if mapping is None:
                return "it was encrypted with another key, so give that too, or another identity"
        try:
            return Token.from_mapping(mapping)  # type: ignore[arg-type] # it looks for itself
        except ConfigurationError:
            return "it is no token"

    def pack(self, identity: str, token: Token) -> str | None:
        """The text to store, in ASCII; None if that cannot be, see `why_not`."""
        mapping = self.wrap(identity, token)
        document = {"schema": _SCHEMA, "identity": identity, "token": mapping}
        return None if mapping is None else _dumps(document)

    def unpack(self, identity: str, text: str) -> Token | str:
        """The token in a stored text, or what is wrong with it."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return "it is no JSON, or nested too deeply"
        if not isinstance(document, dict) or "token" not in document:
            return "it is no token"
        if document.get("schema") != _SCHEMA:
            return f"its schema is not {_SCHEMA}, the only one known here"
        if not _names(document, identity):
            return "it belongs to another identity"
        return self.unwrap(identity, document["token"])


def unless_wrong(encryption: Encryption | None) -> Any:
    """`encryption`, or its type where `Values` is going to refuse it.

    For a store to take what it is given: what is wrong may be a key, and must not be a local of
    its own when that raises.
    """
    return encryption if isinstance(encryption, Encryption | None) else type(encryption)


def _names(document: Mapping[str, Any], identity: str) -> bool:
    # By way of JSON, which makes one character of the two halves of a surrogate pair.
    return bool(document.get("identity") == json.loads(json.dumps(identity)))


def _dumps(document: object) -> str | None:
    try:
        return json.dumps(document, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None


def _cryptography() -> Any:
    try:
        from cryptography import fernet
    except ImportError:
        raise ConfigurationError(
            'Encryption needs cryptography: pip install "requests_refresh[crypto]".'
        ) from None
    return fernet


def _fernet_of(keys: tuple[str | bytes, ...]) -> MultiFernet | str:
    """What encrypts with these keys, or what is wrong with them."""
    try:
        fernet = _cryptography()
    except ConfigurationError as error:
        return str(error)
    if not keys:
        return "Encryption needs a key, and none was given. Encryption.new_key() makes one."
    made = []
    for key in keys:
        text = key.decode("latin-1") if isinstance(key, bytes) else key
        if not isinstance(text, str) or not _KEY.fullmatch(text):
            return (
                "What was given as a key is not url-safe base64 of 32 bytes."
                " Encryption.new_key() makes one."
            )
        made.append(fernet.Fernet(text))
    several: MultiFernet = fernet.MultiFernet(made)
    return several


def _read_from(
    cls: type[Encryption], source: tuple[str, str], what: str, value: list[str]
) -> Encryption:
    text = value.pop()
    fernet = _fernet_of(tuple(filter(None, re.split(r"[\s,]+", text))))
    count, text = len(re.findall(r"[^\s,]+", text)), ""  # tracebacks with locals show no key
    if isinstance(fernet, str):
        raise ConfigurationError(f"No keys could be read from {what}. {fernet}")
    self = cls.__new__(cls)
    self._fernet, self._count, self._from = fernet, count, source
    return self


def _read_key_file(path: str) -> str:
    problem = None
    text = ""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                problem = "it is no regular file"
            elif hasattr(os, "geteuid") and info.st_mode & 0o027:
                problem = "others may read or write it. Take that from them: chmod 600, or 440"
            else:
                text = os.read(fd, _LARGEST_KEY_FILE).decode("ascii")
        finally:
            os.close(fd)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except ValueError:
        problem = "it is no ASCII text"
    if problem is not None:
        raise ConfigurationError(f"The key file {path!r} cannot be used: {problem}.")
    return text


def _without_keys(count: int) -> Encryption:
    self = Encryption.__new__(Encryption)
    self._fernet, self._count, self._from = None, count, None
    return self
