"""`FileStore` and other users, links, full disks and disks that cannot be written."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from requests_refresh.errors import StoreError
from requests_refresh.stores import FileStore
from tests.stores import processes
from tests.stores.contract import NEW, NEWER, OLD
from tests.stores.test_file import USES, entering

NOBODY = 65534
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can give a file to another user"
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o177, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    # Asking for tmp_path has that made first, under the umask of before.
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_what_is_made_is_private(tmp_path: Path) -> None:
    """I9: directories are 0700 and files 0600, whatever the umask."""
    path = tmp_path / "one" / "two" / "tokens.json"
    store = FileStore(path)
    with store.exclusive("default", 0.0):
        store.save("default", NEW)
    store.save("default", NEWER)
    assert store.load("default") == NEWER
    assert [mode(place) for place in (path.parent, path.parent.parent)] == [0o700, 0o700]
    assert [mode(place) for place in path.parent.iterdir()] == [0o600] * 3


def made(store: FileStore, path: Path, which: str) -> Path:
    """Save a token, and find the file that is meant."""
    with store.exclusive("default", 0.0):
        store.save("default", OLD)
    if which == "file":
        return path
    if which == "lock":
        return path.with_name("tokens.json.lock")
    return next(iter(path.parent.glob("tokens.json.????????*.lock")))


# Which uses look at which file.
LOOKS = [
    *(("file", use) for use in USES),
    *(("lock", use) for use in ("save", "delete", "exclusive")),
    ("identity's lock", "exclusive"),
]
looks = pytest.mark.parametrize(("which", "use"), LOOKS)


@looks
@pytest.mark.parametrize("bits", [0o644, 0o640, 0o620, 0o601])
def test_a_file_that_others_may_use(
    path: Path, store: FileStore, which: str, use: str, bits: int
) -> None:
    """I9: a token file or lock that is not private is refused, with the remedy, and left alone."""
    found = made(store, path, which)
    found.chmod(bits)
    before = found.read_bytes()
    with pytest.raises(StoreError, match="chmod 600") as caught:
        USES[use](store)
    assert str(found) in str(caught.value)
    assert mode(found) == bits
    assert found.read_bytes() == before
    found.chmod(0o600)
    USES[use](store)


@needs_root
@looks
def test_a_file_of_another_user(path: Path, store: FileStore, which: str, use: str) -> None:
    """I9: a token file or lock of somebody else's is refused and left alone."""
    found = made(store, path, which)
    before = found.read_bytes()
    os.chown(found, NOBODY, NOBODY)
    with pytest.raises(StoreError, match="another user") as caught:
        USES[use](store)
    assert str(found) in str(caught.value)
    assert found.read_bytes() == before
    assert found.stat().st_uid == NOBODY


@looks
def test_a_planted_link(path: Path, store: FileStore, which: str, use: str, tmp_path: Path) -> None:
    """I9: a symbolic link in the place of a token file or lock is refused and not followed."""
    found = made(store, path, which)
    target = tmp_path / "target"
    found.rename(target)
    before = target.read_bytes()
    found.symlink_to(target)
    with pytest.raises(StoreError, match="symbolic link") as caught:
        USES[use](store)
    assert str(found) in str(caught.value)
    assert target.read_bytes() == before
    assert found.is_symlink()


@looks
def test_a_planted_link_to_nothing(
    path: Path, store: FileStore, which: str, use: str, tmp_path: Path
) -> None:
    """I9: a symbolic link that leads nowhere makes no file where it leads."""
    found = made(store, path, which)
    found.unlink()
    found.symlink_to(tmp_path / "target")
    with pytest.raises(StoreError, match="symbolic link"):
        USES[use](store)
    assert not (tmp_path / "target").exists()


@looks
def test_a_file_with_two_names(
    path: Path, store: FileStore, which: str, use: str, tmp_path: Path
) -> None:
    """I9: a hard link, by which somebody may keep hold of the file, is refused."""
    found = made(store, path, which)
    os.link(found, tmp_path / "second name")
    with pytest.raises(StoreError, match="hard link"):
        USES[use](store)


@looks
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
def test_what_is_no_file(
    path: Path, store: FileStore, which: str, use: str, make: Callable[[Path], None]
) -> None:
    """A pipe or directory in the place of a file is refused, and nothing blocks on it."""
    found = made(store, path, which)
    found.unlink()
    make(found)
    with pytest.raises(StoreError, match=r"regular file|directory") as caught:
        USES[use](store)
    assert str(found) in str(caught.value)


