"""Fixtures for the tests of stores."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest

from requests_refresh.stores import FileStore


@pytest.fixture(scope="package", autouse=True)
def _no_server_is_left() -> Iterator[None]:
    """The server that starts processes ends with these tests, and not some time after them."""
    yield
    vars(forkserver)["_forkserver"]._stop()  # there is no public way


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a token file may be; neither it nor its directory is there."""
    return tmp_path / "private" / "tokens.json"


@pytest.fixture
def store(path: Path) -> FileStore:
    """A store that has written nothing yet."""
    return FileStore(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 256 KiB, which needs root to be made."""
    place = tmp_path / "disk"
    place.mkdir(mode=0o700)
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("this system has no mount command to make a small file system with")
    options = ["-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(place)]
    if subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("a file system can be mounted here only by root, if at all")
    yield place
    subprocess.run(["umount", str(place)], check=True)  # noqa: S607 - found where mount was
