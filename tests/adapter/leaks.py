"""Looks for secrets wherever a caller of the library could come across one."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

import requests

ACCESS = "canary-access"
REFRESH = "canary-refresh"
SECRET = "canary-client-secret"
ISSUED = "canary-issued"
CANARY = "canary"  # each of them holds this


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that can be reached from it, each once."""
    todo: list[Any] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += [one.__cause__, one.__context__, *one.args, *vars(one).values()]


def frames(trace: TracebackType | None) -> Iterator[FrameType]:
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def in_request(request: Any) -> Iterator[str]:
    if isinstance(request, requests.PreparedRequest):
        yield from (str(request.url), str(dict(request.headers)), repr(vars(request)))


def in_response(response: Any) -> Iterator[str]:
    """What a response tells: its request, its history's, its texts, its pickle."""
    if not isinstance(response, requests.Response):
        return
    yield from in_request(response.request)
    yield repr(vars(response))
    for past in response.history:
        yield from in_response(past)
    for failed in getattr(getattr(response.raw, "retries", None), "history", ()):
        if failed.error is not None:
            yield from in_error(failed.error)
    with contextlib.suppress(TypeError, AttributeError):  # a body that does not pickle
        yield str(pickle.dumps(response))


def in_error(error: BaseException) -> Iterator[str]:
    """Every text that can be had from an exception and what it leads to."""
    for one in chain(error):
        yield from (str(one), repr(one), f"{one}", repr(one.args), repr(vars(one)))
        with contextlib.suppress(TypeError, AttributeError):  # not everything pickles
            yield str(pickle.dumps(one))
        yield from in_request(getattr(one, "request", None))
        yield from in_response(getattr(one, "response", None))
        for frame in frames(one.__traceback__):
            if "/tests/" in frame.f_code.co_filename:
                continue  # the test itself knows the canaries
            for name, value in frame.f_locals.items():
                yield f"{frame.f_code.co_name}: {name}={value!r}"
        told = traceback.TracebackException.from_exception(one, capture_locals=True)
        for line in told.stack:
            if "/tests/" not in line.filename:
                yield str(line.locals)
        yield from told.format_exception_only()


def assert_silent(*texts: Any) -> None:
    """Fail on the first text with a canary in it, without printing thousands of others."""
    for text in texts:
        assert CANARY not in text