def test_a_planted_temporary_file(
    path: Path, store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I9: a link in the place of the temporary file is not followed; its name is a random one."""
    store.save("default", OLD)
    target = tmp_path / "target"
    target.write_text("precious")
    planted = path.with_name("tokens.json.0000000000000000.tmp")
    planted.symlink_to(target)
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * (2 * count))
    with pytest.raises(StoreError, match="symbolic link"):
        entering(store)
    store.save("default", NEW)  # removes what was planted, and then writes
    assert target.read_text() == "precious"
    assert not path.is_symlink()
    assert store.load("default") == NEW


@pytest.mark.parametrize("bits", [0o770, 0o702, 0o1777])
@pytest.mark.parametrize("use", ["save", "delete", "exclusive"])
def test_a_directory_that_others_may_write(
    path: Path, store: FileStore, use: str, bits: int
) -> None:
    """I9: where others could plant files, no token is put; the remedy is named."""
    path.parent.mkdir()
    path.parent.chmod(bits)
    with pytest.raises(StoreError, match="chmod go-w") as caught:
        USES[use](store)
    assert str(path.parent) in str(caught.value)
    assert os.listdir(path.parent) == []
    assert mode(path.parent) == bits


def test_a_directory_that_others_may_read(path: Path, store: FileStore) -> None:
    """A directory such as ~/.config, which others may list, is taken and left as it is."""
    path.parent.mkdir()
    path.parent.chmod(0o755)
    store.save("default", NEW)
    assert mode(path.parent) == 0o755
    assert mode(path) == 0o600


@needs_root
def test_a_directory_of_another_user(path: Path, store: FileStore) -> None:
    """I9: no token is put into a directory of somebody else's."""
    path.parent.mkdir(mode=0o700)
    os.chown(path.parent, NOBODY, NOBODY)
    with pytest.raises(StoreError, match="another user"):
        store.save("default", NEW)
    assert os.listdir(path.parent) == []


def test_a_directory_behind_a_link(path: Path, tmp_path: Path) -> None:
    """A directory may be reached by a symbolic link; only the files in it may be none."""
    path.parent.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(path.parent)
    FileStore(tmp_path / "link" / "tokens.json").save("default", NEW)
    assert FileStore(path).load("default") == NEW


@pytest.mark.parametrize("use", ["save", "delete", "exclusive"])
def test_a_directory_that_is_none(tmp_path: Path, use: str) -> None:
    """A path below a file, or below a link to nothing, is a StoreError before a token is spent."""
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(StoreError, match=name):
            USES[use](FileStore(tmp_path / name / "tokens.json"))
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(StoreError, match="directory"):
        FileStore(tmp_path / "file" / "tokens.json").load("default")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="this system has no /proc")
@pytest.mark.parametrize("use", ["save", "delete", "exclusive"])
def test_a_directory_that_cannot_be_written(use: str) -> None:
    """I7: a place where no file can be made is found before a refresh token is spent."""
    with pytest.raises(StoreError, match="/proc"):
        USES[use](FileStore("/proc/self/tokens.json"))
    with pytest.raises(StoreError, match="/proc"):
        USES[use](FileStore("/proc/self/new/tokens.json"))


def test_a_file_system_that_is_read_only(small_disk: Path) -> None:
    """I7: what can be read is loaded, and what cannot be saved is found on entering."""
    store = FileStore(small_disk / "tokens.json")
    with store.exclusive("default", 0.0):
        store.save("default", OLD)
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True)
    assert store.load("default") == OLD
    for use in ("save", "delete", "exclusive"):
        with pytest.raises(StoreError, match="Read-only"):
            USES[use](store)


def test_a_full_disk(small_disk: Path) -> None:
    """I7: a full disk is found on entering `exclusive`; the old file is valid; room helps."""
    store = FileStore(small_disk / "tokens.json")
    with store.exclusive("default", 0.0):
        store.save("default", OLD)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="space"):
        ballast.write_bytes(bytes(2**20))
    for use in ("save", "exclusive"):
        with pytest.raises(StoreError, match="No space left"):
            USES[use](store)
    assert store.load("default") == OLD
    assert not list(small_disk.glob("*.tmp"))
    ballast.unlink()
    with store.exclusive("default", 0.0):
        store.save("default", NEW, replacing=OLD)


def test_a_disk_that_takes_no_more(path: Path, store: FileStore) -> None:
    """I7: a file that cannot grow is found on entering, and a torn write leaves the old file."""
    store.save("default", OLD)
    with processes.process(processes.write_without_room, str(path)) as (_, connection):
        messages = [processes.answer(connection) for _ in range(2)]
    assert ["File too large" in message for message in messages] == [True, True]
    assert store.load("default") == OLD
    assert not list(path.parent.glob("*.tmp"))
