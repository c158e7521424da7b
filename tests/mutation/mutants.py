"""What mutants there are of a file: cosmic-ray's operators, and some of our own.

Its operators change comparisons, conditions, constants, loops and handlers. Ours leave a
statement out, return None, let a `with` block run without what guards it, leave one side of
an `and` or `or` out, and swap `min` and `max`: what goes wrong in code about threads.
"""

from __future__ import annotations

import ast
import importlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_SWAPPED = {  # of the 56 that cosmic-ray has; the others are killed by what kills these
    *(f"{a}_{b}" for a, b in (("Lt", "LtE"), ("Lt", "GtE"), ("LtE", "Lt"), ("LtE", "Gt"))),
    *(f"{a}_{b}" for a, b in (("Gt", "GtE"), ("Gt", "LtE"), ("GtE", "Gt"), ("GtE", "Lt"))),
    *(f"{a}_{b}" for a, b in (("Eq", "NotEq"), ("NotEq", "Eq"), ("Is", "IsNot"), ("IsNot", "Is"))),
}
_CALCULATED = {"Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul", "BitOr_BitAnd", "Mod_Mul"}
OPERATORS = [
    *(f"ReplaceComparisonOperator_{pair}" for pair in sorted(_SWAPPED)),
    *(f"ReplaceBinaryOperator_{pair}" for pair in sorted(_CALCULATED)),
    "ReplaceUnaryOperator_USub_UAdd",
    "ReplaceUnaryOperator_Delete_Not",
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ExceptionReplacer",
    "NumberReplacer",
    "RemoveDecorator",
    "ZeroIterationForLoop",
]
Place = tuple[int, int]  # line, from 1; column, from 0
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    file: str  # in the package
    operator: str
    line: int
    scope: str  # the qualified name of what it stands in; "" for the module
    old: str  # the first line that changes, and what becomes of it
    new: str
    source: str  # of the whole file
    live: bool  # it is in a function, so that it can be put into a module that is imported

    @property
    def name(self) -> str:
        """What tells it from others, and stays when lines move."""
        return f"{self.scope}: `{self.old}` -> `{self.new}`"


def mutants_of(file: str, source: str) -> list[Mutant]:
    """All mutants of a file of the package, in the order of its lines."""
    tree = ast.parse(source)
    skipped = list(_no_code(tree))
    seen, found = {source}, list[Mutant]()
    for operator, begin, mutated in itertools.chain(_cosmic(source), _own(source, tree)):
        if mutated in seen or any(first <= begin < last for first, last in skipped):
            continue
        seen.add(mutated)
        if not _compiles(mutated):
            continue
        scope, live = _scope(tree, begin)
        old, new = _first_change(source, mutated)
        found.append(Mutant(file, operator, begin[0], scope, old, new, mutated, live))
    return sorted(found, key=lambda mutant: mutant.line)


def _cosmic(source: str) -> Iterator[tuple[str, Place, str]]:
    get_ast: Any = importlib.import_module("cosmic_ray.ast")
    plugins: Any = importlib.import_module("cosmic_ray.plugins")
    mutating: Any = importlib.import_module("cosmic_ray.mutating")
    heads = [
        (_begin(node), _begin(node.body[0]))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, Function)
    ]
    for name in OPERATORS:
        operator = plugins.get_operator(f"core/{name}")()
        places = [
            begin
            for node in get_ast.ast_nodes(get_ast.get_ast(source))
            for begin, _ in operator.mutation_positions(node)
        ]
        for occurrence, begin in enumerate(places):
            if name.startswith("ReplaceBinary") and any(a <= begin < b for a, b in heads):
                continue  # a star that is no operator
            yield name, begin, mutating.mutate_code(source, operator, occurrence)


