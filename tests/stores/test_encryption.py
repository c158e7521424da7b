"""`Encryption`: its keys, where they come from, and that none of them shows."""

from __future__ import annotations

import base64
import copy
import io
import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from requests_refresh import Token
from requests_refresh.errors import ConfigurationError, StoreError
from requests_refresh.stores import Encryption, FileStore
from requests_refresh.stores.values import Values
from tests.stores.contract import FULL, shown

# Fixed, so that tests which are named after them have one name in every process.
KEY, OTHER, THIRD = (base64.urlsafe_b64encode(bytes([n]) * 32).decode() for n in b"123")
NO_KEY = "canary-5f3c-is-no-key"
VARIABLE = "REQUESTS_REFRESH_KEYS"


def reads(encryption: Encryption, key: str) -> bool:
    """Whether it reads what was written with `key`."""
    sealed = Encryption(key).seal("a", FULL.to_mapping())
    assert sealed is not None
    return encryption.open("a", sealed) == FULL.to_mapping()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A file with one key in it, as private as it should be."""
    path = tmp_path / "keys"
    path.write_text(KEY)
    path.chmod(0o600)
    return path


# The keys.


def test_keys_are_texts_or_bytes() -> None:
    """A key may be a text or bytes, and all that are given decrypt."""
    encryption = Encryption(KEY, OTHER.encode())
    assert [reads(encryption, key) for key in (KEY, OTHER, THIRD)] == [True, True, False]


def test_the_first_key_encrypts() -> None:
    """Of several keys the first one writes."""
    sealed = Encryption(KEY, OTHER).seal("a", {"x": 1})
    assert sealed is not None
    assert Fernet(KEY).decrypt(sealed.encode())
    assert Encryption(OTHER).open("a", sealed) is None


def test_new_keys_differ() -> None:
    """Each new key is another one, and fits."""
    assert len({KEY, OTHER, THIRD}) == 3
    assert all(isinstance(key, str) for key in (KEY, OTHER, THIRD))


@pytest.mark.parametrize(
    "keys",
    [
        (),
        ("",),
        (NO_KEY,),
        (NO_KEY.encode(),),
        (KEY, NO_KEY),
        (KEY + "\N{KEY}",),
        (KEY[:-4],),
        (KEY * 2,),
        (b"\xff" * 44,),
        (None,),
        (5,),
        ((KEY, OTHER),),
    ],
    ids=range(12),
)
def test_what_is_no_key(keys: tuple[str, ...]) -> None:
    """I9: what is no key is refused at once, and neither it nor a good one is shown."""
    with pytest.raises(ConfigurationError, match="new_key") as caught:
        Encryption(*keys)
    assert not [*shown(caught.value, NO_KEY), *shown(caught.value, KEY)]


def test_no_repr_shows_a_key() -> None:
    """I9: no repr has a key in it."""
    assert repr(Encryption(KEY, OTHER)) == "<Encryption with 2 keys>"
    assert KEY not in f"{vars(Values(Encryption(KEY)))}"


def test_a_copy_is_the_same(tmp_path: Path) -> None:
    """A copy, deep or not, of an Encryption or of a store with one, has the keys."""
    encryption = Encryption(KEY)
    assert copy.copy(encryption) is copy.deepcopy(encryption) is encryption
    store = FileStore(tmp_path / "private" / "t.json", encryption=encryption)
    store.save("a", FULL)
    assert copy.copy(store).load("a") == copy.deepcopy(store).load("a") == FULL


# The environment.


@pytest.mark.parametrize("separator", [",", " ", "\n", " ,\r\n\t, "])
def test_keys_in_the_environment(monkeypatch: pytest.MonkeyPatch, separator: str) -> None:
    """Keys in a variable are apart by commas, spaces or new lines."""
    monkeypatch.setenv(VARIABLE, f"{separator}{KEY}{separator}{OTHER}{separator}")
    encryption = Encryption.from_environment()
    assert [reads(encryption, key) for key in (KEY, OTHER, THIRD)] == [True, True, False]
    assert repr(encryption) == "<Encryption with 2 keys>"


@pytest.mark.parametrize("value", [None, "", " , ", NO_KEY, f"{KEY},{NO_KEY}", "\udcff"])
def test_no_keys_in_the_environment(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """I9: a variable without good keys is named, and its value is not shown."""
    if value is not None:
        monkeypatch.setenv("OTHER_NAME", value)
    with pytest.raises(ConfigurationError, match="variable OTHER_NAME") as caught:
        Encryption.from_environment("OTHER_NAME")
    assert not [*shown(caught.value, NO_KEY), *shown(caught.value, KEY)]


# A file.


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440, 0o640])
def test_keys_in_a_file(key_file: Path, mode: int) -> None:
    """A key file that only its owner and its group may read is taken."""
    key_file.chmod(mode)
    assert reads(Encryption.from_file(key_file), KEY)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602, 0o666])
def test_a_key_file_that_is_open_to_others(key_file: Path, mode: int) -> None:
    """I9: a key file that others may read, or that its group may write, is refused."""
    key_file.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod") as caught:
        Encryption.from_file(key_file)
    assert repr(str(key_file)) in str(caught.value)
    assert not [*shown(caught.value, KEY)]


def test_several_keys_in_a_file(key_file: Path) -> None:
    """A key a line, or keys with commas between them."""
    key_file.write_text(f"{KEY}\n{OTHER}, {THIRD}\n")
    encryption = Encryption.from_file(str(key_file))
    assert all(reads(encryption, key) for key in (KEY, OTHER, THIRD))


def test_a_link_to_a_key_file(key_file: Path, tmp_path: Path) -> None:
    """A link is followed, as orchestrators mount secrets by links; one to nowhere is refused."""
    link = tmp_path / "link"
    link.symlink_to(key_file)
    assert reads(Encryption.from_file(link), KEY)
    key_file.unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        Encryption.from_file(link)


def test_a_key_file_at_home(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` stands for the home directory."""
    monkeypatch.setenv("HOME", str(key_file.parent))
    assert reads(Encryption.from_file("~/keys"), KEY)


