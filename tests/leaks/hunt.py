"""Looks into every channel that a user of the library has, and says what came out where."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import pickle
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import requests

from requests_refresh import Token

from .secrets import Secrets
from .walk import (
    Places,
    attributes,
    is_users,
    package_objects,
    places_in_modules,
    places_of,
    reach,
    way_to,
)

SETTING = "text in extra="
_PROTOCOL = pickle.HIGHEST_PROTOCOL
_UNPICKLED = (TypeError, AttributeError, pickle.PicklingError)  # by what has locks or sockets


class Hunt(logging.Handler):
    """Everything that is looked for in one life of a client, and what was found.

    It is a handler of the root logger too, with which all libraries log all they have.
    secrets: what to look for. roots: what the user made. files: folders in which nothing
    secret may be, such as the one for temporary files.
    """

    def __init__(self, secrets: Secrets, files: Iterable[Path]) -> None:
        super().__init__(logging.DEBUG)
        self.secrets = secrets
        self.roots: list[Any] = []
        self.places: Places = {}  # where they live
        self.files: set[str] = set()  # of the store that secrets were in
        self.raised: set[type[BaseException]] = set()
        self.loggers: set[str] = set()
        self._moment = ""
        self._files = list(files)
        self._known: dict[int, Any] = {}  # what is the user's own, or part of that; by id
        self._records: list[logging.LogRecord] = []  # appending is atomic
        self._stray: list[BaseException] = []  # what ended a thread, or could not be raised

    # What comes by itself.

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Log everything and take what no caller gets: hooks of threads, and warnings."""
        root, before = logging.getLogger(), logging.getLogger().level
        hooks = threading.excepthook, sys.unraisablehook
        threading.excepthook = lambda given: self._take(given.exc_value)
        sys.unraisablehook = lambda given: self._take(given.exc_value)
        root.addHandler(self)
        root.setLevel(logging.DEBUG)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                yield
            finally:
                root.removeHandler(self)
                root.setLevel(before)
                threading.excepthook, sys.unraisablehook = hooks
        self._moment = "warnings"
        for warning in warned:
            self.silent("warning", str(warning.message), repr(warning), str(warning.source))

    def _take(self, error: BaseException | None) -> None:
        if error is not None:
            self._stray.append(error)

    # What is looked into.

    def silent(self, channel: str, *texts: str | bytes | bytearray) -> None:
        """Fail if one of the texts betrays a secret; without printing it."""
        for text in texts:
            kinds = self.secrets.kinds_in(text)
            if kinds == {SETTING} and self._moment.startswith("echo"):
                self.note({"str(error)": kinds})  # a provider quotes what was given as no secret
                continue
            assert not kinds, f"{self._moment}: {channel} shows {sorted(kinds)}"

    def look(self, moment: str) -> None:
        """Look into all channels but those of responses and errors, which are handed in."""
        self._moment = moment
        things = package_objects(self.roots)
        self._known = {id(thing): thing for thing in [*things, *self.roots]}
        for thing in [*things, *self.roots]:
            kind = f"repr of {type(thing).__name__}"
            self.silent(kind, repr(thing), str(thing), f"{thing}", f"{thing!r:>3}")
        self.note(places_of([*things, *self.roots], self.secrets))
        for root in self.roots:
            kinds = self._kinds_pickled(root)
            if kinds:
                self.note({"pickle.dumps(grant)": kinds})
        self._look_at_records()
        while self._stray:
            self.error(self._stray.pop())
        self.silent("environment", repr(dict(os.environ)), Path("/proc/self/cmdline").read_bytes())
        for folder in self._files:
            for path in folder.rglob("*"):
                self.silent(f"the name {path.name}", str(path))
                assert not path.is_file(), f"{moment}: {path} was left"

    def look_last(self, moment: str) -> None:
        """As `look`, and into what the package's modules keep."""
        self.look(moment)
        self.note(places_in_modules(self.secrets))

    def note(self, places: Mapping[str, Iterable[str]]) -> None:
        """Add to the places that were found."""
        for place, kinds in places.items():
            self.places.setdefault(place, set()).update(kinds)

    def _kinds_pickled(self, root: Any) -> set[str]:
        found: set[str] = set()
        for one in (root, *_copies(root)):
            with contextlib.suppress(*_UNPICKLED):
                found |= self.secrets.kinds_in(pickle.dumps(one, _PROTOCOL))
            self.silent(f"repr of a copy of {type(root).__name__}", repr(one))
        return found

    def _look_at_records(self) -> None:
        while self._records:
            record = self._records.pop(0)
            self.loggers.add(record.name.partition(".")[0])
            fields = {name: value for name, value in vars(record).items() if name != "exc_info"}
            said = record.getMessage()
            self.silent(f"log of {record.name} ({record.msg})", said, repr(fields))
            self.silent("record", logging.Formatter().format(record))
            if record.exc_info and record.exc_info[1] is not None:
                self.error(record.exc_info[1])

    def response(self, response: requests.Response) -> None:
        """A response shows nothing: not by itself, its history, its pickle or what it holds."""
        for one in (response, *response.history):
            texts = [repr(one), repr(vars(one)), repr(vars(one.request)), one.text]
            self.silent("response", *texts)
        with contextlib.suppress(*_UNPICKLED):
            self.silent("pickled response", pickle.dumps(response, _PROTOCOL))
        self._nothing_within("response", response)

    def error(self, error: BaseException) -> None:
        """An exception shows nothing: words, attributes, chain, notes, frames, nor what is there.

        What the user made hangs on frames too, by `self`, and is not what is looked for here.
        """
        below = _below_the_users(error.__traceback__)
        for one in (
            one for one in reach([error], self._is_known) if isinstance(one, BaseException)
        ):
            trace = one.__traceback__ if one is not error else below
            trace = _below_the_users(trace)
            told = traceback.TracebackException(type(one), one, trace, capture_locals=True)
            self.silent("traceback", *told.format(chain=False))
            self.silent("error", str(one), repr(one), repr(one.args), repr(vars(one)))
            for frame, _ in traceback.walk_tb(trace):
                for name, value in frame.f_locals.items():
                    where = f"{name} in {frame.f_code.co_name}"
                    if not is_users(frame.f_code.co_filename):
                        self.silent(where, repr(value), str(value))
                        if hasattr(value, "__dict__") and id(value) not in self._known:
                            self.silent(f"vars of {where}", repr(dict(attributes(value))))
            with contextlib.suppress(*_UNPICKLED):
                self.silent("pickled error", pickle.dumps(one, _PROTOCOL))
        what = type(error).__name__
        self._nothing_within(f"{what} without its frames", error, TracebackType)
        self._nothing_within(what, error, Token)  # in a frame one shows nothing by itself
        if below is not None and type(error) not in self.raised:  # once of a kind: it takes long
            info = pytest.ExceptionInfo.from_exc_info((type(error), error, below))
            self.silent("pytest", str(info.getrepr(showlocals=True, chain=False)))
        self.raised.add(type(error))

    def _is_known(self, thing: Any) -> bool:
        return id(thing) in self._known

    def _nothing_within(self, what: str, thing: Any, *but: type) -> None:
        ways: dict[int, Any] = {}
        for one in reach([thing], lambda t: self._is_known(t) or isinstance(t, but), ways=ways):
            if isinstance(one, (str, bytes, bytearray)) and self.secrets.kinds_in(one):
                self.silent(f"what {what} holds ({way_to(one, ways)})", one)


def _copies(root: Any) -> Iterator[Any]:
    for make in (copy.copy, copy.deepcopy):
        with contextlib.suppress(*_UNPICKLED):
            yield make(root)


def _below_the_users(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from the first frame on that is not the tests' own."""
    while trace is not None and is_users(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace
