"""What the tests of `TokenStoreContract` are made of: tokens, texts, limits, and ways to look.

Nothing here waits without an end: what hangs is left behind in a daemon
thread, and is told with the place that it hangs at.
"""

from __future__ import annotations

import functools
import random
import sys
import threading
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import pytest

from ..errors import RefreshTimeout, StoreConflict
from ..stores import TokenStore
from ..stores.base import Lease
from ..tokens import Token

_T = TypeVar("_T")
_Test = TypeVar("_Test", bound=Callable[..., None])

CANARY = "canary-5f3c"
OLD = Token("access-0", refresh_token="refresh-0")
NEW = Token("access-1", refresh_token="refresh-1")
NEWER = Token("access-2", refresh_token="refresh-2")
FULL = Token(
    "access",
    refresh_token="refresh",
    token_type="DPoP",
    expires_at=1735689600.25,
    issued_at=1735686000.125,
    scope="read write",
    extra={"id": "id-token", "nested": {"list": [1, 2.5, None, True, "x"]}, "empty": {}},
)

# Texts that have broken one store or another. An identity may be any of them
# as it stands; of a token's own texts the control characters are left out.
NASTY = [
    "",
    "a",
    "A",
    "a ",
    " a",
    "A\u030a",  # with a combining ring; the next is one character, and the third a symbol
    "\u00c5",
    "\u212b",
    "stra\u00dfe",
    "STRASSE",
    "\u0130i\u0131I",  # the i's of Turkish, dotted and not
    "\U0001f511 \u043a\u043b\u044e\u0447",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u202e\u05e2\u05d1",
    "\u2028\u2029\ufeff\uffff\U0010ffff\ue000",
    "a\x00b",
    "a\x00",
    "\x00\x01\x1b\x7f\x85\r\n\t",
    "'; DROP TABLE tokens; --",
    "\"quoted\" 'twice' `thrice`",
    "back\\slash \\u0041 \\0 \\",
    "{braces} {0} {} {{}} ${HOME} $1 #{x}",
    "100% %s %(name)s %d %00 %%",
    "a_b%c*d?[e]^",
    "a:b:c",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\CON\\nul",
    "a/b/../c/.",
    ".",
    "..",
    "null",
    "None",
    "0",
    "1e400",
    "true",
    "<a href='x'>&amp;</a>",
    "+/=?&;,@",
    "~",
    "long" * 1250,
]


def random_texts(count: int) -> list[str]:
    """The same texts at every run, of all that Unicode has but lone surrogates."""
    source = random.Random(20260704)  # noqa: S311 - a test wants the same texts again, not secrets
    blocks = [(0, 0x7F), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0xD7FF), (0xE000, 0xFFFF)]
    blocks += [(0x10000, 0x10FFFF)]
    return [
        "".join(chr(source.randint(*source.choice(blocks))) for _ in range(source.randint(1, 30)))
        for _ in range(count)
    ]


def word(text: str) -> str:
    """As much of `text` as an access token, a refresh token or a scope may have."""
    return "".join(c for c in text if unicodedata.category(c) != "Cc").strip() or "x"


def shown(error: BaseException, secret: str) -> Iterator[str]:
    """Every place where an error, its chain or the frames below the caller's show `secret`."""
    caller = sys._getframe(1).f_code.co_filename  # the test, which knows the secret
    chain: list[BaseException | None] = [error]
    for link in chain:
        if link is None:
            continue
        if secret in f"{link} {link!r} {link.args!r} {vars(link)!r}":
            yield repr(link)
        chain += [other for other in (link.__cause__, link.__context__) if other not in chain]
        trace = link.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            if frame.f_code.co_filename not in (caller, __file__):
                for name, value in frame.f_locals.items():
                    if secret in repr(value):
                        yield f"{frame.f_code.co_name}.{name}"
            trace = trace.tb_next


def aside(work: Callable[[], _T], limit: float, what: str = "This") -> _T:
    """What `work` returns or raises on a thread of its own; it fails after `limit` seconds."""
    outcome: list[Callable[[], _T]] = []

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # pytest's own, too: a failure or a skip is handed on
            outcome.append(functools.partial(_throw, error))
        else:
            outcome.append(lambda: result)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    if not outcome:
        frame = sys._current_frames().get(thread.ident or 0)
        where = "".join(traceback.format_stack(frame)[-6:])
        pytest.fail(f"{what} did not end in {limit:g} s. It hangs here:\n{where}")
    return outcome[0]()


def _throw(error: BaseException) -> Any:
    raise error


def limited(test: _Test) -> _Test:
    """A test that fails where it would hang: it runs on a thread of its own."""

    @functools.wraps(test)
    def run(self: Any, *args: Any, **options: Any) -> None:
        limit = 4 * (self.patience + self.takeover)
        aside(functools.partial(test, self, *args, **options), limit, f"`{test.__name__}`")

    return cast(_Test, run)


def in_threads(count: int, work: Callable[[int], _T], limit: float = 60.0) -> list[_T]:
    """Run `work(0)` to `work(count - 1)` at the same time; what they returned, in order."""
    barrier = threading.Barrier(count, timeout=limit)

    def run(number: int) -> _T:
        barrier.wait()
        return work(number)

    results: dict[int, Callable[[], _T]] = {}

    def keep(number: int) -> None:
        try:
            result = run(number)
        except BaseException as error:  # handed on, as in `aside`
            results[number] = functools.partial(_throw, error)
        else:
            results[number] = lambda: result

    threads = [threading.Thread(target=keep, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(limit)
    if len(results) < count:
        pytest.fail(f"{count - len(results)} of {count} threads hang in the store.")
    return [results[number]() for number in range(count)]


def at_once(works: list[Callable[[], _T]], limit: float) -> list[_T]:
    """`in_threads`, for works that differ."""
    return in_threads(len(works), lambda number: works[number](), limit)


def enter(store: TokenStore, identity: str, timeout: float) -> None:
    """Hold `identity` and let go of it."""
    with store.exclusive(identity, timeout):
        pass


@contextmanager
def conflict(wrong: str) -> Iterator[None]:
    """What is done inside must be a StoreConflict that names the identity "default"."""
    try:
        yield
    except StoreConflict as error:
        if "default" not in str(error):
            pytest.fail(f"A StoreConflict has to name the identity; this one says: {error}")
    else:
        pytest.fail(f"{wrong}: it has to raise StoreConflict, and leave what is stored.")


@contextmanager
def kept_out(wrong: str) -> Iterator[None]:
    """What is done inside must be a RefreshTimeout."""
    try:
        yield
    except RefreshTimeout:
        return
    pytest.fail(f"{wrong}: `exclusive` has to raise RefreshTimeout when its time is over.")


def assure(held: Lease | None, seconds: float) -> None:
    """Where `exclusive` yields a lease, that is sure of itself."""
    for needed in (0.0, seconds):
        if held is not None and not held.assure(needed):
            pytest.fail(f"`assure({needed:g})` says that a holder that lives has lost its place.")