def test_what_is_no_key_file(tmp_path: Path) -> None:
    """A directory, a FIFO and nothing are refused, and none of them hangs."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    for path in (tmp_path, fifo, tmp_path / "missing"):
        with pytest.raises(ConfigurationError, match="cannot be used"):
            Encryption.from_file(path)


@pytest.mark.parametrize(
    "text", ["", "\n", NO_KEY, f"{NO_KEY}\N{KEY}", f"{KEY} {NO_KEY}", "a" * 100_000], ids=range(6)
)
def test_a_file_without_keys(key_file: Path, text: str) -> None:
    """I9: a file with anything but keys is named, and what is in it is not shown."""
    key_file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        Encryption.from_file(key_file)
    assert repr(str(key_file)) in str(caught.value)
    assert not [*shown(caught.value, NO_KEY), *shown(caught.value, KEY)]


# Pickles.


def pickled(encryption: Encryption) -> Encryption:
    """What comes out of its pickle, which has no key in it."""
    data = pickle.dumps(encryption)
    assert KEY.encode() not in data
    again = pickle.loads(data)  # noqa: S301 - our own
    assert isinstance(again, Encryption)
    return again


def test_a_pickle_goes_by_the_name_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """I9: keys from the environment are read anew where the pickle arrives."""
    monkeypatch.setenv("NAME", KEY)
    encryption = Encryption.from_environment("NAME")
    data = pickle.dumps(encryption)
    assert reads(pickled(encryption), KEY)
    monkeypatch.setenv("NAME", OTHER)
    assert reads(pickled(encryption), OTHER)
    monkeypatch.delenv("NAME")
    with pytest.raises(ConfigurationError, match="NAME"):
        pickle.loads(data)  # noqa: S301 - our own


def test_a_pickle_goes_by_the_name_of_the_file(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I9: keys from a file are read anew, wherever the process stands that unpickles."""
    monkeypatch.chdir(key_file.parent)
    encryption = Encryption.from_file("keys")
    monkeypatch.chdir("/")
    assert reads(pickled(encryption), KEY)
    key_file.write_text(OTHER)
    assert reads(pickled(encryption), OTHER)


