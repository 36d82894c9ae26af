"""Regular expressions that can read one text in ever more ways, and so take without end over a text that fits nowhere.

A pattern is taken for a graph of its characters, with an edge for each way from one to the next. It has exponentially
many ways if, and only if, two paths of the same characters lead from one place back to it: `(a+)+`, where the next `a`
is of the inner loop or of the outer, `(a|a)*`, `(\\s*\\w+\\s*)+`. Looks ahead and behind are patterns of their own, so
that one which they make safe is called unsafe; a pattern with other things, such as references, is refused.
"""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from re import _compiler, _parser
from typing import Any

from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

ALPHABET = "aZ0_ \n\t.,;:!?-%()[]<>/'\"•肺的，。é²"
"""A character of each kind; those that a pattern names come on top."""

NOTED = """
import json, re, sys
noted, compile = {}, re._compile
def noting(pattern, flags):
    frame = sys._getframe(1)
    while frame.f_code.co_filename == re.__file__:
        frame = frame.f_back
    compiled = compile(pattern, flags)
    if "/gmai_vl/" in frame.f_code.co_filename and isinstance(compiled.pattern, str):
        where = frame.f_code.co_filename.rpartition("/gmai_vl/")[2]
        noted[compiled.pattern, int(compiled.flags)] = where
    return compiled
re._compile = noting
exec(sys.argv[1])
print(json.dumps([[where, *pattern] for pattern, where in noted.items()]))
"""


def patterns_compiled_by(code: str) -> list[tuple[str, str, int]]:
    """Run code in a process of its own; return file, pattern and flags of all that our modules compile meanwhile."""
    ran = subprocess.run([sys.executable, "-c", NOTED, code], check=True, capture_output=True, text=True)
    return [tuple(each) for each in json.loads(ran.stdout.splitlines()[-1])]


def longest_match(pattern: str, flags: int = 0) -> int:
    """Return the most characters that a pattern can match; `re`'s own largest number if it goes on for ever."""
    return _parser.parse(pattern, flags).getwidth()[1]


def reads_in_ever_more_ways(pattern: str, flags: int = 0) -> bool:
    """Say whether the ways to read a text grow exponentially with its length."""
    tree = _parser.parse(pattern, flags)
    alphabet = "".join(sorted({*ALPHABET, *(one for one in pattern if one.isprintable())}))
    waiting, flags = [tree], tree.state.flags
    while waiting:
        graph = _Graph(flags, alphabet)
        graph.sequence(waiting.pop())
        if graph.has_two_ways_round():
            return True
        waiting += graph.apart
    return False


@dataclass
class _Piece:
    """What a piece of a pattern may begin and end with, place -> ways there; and the ways to read nothing."""

    first: Counter[int] = field(default_factory=Counter)
    last: Counter[int] = field(default_factory=Counter)
    empty: int = 1


class _Graph:
    def __init__(self, flags: int, alphabet: str) -> None:
        self.flags, self.alphabet = flags, alphabet
        self.reads: list[frozenset[str]] = []
        self.ways: Counter[tuple[int, int]] = Counter()
        self.apart: list[Any] = []

    def sequence(self, nodes: Any) -> _Piece:
        whole = _Piece()
        for node in nodes:
            whole = self.join(whole, self.piece(str(node[0]), node[1], node))
        return whole

    def join(self, one: _Piece, other: _Piece) -> _Piece:
        self.lead(one, other)
        first = one.first + Counter({place: ways * one.empty for place, ways in other.first.items()})
        last = other.last + Counter({place: ways * other.empty for place, ways in one.last.items()})
        return _Piece(first, last, min(2, one.empty * other.empty))

    def lead(self, one: _Piece, other: _Piece) -> None:
        for end, ways in one.last.items():
            for start, more in other.first.items():
                self.ways[end, start] += ways * more

    def piece(self, name: str, given: Any, node: Any) -> _Piece:
        if name in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            self.reads.append(_characters(_Node(node), self.flags, self.alphabet))
            place = Counter([len(self.reads) - 1])
            return _Piece(place, place, 0)
        if name == "BRANCH":
            pieces = [self.sequence(nodes) for nodes in given[1]]
            first, last = (sum((getattr(one, end) for one in pieces), Counter()) for end in ("first", "last"))
            return _Piece(first, last, min(2, sum(one.empty for one in pieces)))
        if name == "SUBPATTERN":
            return self.sequence(given[3])
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            return self.repeat(*given)
        self.apart += [given[1]] if name in ("ASSERT", "ASSERT_NOT") else []
        assert name in ("ASSERT", "ASSERT_NOT", "AT"), name
        return _Piece()

    def repeat(self, least: int, most: int, nodes: Any) -> _Piece:
        whole, rest = _Piece(), _Piece()
        endless = most == _parser.MAXREPEAT
        for _ in range(least - (endless and least > 0)):
            whole = self.join(whole, self.sequence(nodes))
        for _ in range(1 if endless else most - least):
            rest = self.join(self.sequence(nodes), rest)
            rest.empty = 1 if not endless or least == 0 else rest.empty
        if endless:
            self.lead(rest, rest)
        return self.join(whole, rest)

    def has_two_ways_round(self) -> bool:
        """Say whether two paths of the same characters lead from one place back to it."""
        edges = [edge for edge in self.ways if self.ways[edge] and self.reads[edge[0]] and self.reads[edge[1]]]
        area = _strong(edges)
        edges = [(one, other) for one, other in edges if area[one] == area[other]]
        if any(self.ways[edge] > 1 for edge in edges):
            return True
        after: dict[int, list[int]] = {}
        for one, other in edges:
            after.setdefault(one, []).append(other)
        pairs, waiting = {}, [(place, place) for place in after]
        while waiting:
            pair = waiting.pop()
            if pair not in pairs:
                pairs[pair] = [
                    (one, other)
                    for one in after[pair[0]]
                    for other in after[pair[1]]
                    if self.reads[one] & self.reads[other]
                ]
                waiting += pairs[pair]
        number = {pair: index for index, pair in enumerate(pairs)}
        area = _strong([(number[pair], number[other]) for pair, others in pairs.items() for other in others])
        same = {area[index] for (one, other), index in number.items() if one == other and index in area}
        return any(one != other and area.get(index) in same for (one, other), index in number.items())


def _strong(edges: list[tuple[int, int]]) -> dict[int, int]:
    """Return place -> the number of its area, within which every place leads to every other."""
    if not edges:
        return {}
    size = 1 + max(max(edge) for edge in edges)
    matrix = coo_array(([1] * len(edges), tuple(zip(*edges, strict=True))), shape=(size, size))
    _, areas = connected_components(matrix, connection="strong")
    return {place: int(areas[place]) for edge in edges for place in edge}


class _Node:
    """One character of a parsed pattern, equal to those that are written the same."""

    def __init__(self, node: Any) -> None:
        self.node = node

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Node) and repr(self.node) == repr(other.node)

    def __hash__(self) -> int:
        return hash(repr(self.node))


@cache
def _characters(one: _Node, flags: int, alphabet: str) -> frozenset[str]:
    state = _parser.State()
    state.flags = flags
    reader = _compiler.compile(_parser.SubPattern(state, [one.node]), flags)
    return frozenset(character for character in alphabet if reader.fullmatch(character))
