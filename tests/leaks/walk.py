"""From an object to all that can be reached from it, and where in the package secrets live.

A place is an attribute of a class of the package: `Secret._text`. What hangs there in
lists, closures, exceptions or objects of other libraries counts as there; what
hangs in another object of the package is that one's. Code of the user's, which is what
the tests are here, is not looked into.
"""

from __future__ import annotations

import contextlib
import contextvars
import gc
import io
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from requests_refresh import Token

from .secrets import Secrets

Places = dict[str, set[str]]  # place -> kinds of secrets
Stop = Callable[[Any], bool]

_PACKAGE = "requests_refresh"
_USERS = ("tests", "_pytest", "pytest", "pluggy", "unittest")
_LEAVES = (
    *(type, types.ModuleType, types.CodeType, types.GetSetDescriptorType),
    *(int, float, complex, type(None), weakref.ref, weakref.WeakKeyDictionary),
    *(weakref.WeakValueDictionary, weakref.WeakSet, contextvars.ContextVar, threading.Thread),
)
_TEXTS = (str, bytes, bytearray)


def is_package(thing: object) -> bool:
    """Whether it is an object of the package's. An exception is a mere container here."""
    own = type(thing).__module__.partition(".")[0] == _PACKAGE
    return own and not isinstance(thing, (BaseException, tuple))


def is_users(filename: str) -> bool:
    """Whether that file is code of the tests', or of what runs them."""
    parts = filename.replace("\\", "/").split("/")
    return "tests" in parts or not set(_USERS).isdisjoint(parts)


def _children(thing: Any) -> Iterable[Any]:
    """What `thing` holds."""
    if isinstance(thing, types.CellType):
        return [thing.cell_contents] if _is_full(thing) else []
    if isinstance(thing, (*_LEAVES, *_TEXTS)):
        return []
    if type(thing).__module__.partition(".")[0] in _USERS:
        return []
    if isinstance(thing, types.FunctionType):
        if thing.__module__ is None or thing.__module__.partition(".")[0] in _USERS:
            return []
        return [
            *(thing.__closure__ or ()),
            *(thing.__defaults__ or ()),
            *(thing.__kwdefaults__ or {}).values(),
            vars(thing),
        ]
    if isinstance(thing, types.FrameType):
        return [] if is_users(thing.f_code.co_filename) else list(thing.f_locals.values())
    if isinstance(thing, types.TracebackType):
        return [thing.tb_frame, thing.tb_next]
    if isinstance(thing, (io.BytesIO, io.StringIO)):
        return [] if thing.closed else [thing.getvalue()]
    if isinstance(thing, threading.local):
        return [vars(thing)]
    if isinstance(thing, contextvars.Context):
        return list(thing.values())
    return gc.get_referents(thing)


def _is_full(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # not yet
        return False


def reach(
    roots: Iterable[Any],
    stop: Stop = lambda thing: False,
    *,
    whole: bool = True,
    ways: dict[int, Any] | None = None,
) -> Iterator[Any]:
    """All that can be reached from `roots`, each once.

    stop: says of a thing that it is left out. whole: False: what the package's own objects hold is
        left out, but for the roots. ways: is told how each was come to.
    """
    todo: list[tuple[Any, Any]] = [(root, None) for root in roots]
    seen: dict[int, Any] = {} if ways is None else ways
    while todo:
        thing, holder = todo.pop()
        if id(thing) in seen or stop(thing):
            continue
        seen[id(thing)] = thing, holder  # held, or another object could get the id
        yield thing
        if whole or holder is None or not is_package(thing):
            todo += [(child, thing) for child in _children(thing)]


def way_to(thing: Any, ways: dict[int, Any]) -> str:
    """How `reach` came to it: the types of what holds it, from the root on."""
    names: list[str] = []
    while thing is not None:
        is_frame = isinstance(thing, types.FrameType)
        names.append(thing.f_code.co_name if is_frame else type(thing).__name__)
        thing = ways[id(thing)][1]
    return " > ".join(reversed(names))


def kinds_within(thing: Any, secrets: Secrets) -> set[str]:
    """The kinds of the secrets that can be reached from `thing`, however deep."""
    texts = (one for one in reach([thing]) if isinstance(one, _TEXTS))
    return set[str]().union(*map(secrets.kinds_in, texts))


def package_objects(roots: Iterable[Any]) -> list[Any]:
    """The objects of the package's that can be reached from `roots`."""
    return [thing for thing in reach(roots, _is_trace) if is_package(thing)]


def places_of(things: Iterable[Any], secrets: Secrets) -> Places:
    """Where in these objects of the package secrets live."""
    found: Places = {}
    for thing in things:
        for name, value in attributes(thing):
            _note(found, f"{_home(type(thing), name)}.{name}", value, secrets)
    return found


def places_in_modules(secrets: Secrets) -> Places:
    """Where in the package's modules they live: `module.name`."""
    found: Places = {}
    for path, module in list(sys.modules.items()):
        if path.partition(".")[0] == _PACKAGE and not path.startswith(f"{_PACKAGE}.testing"):
            for name, value in list(vars(module).items()):
                own = getattr(value, "__module__", path)  # what is imported is another's
                if own == path and not name.startswith("__") and not isinstance(value, type):
                    _note(found, f"{path.rpartition('.')[2]}.{name}", value, secrets)
    return found


def _note(found: Places, place: str, value: Any, secrets: Secrets) -> None:
    kinds: set[str] = set()
    for one in _near(value):
        if isinstance(one, _TEXTS):
            kinds |= secrets.kinds_in(one)
        elif isinstance(one, Token) and kinds_within(one, secrets):
            kinds.add("token")
    if kinds:
        found.setdefault(place, set()).update(kinds)


def _near(value: Any) -> Iterator[Any]:
    """What hangs there itself."""
    if is_package(value):
        return iter([value])
    return reach([value], _is_trace, whole=False)


def _is_trace(thing: object) -> bool:  # what is in frames is looked for with their errors
    return isinstance(thing, types.TracebackType)


def attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of an object itself, those in slots too."""
    yield from list(getattr(thing, "__dict__", {}).items())
    for cls in type(thing).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            with contextlib.suppress(AttributeError):  # one that is empty
                yield name, getattr(thing, name)


def _home(cls: type, attribute: str) -> str:
    """The class that an attribute is of: the most general one that sets it."""
    for one in reversed(cls.__mro__):
        if one.__module__.partition(".")[0] == _PACKAGE:
            init = getattr(vars(one).get("__init__"), "__code__", None)
            names = (*getattr(init, "co_names", ()), *vars(one).get("__annotations__", ()))
            if attribute in names:
                return one.__name__
    return cls.__name__
