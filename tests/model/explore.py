"""Every world that can be reached, breadth first, and the shortest way to one that is wrong.

Processes are alike, so worlds that differ only in who is who are one. No path leads round in a
circle (every move is progress), and where no process has a move left all is well: so whatever
happens, everybody ends.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from .fleet import STEPS, Fault, Move, Rules, World, moves

Key = tuple[object, ...]


def key(world: World) -> Key:
    """The same for worlds that differ in the order of their processes only."""
    return (tuple(sorted(world.processes, key=hash)), *world[1:])


class Graph(NamedTuple):
    rules: Rules
    worlds: list[World]
    came: list[tuple[int, Move] | None]  # from which world, by which move
    leads: list[list[int]]
    ends: list[int]  # where no process has a move left
    wrong: int | None  # the first world in which an invariant is broken

    def path(self, number: int) -> list[Move]:
        """The shortest way there."""
        found: list[Move] = []
        while (came := self.came[number]) is not None:
            number = came[0]
            found.append(came[1])
        return found[::-1]

    def losses(self) -> dict[tuple[Fault, ...], int]:
        """With which faults the login is lost in the end, and the first such world of each."""
        found: dict[tuple[Fault, ...], int] = {}
        for end in self.ends:
            if self.worlds[end].lost(self.rules):
                found.setdefault(self.worlds[end].faults, end)
        return found


def explore(rules: Rules, *, circles: bool = True) -> Graph:
    """All that can happen under `rules`, up to the first broken invariant.

    circles: whether one is looked for, too.
    """
    start = rules.start()
    graph = Graph(rules, [start], [None], [], [], None)
    known = {key(start): 0}
    todo = deque([0])
    while todo:
        number = todo.popleft()
        leads: list[int] = []
        graph.leads.append(leads)
        world, ended = graph.worlds[number], True
        for move in moves(world, rules):
            ended = ended and move.free
            name = key(move.world)
            there = known.get(name)
            if there is None:
                there = known[name] = len(graph.worlds)
                graph.worlds.append(move.world)
                graph.came.append((number, move))
                todo.append(there)
                if move.world.broken:
                    return graph._replace(wrong=there)
            leads.append(there)
        if ended:
            graph.ends.append(number)
            if problem := stuck(world):
                graph.worlds[number] = world._replace(broken=problem)
                return graph._replace(wrong=number)
    if circles and (circle := in_circle(graph.leads)) is not None:
        world = graph.worlds[circle]
        graph.worlds[circle] = world._replace(broken="I3: it can go round in a circle")
        return graph._replace(wrong=circle)
    return graph


def stuck(world: World) -> str:
    """What is wrong with a world in which no process has a move left."""
    for number, process in enumerate(world.processes):
        if process.at not in ("idle", "crashed"):
            return f"I3: {name_of(number)} is stuck"
        if process.at == "idle" and process.ending != "out" and not world.lives(process.current):
            return f"I3: {name_of(number)} has no token, and was told nothing"
    if world.logged_out and world.stored is not None:
        return "I7: a logout was undone"
    return ""


def in_circle(leads: list[list[int]]) -> int | None:
    """A world that leads back to itself, if any does."""
    entries = [0] * len(leads)
    for there in leads:
        for number in there:
            entries[number] += 1
    free = [number for number, count in enumerate(entries) if not count]
    while free:
        for number in leads[free.pop()]:
            entries[number] -= 1
            if not entries[number]:
                free.append(number)
    return next((number for number, count in enumerate(entries) if count), None)


def name_of(number: int) -> str:
    return "ABCDEFGH"[number]


def told(graph: Graph, number: int) -> str:
    """The shortest way to a world, step by step, for a person to read."""
    lines = [f"{graph.rules}"]
    for move in graph.path(number):
        world = move.world
        who = "" if move.process is None else f"{name_of(move.process)} "
        where = f" ({STEPS[move.what]})" if move.what in STEPS else ""
        stands = " ".join(
            f"{name_of(n)}:{p.at}{'*' * p.holds}" for n, p in enumerate(world.processes)
        )
        stored = "-" if world.stored is None else "a{1}/r{2} of login {0}".format(*world.stored)
        lines.append(f"{who + move.what + where:44} {stands:30} stored: {stored}")
    lines.append(graph.worlds[number].broken or "the login is lost")
    return "\n".join(lines)
