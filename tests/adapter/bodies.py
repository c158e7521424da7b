"""Every kind of body that requests can send, as a function that makes one from bytes."""

from __future__ import annotations

import array
import importlib
import io
import mmap
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

Make = Callable[[bytes], dict[str, Any]]
_CHUNK = 50_000


@dataclass(frozen=True)
class Kind:
    """One row of the table.

    make: keyword arguments for `session.post`. again: whether a body of this
    kind can be sent again with nothing kept aside. wire: whether the very
    bytes reach the server (a form or a multipart body wraps them).
    """

    name: str
    make: Make
    again: bool
    wire: bool = True


def _chunks(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), _CHUNK):
        yield data[at : at + _CHUNK]


opened: list[IO[bytes]] = []  # files that a test is to close


def _file_at_an_offset(data: bytes) -> dict[str, Any]:
    file = tempfile.TemporaryFile()  # noqa: SIM115  # it outlives this function
    opened.append(file)
    file.write(b"not this" + data)
    file.seek(8)
    return {"data": file}


def _bytesio_at_an_offset(data: bytes) -> dict[str, Any]:
    file = io.BytesIO(b"not this" + data)
    file.seek(8)
    return {"data": file}


def _map(data: bytes) -> dict[str, Any]:
    mapped = mmap.mmap(-1, len(data))
    mapped[:] = data
    return {"data": mapped}


class Pipe(io.RawIOBase):
    """The reading end of a pipe, fed by a thread. Its `tell` raises."""

    def __init__(self, data: bytes) -> None:
        end, feed = os.pipe()
        self._file: IO[bytes] = os.fdopen(end, "rb")
        threading.Thread(target=self._feed, args=(feed, data), daemon=True).start()

    @staticmethod
    def _feed(end: int, data: bytes) -> None:
        try:
            with os.fdopen(end, "wb") as file:
                file.write(data)
        except BrokenPipeError:
            pass  # nobody reads on

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self._file.close()
        super().close()


class WithoutTell:
    """A file of which only `read` is there, such as a decompressor's."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


class Again:
    """Gives the same from its beginning each time it is iterated."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        return _chunks(self._data)


class Progress:
    """Looks re-iterable and is not: a progress bar around a file, as tqdm makes them."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._file.read(_CHUNK):
            yield chunk


class Eager:
    """Reads all it has when it is asked for an iterator."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def __iter__(self) -> Iterator[bytes]:
        return iter([self._file.read()])


def encoder(data: bytes) -> dict[str, Any]:
    """requests-toolbelt's streamed multipart body: it has `read` and a length, no `tell`."""
    toolbelt: Any = importlib.import_module("requests_toolbelt")
    made = toolbelt.MultipartEncoder({"file": ("name", io.BytesIO(data), "text/plain")})
    return {"data": made, "headers": {"Content-Type": made.content_type}}


KINDS = [
    Kind("bytes", lambda data: {"data": data}, True),
    Kind("bytearray", lambda data: {"data": bytearray(data)}, True),
    Kind("memoryview", lambda data: {"data": memoryview(data)}, True),
    Kind("array", lambda data: {"data": array.array("B", data)}, True),
    Kind("str", lambda data: {"data": data.decode()}, True),
    Kind("str beyond ASCII", lambda data: {"data": "ä" + data.decode()}, True, wire=False),
    Kind("json", lambda data: {"json": {"a": data.decode()}}, True, wire=False),
    Kind("form", lambda data: {"data": {"a": data.decode()}}, True, wire=False),
    Kind("files", lambda data: {"files": {"a": io.BytesIO(data)}}, True, wire=False),
    Kind("file", _file_at_an_offset, True),
    Kind("BytesIO", _bytesio_at_an_offset, True),
    Kind("text file", lambda data: {"data": io.StringIO(data.decode())}, True),
    Kind("re-iterable", lambda data: {"data": Again(data)}, True),
    Kind("generator", lambda data: {"data": _chunks(data)}, False),
    Kind("str generator", lambda data: {"data": (c.decode() for c in _chunks(data))}, False),
    Kind("mmap", _map, False),
    Kind("pipe", lambda data: {"data": Pipe(data)}, False),
    Kind("without tell", lambda data: {"data": WithoutTell(data)}, False),
    Kind("MultipartEncoder", encoder, False, wire=False),
    Kind("progress bar", lambda data: {"data": Progress(data)}, False),
    Kind("eager", lambda data: {"data": Eager(data)}, False),
]