def test_a_pickle_leaves_given_keys_behind(tmp_path: Path) -> None:
    """I9: keys that were given do not travel; the store says so at its use, and loses nothing."""
    path = tmp_path / "private" / "tokens.json"
    store = FileStore(path, encryption=Encryption(KEY, OTHER))
    store.save("default", FULL)
    before = path.read_bytes()
    data = pickle.dumps(store)
    assert KEY.encode() not in data
    for _ in range(2):  # a pickle of what came out of one, too
        again = pickle.loads(data)  # noqa: S301 - our own
        data = pickle.dumps(again)
        uses: list[Callable[[], object]] = [
            lambda again=again: again.load("default"),  # type: ignore[misc] # mypy knows no default
            lambda again=again: again.save("default", FULL),  # type: ignore[misc] # likewise
            lambda again=again: again.save("new", FULL, replacing=None),  # type: ignore[misc]
            lambda again=again: again.delete("default"),  # type: ignore[misc] # likewise
        ]
        for use in uses:
            with pytest.raises(StoreError, match="keys of this Encryption were left behind"):
                use()
    assert path.read_bytes() == before
    assert store.load("default") == FULL
    assert pickled(Encryption(KEY, OTHER)).problem is not None
    assert repr(pickled(Encryption(KEY, OTHER))) == "<Encryption with 2 keys>"


# What is sealed.


def test_what_can_not_be_opened() -> None:
    """Whatever stands in place of a sealed text, it is an answer and no exception."""
    encryption = Encryption(KEY)
    fernet = Fernet(KEY)
    texts = ["", "x", "\ud800", "\N{KEY}", "gAAAAA", "{}"]
    for inside in (b"", b"x", b"[]", b"null", b"[" * 100_000, b"\xff", b'{"identity": 1}'):
        texts.append(fernet.encrypt(inside).decode())
    assert [encryption.open("a", text) for text in texts] == [None] * len(texts)


def test_a_sealed_text_that_was_changed() -> None:
    """A sealed text of which any part was changed is refused."""
    values = Values(Encryption(KEY))
    text = values.pack("a", FULL)
    assert text is not None
    sealed = json.loads(text)["token"]["sealed"]
    for at in range(0, len(sealed) - 2, 7):
        other = sealed[:at] + ("A" if sealed[at] != "A" else "B") + sealed[at + 1 :]
        assert isinstance(values.unpack("a", text.replace(sealed, other)), str)
    assert values.unpack("a", text) == FULL


def test_a_sealed_text_that_holds_no_token() -> None:
    """What was sealed with our key and is no token is refused as such."""
    encryption = Encryption(KEY)
    for document in ({}, {"access_token": 5}, {"access_token": "a", "extra": []}):
        wrapped = {"sealed": encryption.seal("a", document)}
        assert Values(encryption).unwrap("a", wrapped) == "it is no token"


def test_an_identity_of_lone_surrogates() -> None:
    """Two halves of a surrogate pair are an identity, too: what was packed is unpacked."""
    for values in (Values(), Values(Encryption(KEY))):
        for identity in ("\ud83d\udd11", "\udd11\ud83d", "\ud800"):
            text = values.pack(identity, FULL)
            assert text is not None
            assert text.isascii()
            assert values.unpack(identity, text) == FULL


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object(), b"x"], ids=range(4))
def test_what_is_no_json_is_not_sealed(value: object) -> None:
    """A token with what JSON has no word for is declined, encrypted or not."""
    token = Token("a", extra={"x": value})
    for values in (Values(), Values(Encryption(KEY))):
        assert values.pack("a", token) is None
        assert "no JSON" in values.why_not()


# The extra.


def test_cryptography_is_missing(monkeypatch: pytest.MonkeyPatch, key_file: Path) -> None:
    """I9: without cryptography an error names the extra, and shows no key."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setenv(VARIABLE, KEY)
    uses: list[Callable[[], object]] = [
        lambda: Encryption(KEY),
        Encryption.new_key,
        Encryption.from_environment,
        lambda: Encryption.from_file(key_file),
    ]
    for use in uses:
        with pytest.raises(ConfigurationError, match=r"requests_refresh\[crypto\]") as caught:
            use()
        assert not [*shown(caught.value, KEY)]


def test_a_pickle_is_small() -> None:
    """A pickle of an Encryption holds names only: nothing of cryptography's."""
    buffer = io.BytesIO()
    pickle.dump(Encryption(KEY), buffer)
    assert b"cryptography" not in buffer.getvalue()
