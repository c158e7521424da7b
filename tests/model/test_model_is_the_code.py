"""The model is the code: real sources go its ways, call by call, and come where it says.

For each kind of move that the model has (from which step, what, to which step) the shortest path
that makes it is gone to its end. So a step that is added, dropped or put elsewhere in the code,
or another decision on what it finds, shows here. Longer paths are drawn at random in the long
form; `MODEL_SEED=7` sets the seed, which is shown.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from requests_refresh import FileStore, MemoryStore, TokenStore
from requests_refresh.stores import saving

from .driver import follow
from .explore import Graph, explore, name_of
from .fleet import Move, Rules, World, moves

SEED = int(os.environ.get("MODEL_SEED", random.SystemRandom().randrange(10**6)))
WALKS = int(os.environ.get("MODEL_WALKS", "20"))
ALL: dict[str, Any] = {"crashes": 1, "stops": 1, "lost": 2, "faults": 2, "logins": 1, "logouts": 1}

Kind = tuple[object, ...]


def kind_of(move: Move, before: World) -> Kind:
    """What a move is, whoever makes it: from which step, what, to which step and in which way."""
    if move.process is None:
        return (move.what,)
    old, new = before.processes[move.process], move.world.processes[move.process]
    swapped = move.what == "save" and new.at == "there" and move.world.stored is None
    return move.what, old.at, new.at, new.ending, new.found is None, new.lost, swapped


def ended(path: list[Move], world: World, rules: Rules, choose: Callable[[int], int]) -> list[Move]:
    """That path, and on from there until no process has a move left."""
    path = list(path)
    while steps := [move for move in moves(world, rules) if not move.free]:
        path.append(steps[choose(len(steps))])
        world = path[-1].world
    return path


def paths(graph: Graph) -> dict[Kind, list[Move]]:
    """The shortest path that makes a move of each kind, gone to its end."""
    found: dict[Kind, list[Move]] = {}
    for number, world in enumerate(graph.worlds):
        for move in moves(world, graph.rules):
            kind = kind_of(move, world)
            if kind not in found:
                path = [*graph.path(number), move]
                found[kind] = ended(path, move.world, graph.rules, lambda count: 0)
    return found


def shown(path: list[Move]) -> str:
    return " ".join(
        ("" if move.process is None else name_of(move.process) + ":") + move.what for move in path
    )


@pytest.fixture
def stores(tmp_path: Path) -> Callable[[Rules], list[TokenStore]]:
    """New stores for so many processes: one file for a lock that is the kernel's, else memory."""
    made = 0

    def make(rules: Rules) -> list[TokenStore]:
        nonlocal made
        made += 1
        if rules.lease:
            return [MemoryStore()] * rules.processes
        return [FileStore(tmp_path / f"{made}.json") for _ in range(rules.processes)]

    return make


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "_LONGEST_PAUSE", 0.0)


def go(rules: Rules, stores: Callable[[Rules], list[TokenStore]], path: list[Move]) -> None:
    try:
        follow(rules, stores(rules), path)
    except BaseException:
        print(f"{rules}\n{shown(path)}")
        raise


@pytest.mark.parametrize(
    ("lease", "provider"),
    [(True, "strict"), (False, "strict"), (True, "grace")],
    ids=["lease-strict", "file-strict", "lease-grace"],
)
def test_each_kind_of_move(
    lease: bool, provider: str, stores: Callable[[Rules], list[TokenStore]]
) -> None:
    """I1, I2, I6, I7, I8: who refreshed, what is stored, who got what: as the model has it."""
    rules = Rules(2, 0, 1, provider, lease)._replace(**ALL)
    if provider == "grace":
        rules = rules._replace(logins=0, logouts=0, expiries=2, faults=1)
    graph = explore(rules)
    ways = paths(graph)
    print(len(ways), "paths of", sum(map(len, graph.leads)), "moves")
    for path in ways.values():
        go(rules, stores, path)


@pytest.mark.long
@pytest.mark.parametrize("provider", ["strict", "grace", "fixed"])
@pytest.mark.parametrize("lease", [True, False], ids=["lease", "file"])
def test_random_ways(
    lease: bool, provider: str, stores: Callable[[Rules], list[TokenStore]]
) -> None:
    """I1, I2, I6, I7, I8: likewise, with three processes and whatever comes."""
    print(f"MODEL_SEED={SEED}")
    dice = random.Random(f"{SEED} {lease} {provider}")  # noqa: S311 - no secret
    rules = Rules(3, 1, 3, provider, lease)._replace(**ALL)
    for _ in range(WALKS):
        world, path = rules.start(), list[Move]()
        while len(path) < 80 and (all_moves := list(moves(world, rules))):
            # A fault comes seldom, or all of them would come in the first steps.
            likely = [move for move in all_moves if not move.free or dice.random() < 0.1]
            path.append(dice.choice(likely or all_moves))
            world = path[-1].world
        go(rules, stores, ended(path, world, rules, dice.randrange))