def _own(source: str, tree: ast.Module) -> Iterator[tuple[str, Place, str]]:
    lines = source.splitlines(keepends=True)

    def at(place: Place) -> int:  # columns of `ast` are bytes, and all is ASCII
        return sum(map(len, lines[: place[0] - 1])) + place[1]

    def put(begin: Place, end: Place, text: str) -> str:
        # As many lines as before, so that those below keep their numbers.
        return source[: at(begin)] + text + "\n" * (end[0] - begin[0]) + source[at(end) :]

    for node in ast.walk(tree):
        begin = _begin(node)
        if isinstance(node, ast.Return) and not _is_falsy(node.value):
            yield "return None", begin, put(begin, _end(node), "return None")
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.Delete, ast.Raise, ast.Return)) or (
            isinstance(node, (ast.AnnAssign, ast.Expr)) and node.value is not None
        ):
            yield "leave out", begin, put(begin, _end(node), "pass")
        elif isinstance(node, ast.With) and all(not i.optional_vars for i in node.items):
            head = _end(node.items[-1].context_expr)
            colon = source.index(":", at(head))
            text = source[: at(begin)] + "if True" + "\n" * (head[0] - begin[0]) + source[colon:]
            if head[0] == begin[0]:
                yield "without with", begin, text
        elif isinstance(node, ast.BoolOp):
            for left, right in itertools.pairwise(node.values):
                # With a bracket that belongs to one side only, it does not compile.
                for first, last in ((_end(left), _end(right)), (_begin(left), _begin(right))):
                    mutated = source[: at(first)] + source[at(last) :]
                    yield "leave a side out", begin, mutated
        elif isinstance(node, ast.Name) and node.id in ("min", "max"):
            text = "max" if node.id == "min" else "min"
            yield "min or max", begin, put(begin, _end(node), text)


def _is_type(value: ast.expr) -> bool:
    return isinstance(value, ast.Subscript | ast.BinOp) and ast.unparse(value).startswith(
        ("Callable[", "tuple[")
    )


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _begin(node: Any) -> Place:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


def _end(node: Any) -> Place:
    return node.end_lineno, node.end_col_offset


def _is_falsy(node: ast.expr | None) -> bool:
    return node is None or (isinstance(node, ast.Constant) and not node.value)


def _no_code(tree: ast.Module) -> Iterator[tuple[Place, Place]]:
    """What does nothing: annotations, texts, asserts, what is logged or shown to people."""
    for node in ast.walk(tree):
        notes: list[ast.AST | None] = []
        if isinstance(node, Function):
            notes.append(node.returns)
            if node.name == "__repr__":
                notes += node.body
        elif isinstance(node, (ast.arg, ast.AnnAssign)):
            notes.append(node.annotation)
            if isinstance(node, ast.AnnAssign) and node.value is None:
                notes.append(node)
        elif (
            isinstance(node, (ast.Assert, ast.Import, ast.ImportFrom))
            or (
                isinstance(node, ast.Expr)
                and (isinstance(node.value, ast.Constant) or ast.unparse(node).startswith("log."))
            )
            or (isinstance(node, ast.Assign) and _is_type(node.value))
        ):
            notes.append(node)
        yield from ((_begin(note), _end(note)) for note in notes if note is not None)


def _scope(tree: ast.Module, place: Place) -> tuple[str, bool]:
    """The qualified name of what it stands in, and whether that is the body of a function."""
    names, live, inner = [], False, list(ast.iter_child_nodes(tree))
    while inner:
        node = inner.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = min([_begin(node), *map(_begin, node.decorator_list)])
            if first <= place < _end(node):
                names.append(node.name)
                live = live or (isinstance(node, Function) and place >= _begin(node.body[0]))
                inner = list(ast.iter_child_nodes(node))
        else:
            inner += ast.iter_child_nodes(node)
    return ".".join(names), live


def _first_change(old: str, new: str) -> tuple[str, str]:
    both = itertools.zip_longest(old.splitlines(), new.splitlines(), fillvalue="")
    first, then = next((a, b) for a, b in both if a != b)
    return first.strip(), then.strip()
