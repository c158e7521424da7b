"""The fleet protocol as a transition system: processes, a store, a provider, and what befalls them.

A `World` is all that there is at one moment; `moves` gives every step that may come next. A step
of a process is one call of the store or of the grant, with all that the code decides until its
next one, so a process stands *at* the call that it makes next; `STEPS` names the function that
makes it. What befalls a process is a move as well: a crash, a stop that outlasts its lease, an
answer that is lost, somebody who logs in or out elsewhere.

**Left out**, because other tests have it: the threads of a process, which the gate makes one;
renewal ahead of time; a store that is away, so `Place.unsaved` too; deadlines, so who is stuck
here would end at his in truth; and a `relogin`. A stop within the lease is no move of its own:
that is a process which takes no step for a while, as in any interleaving.

**The provider.** A `strict` one ends the login when a refresh token is used that is not the
newest. One with `grace` takes the one before the newest as well; be it that it issues the newest
again or a sibling of it, both are as good. A `fixed` one never rotates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

#: Where a process can stand, and the function that makes the call it stands at.
STEPS = {
    "look": "renewal.Renewal._renew",  # load
    "enter": "renewal.Renewal._enter",  # exclusive, one try
    "wait": "renewal.Renewal._enter",  # wait, then load
    "reload": "renewal.Renewal._load_or_put_first",  # load
    "assure": "renewal.Renewal._inside",  # assure; asking.Asking.ask before another try
    "ask": "asking.Asking.ask",  # the grant, until the provider has it
    "answer": "asking.Asking.ask",  # the grant, until its answer is here
    "save": "stores.saving.Place.keep",  # save, replacing what was loaded
    "there": "stores.saving.Place._swap",  # load, after a StoreConflict
    "refused": "renewal.Renewal._refused",  # load
    "surely": "renewal.Renewal._refused",  # assure
    "delete": "renewal.Renewal._refused",  # delete, replacing what was loaded
    "leave": "stores.saving.Holding.leave",  # the end of exclusive
}


class Token(NamedTuple):
    login: int
    access: int  # which issue
    refresh: int  # which generation


class Login(NamedTuple):  # what the provider knows of one
    issued: int = 0  # refreshes so far; the newest access token
    newest: int = 0  # generation of the refresh token
    expired: int = -1  # access tokens up to this one are dead
    ended: bool = False  # for reuse


class Process(NamedTuple):
    at: str = "idle"
    holds: bool = False  # in the store; it may have lost it and not know
    current: Token | None = None  # Gate.current; while a round runs also what that is to replace
    past: frozenset[Token] = frozenset()  # Gate.past
    loaded: Token | None = None  # last; `stored` in Renewal._inside
    found: Token | None = None  # what was issued; then, what a refusal would clear
    lost: int = 0  # answers, in one Asking.ask
    ending: str = ""  # how the round ends, or the last one ended
    over: Token | None = None  # Renewal._over

    @property
    def replaced(self) -> frozenset[Token]:
        return self.past - {self.current} if self.current else self.past


class Fault(NamedTuple):
    kind: str  # crash, stop, lost
    at: str
    login: int  # of the token that it hit


class World(NamedTuple):
    processes: tuple[Process, ...]
    stored: Token | None = Token(0, 0, 0)
    logins: tuple[Login, ...] = (Login(),)
    saved: frozenset[Token] = frozenset({Token(0, 0, 0)})  # ever
    before: Token | None = None  # stored before; kept where a fault wants it
    logouts: int = 0
    logged_out: bool = False
    expiries: int = 0
    faults: tuple[Fault, ...] = ()
    broken: str = ""  # the invariant, once one is

    def lives(self, token: Token | None) -> bool:
        return token is not None and token.access > self.logins[token.login].expired

    def lost(self, rules: Rules) -> bool:
        """Whether the newest login, which nobody ended, cannot be refreshed from what is stored."""
        if self.logged_out:
            return False
        token = self.stored
        if token is None or token.login != len(self.logins) - 1:
            return True
        return not self.takes(token, rules)

    def takes(self, token: Token, rules: Rules) -> bool:
        """Whether the provider would issue another for it."""
        login = self.logins[token.login]
        oldest = login.newest - (rules.provider == "grace")
        return not login.ended and token.refresh >= oldest


class Rules(NamedTuple):
    processes: int = 2
    cold: int = 0  # of them, with no token in memory at first
    expiries: int = 1
    provider: str = "strict"  # strict, grace, fixed
    lease: bool = True  # else a lock that ends with its process, as a FileStore's
    crashes: int = 0
    stops: int = 0  # longer than the lease
    lost: int = 0  # requests or answers
    faults: int = 1  # of these, all together
    logins: int = 0  # elsewhere
    logouts: int = 0
    clock: str = "blind"  # blind: the 401 alone tells an expiry; either: so may a stored time
    without: str = ""  # what is taken away: an assumption, or a step of the code; see SEEDED

    def start(self) -> World:
        warm = self.processes - self.cold
        known = [Process(current=Token(0, 0, 0))] * warm
        return World((*known, *[Process()] * self.cold))


class Move(NamedTuple):
    process: int | None  # whose step; None: of the world
    what: str  # where it stood, or what befell it or the world
    world: World
    free: bool = False  # it may never come; else it comes in the end


def moves(world: World, rules: Rules) -> Iterator[Move]:
    """Every step that may come next."""
    if world.broken:
        return
    for number, process in enumerate(world.processes):
        if process.at == "crashed":
            if process.holds and rules.without != "end of a lease":
                yield Move(number, "its lease ends", _put(world, number, process, holds=False))
            continue
        for after in _steps(world, rules, number, process):
            yield Move(number, "use" if process.at == "idle" else process.at, after)
        yield from _befalls(world, rules, number, process)
    yield from _elsewhere(world, rules)


def _put(world: World, number: int, process: Process, **changed: object) -> World:
    mine = process._replace(**changed)  # type: ignore[arg-type]  # mypy wants each named
    rest = world.processes
    return world._replace(processes=(*rest[:number], mine, *rest[number + 1 :]))


# ---------------------------------------------------------------- what befalls


def _befalls(world: World, rules: Rules, number: int, process: Process) -> Iterator[Move]:
    if process.at == "idle":
        return
    kinds = [fault.kind for fault in world.faults]
    more = len(kinds) < rules.faults
    login = process.loaded.login if process.loaded else len(world.logins) - 1

    def hit(kind: str) -> World:
        fault = Fault(kind, process.at, login)
        return world._replace(faults=tuple(sorted((*world.faults, fault))))

    if more and kinds.count("crash") < rules.crashes:
        gone = Process("crashed", holds=process.holds and rules.lease)
        yield Move(number, "crash", _put(hit("crash"), number, gone), True)
    if more and rules.lease and process.holds and kinds.count("stop") < rules.stops:
        yield Move(number, "stop", _put(hit("stop"), number, process, holds=False), True)
    under_way = process.at == "answer" or (process.at == "ask" and process.loaded is not None)
    if more and under_way and kinds.count("lost") < rules.lost:
        yield Move(number, "lost", _lost(hit("lost"), rules, number, process), True)
    if rules.without == "lease for as long as a call" and process.holds and process.at == "answer":
        yield Move(number, "its lease ends", _put(world, number, process, holds=False), True)


def _elsewhere(world: World, rules: Rules) -> Iterator[Move]:
    newest = world.logins[-1]
    if world.expiries < rules.expiries and newest.expired < newest.issued:
        dead = tuple(login._replace(expired=login.issued) for login in world.logins)
        yield Move(None, "expiry", world._replace(logins=dead, expiries=world.expiries + 1), True)
    if len(world.logins) <= rules.logins:  # TokenSource.login: Renewal.save_login
        token = Token(len(world.logins), 0, 0)
        there = _store(world._replace(logins=(*world.logins, Login())), rules, token)
        yield Move(None, "login", there._replace(logged_out=False), True)
    if world.logouts < rules.logouts and world.stored is not None:  # Renewal.forget
        gone = _store(world, rules, None)._replace(logouts=world.logouts + 1, logged_out=True)
        yield Move(None, "logout", gone, True)
    if rules.without == "durable" and world.before is not None:
        yield Move(None, "old value", world._replace(stored=world.before, before=None), True)


def _store(world: World, rules: Rules, token: Token | None) -> World:
    keeps = rules.without in ("durable", "linearizable")
    saved = world.saved | {token} if token else world.saved
    return world._replace(stored=token, saved=saved, before=world.stored if keeps else None)


# ------------------------------------------------------------ a process's steps


def _steps(world: World, rules: Rules, number: int, process: Process) -> Iterator[World]:
    def put(at: str, **changed: object) -> World:
        return _put(world, number, process, at=at, **changed)

    free = rules.without == "exclusive" or not any(p.holds for p in world.processes)
    base, found = process.loaded, process.found
    match process.at:
        case "idle":  # TokenSource.renew, or token; Gate._decide_locked
            if _wants(world, process):
                past = process.past | ({process.current} if process.current else set())
                yield put("look", past=past, ending="")
        case "look" | "wait":
            if process.at == "look" or free or world.stored != base:
                for seen in _reads(world, rules):
                    for adopts in _adopts(world, rules, process, seen):
                        if adopts:
                            yield _use(world, number, process, seen, "idle")
                        else:
                            yield put("enter", loaded=seen)
        case "enter":
            if not free:
                yield put("wait")
            elif rules.without == "reload":
                yield put("assure", holds=True)
            else:
                yield put("reload", holds=True)
        case "reload":
            for seen in _reads(world, rules):
                for adopts in _adopts(world, rules, process, seen):
                    if adopts and rules.without != "compare":
                        yield _use(world, number, process, seen, "leave")
                    else:
                        yield put("assure", loaded=seen)
        case "assure":
            if _assured(rules, process):
                yield put("ask")
            else:
                yield put("leave", ending="unavailable" if process.lost else "again")
        case "ask":
            yield _ask(world, rules, number, process)
        case "answer":
            if found is None:
                yield put("refused")
            elif rules.without == "save before use":
                yield _use(world, number, process._replace(found=found), found, "save")
            else:
                yield put("save")
        case "save":
            yield _save(world, rules, number, process)
        case "there":
            there = world.stored
            if there is None:
                yield _out(world, number, process, process.over, empty=True)
            elif there == base or there in process.replaced:
                yield put("save", loaded=there)
            else:
                yield put("reload", found=None, lost=0)
        case "refused":
            again = world.stored if rules.without != "second look" else base
            if again is not None and again != base:
                yield put("reload", lost=0)
            else:
                yield put("surely", found=again)
        case "surely":
            if not _assured(rules, process):
                yield put("reload", found=None, lost=0)
            elif found is None:
                yield _out(world, number, process, base, empty=True)
            else:
                yield put("delete")
        case "delete":
            if world.stored == found or rules.without == "second look":
                yield _out(_store(world, rules, None), number, process, base)
            else:
                yield put("reload", found=None, lost=0)
        case "leave":
            yield _leave(world, rules, number, process)


def _wants(world: World, process: Process) -> bool:
    """Whether its next request needs a round; `Gate.held` with a LoginRequired looks only."""
    if process.ending == "out":
        return world.stored is not None and world.stored != process.over
    return not world.lives(process.current)


def _assured(rules: Rules, process: Process) -> bool:
    return not rules.lease or process.holds or rules.without in ("assure", "exclusive")


def _reads(world: World, rules: Rules) -> list[Token | None]:
    old = rules.without == "linearizable" and world.before is not None
    return [world.stored, world.before] if old else [world.stored]


def _adopts(world: World, rules: Rules, process: Process, seen: Token | None) -> list[bool]:
    """Renewal._adopted, and what it may be."""
    if seen is None or seen == process.current or seen in process.past:
        return [False]
    if world.lives(seen):
        return [True, False] if rules.without == "clock" else [True]
    return [True, False] if rules.clock == "either" else [True]


def _use(world: World, number: int, process: Process, token: Token | None, at: str) -> World:
    """Gate.publish or Gate._finish: from here on requests go out with it."""
    assert token is not None
    if token not in world.saved:
        world = world._replace(broken="I6: a token is used that was never saved")
    mine = Process("idle", process.holds, token, process.past, over=process.over)
    went = {process.current, process.loaded if at != "idle" else None} - {None, token}
    past = (mine.past | went) - {token}
    if at == "save":  # too early
        return _put(world, number, process, at=at, current=token, past=past)
    return _put(world, number, mine, at=at, past=past, ending="token")


def _ask(world: World, rules: Rules, number: int, process: Process) -> World:
    spent = process.loaded
    if spent is not None and spent in process.replaced and process.current is not None:
        spent = process.current  # Renewal._inside: an old one came back
    if spent is None:
        return _put(world, number, process, at="refused")  # the grant has nothing to send
    login = world.logins[spent.login]
    if not world.takes(spent, rules):
        after = login._replace(ended=True)
        found = None
    else:
        rotates = rules.provider != "fixed" and spent.refresh == login.newest
        after = login._replace(issued=login.issued + 1, newest=login.newest + rotates)
        found = Token(spent.login, after.issued, after.newest)
        if not world.faults and world.lives(spent):
            world = world._replace(broken="I1: a living token was refreshed")
    logins = tuple(after if n == spent.login else one for n, one in enumerate(world.logins))
    world = _put(world._replace(logins=logins), number, process, at="answer", found=found)
    if not world.faults and sum(one.issued for one in logins) > world.expiries:
        return world._replace(broken="I1: more refreshes than expiries")
    return world


def _lost(world: World, rules: Rules, number: int, process: Process) -> World:
    if rules.without == "doubt":  # it is taken for a refusal
        return _put(world, number, process, at="refused", found=None, lost=0)
    mine = process._replace(found=None, lost=process.lost + 1)
    if mine.lost == 2:  # asking._LOST_CALLS
        return _put(world, number, mine, at="leave", ending="unavailable")
    return _put(world, number, mine, at="assure")


def _save(world: World, rules: Rules, number: int, process: Process) -> World:
    there, found = world.stored, process.found
    if there != process.loaded and rules.without != "compare and swap":
        return _put(world, number, process, at="there")
    world = _store(world, rules, found)
    if world.lives(there):
        world = world._replace(broken="I2: a living token was replaced")
    elif world.logged_out:
        world = world._replace(broken="I7: a logout was undone")
    return _use(world, number, process, found, "leave")


def _out(
    world: World, number: int, process: Process, over: Token | None, *, empty: bool = False
) -> World:
    """LoginRequired. empty: nothing was stored when it looked, so who emptied it answers for it."""
    told = process.loaded
    if not empty and not (told is not None and world.logins[told.login].ended):
        world = world._replace(broken="I8: the provider has ended no login, and it is cleared")
    return _put(world, number, process, at="leave", ending="out", found=None, over=over)


def _leave(world: World, rules: Rules, number: int, process: Process) -> World:
    if rules.without == "owner":  # whoever has it
        others = tuple(p._replace(holds=False) for p in world.processes)
        world = world._replace(processes=others)
    current = None if process.ending == "out" else process.current
    mine = Process(current=current, past=process.past, ending=process.ending, over=process.over)
    if process.ending == "again":  # Gate.get: the round was abandoned
        return _put(world, number, mine, at="look", ending="")
    return _put(world, number, mine)
