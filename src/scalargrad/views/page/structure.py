"""Groups for numbers without names: sums, equal shapes in a row, and parts of what is irregular.

The items of a group, numbers and smaller groups, stand in the order in which they were made. Where
they are too many to be seen at a glance, sums are made one item each, then repeats, those of the
shortest turns first, so that the turns of an outer loop are short when it is looked for. What is
left is cut into parts. Repeats and parts are stretches of the sequence, and nothing outside a sum
uses what is in it but its last number, so arrows between groups lead forwards. (Within a part of a
network, equal uses of it are one item wherever they stand, and arrows may lead in a circle.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from ... import ops
from .groups import Groups
from .modules import stem_of
from .repeats import shortest

FEW = 40  # items that are seen at a glance
PARTS = 12  # that a long sequence is cut into
ALIKE = 4  # leaves with a common name that are one item, where there are many
USUAL = 16  # shapes of the uses of a part that are looked for within longer uses
LEAF = "leaf"  # how a leaf is written among the operations of a repeat

Item = int  # a number of the graph, or ~g for group g


@dataclass(slots=True)
class Collapse:
    """Puts the items of groups into smaller groups.

    `codes`, `operands` and `numbers` are those of the graph's numbers, in the order of the tape;
    `numbers` says when each was made. `names` has the names of some, `users` of each number that
    is used once what uses it.
    """

    groups: Groups
    codes: Sequence[int]
    operands: Sequence[Sequence[int]]
    numbers: Sequence[int]
    names: dict[int, str]
    users: Mapping[int, int]
    root: int
    _homes: list[int] = field(init=False)  # the part of a network that each number belongs to
    _shapes: dict[Hashable, int] = field(default_factory=dict)
    _shape: dict[Item, int] = field(default_factory=dict)  # of groups
    _heads: dict[Item, int] = field(default_factory=dict)  # of sums
    _of_code: dict[int, int] = field(default_factory=dict)  # shapes of numbers
    _texts: dict[int, str] = field(default_factory=dict)  # of shapes

    def __post_init__(self) -> None:
        self._homes = list(self.groups.places)

    def arrange(self, g: int, members: Sequence[int], *, apart: bool) -> None:
        """Put the members of group g, numbers in the order of the tape, into groups inside it.

        If they are many, leaves stand for themselves where `apart`, else among the results. What
        has no name and is used once, a constant in a formula, always stands before its use.
        """
        if len(members) <= FEW:
            self._put(g, members)
            return
        inside = set(members)
        constants = {
            x: self.users[x]
            for x in members
            if self.codes[x] == ops.LEAF and x not in self.names and x in self.users
        }
        constants = {x: user for x, user in constants.items() if user in inside}

        def turn(x: int) -> tuple[int, bool]:
            return self.numbers[constants.get(x, x)], x not in constants

        items = self._sums(sorted(members, key=turn), inside)
        if apart:
            given = [
                x for x in items if x >= 0 and self.codes[x] == ops.LEAF and x not in constants
            ]
            self._put(g, self._alike(given))
            kept = set(given)
            items = self._calls([x for x in items if x not in kept], members, constants)
        self._collapse(g, items)

    def _collapse(self, g: int, items: Sequence[Item]) -> None:
        """Put items into group g, with repeats as one item each, and in parts if they are many."""
        items = self._repeats(items)
        if len(items) > FEW:
            items = self._parts(items)
        self._put(g, items)

    def _put(self, g: int, items: Sequence[Item]) -> None:
        for x in items:
            if x >= 0:
                self.groups.places[x] = g
            else:
                self.groups.parents[~x] = g

    def _group(self, kind: str, label: str, shape: Hashable, text: str) -> Item:
        item = ~self.groups.add(0, kind, label)
        self._shape[item] = self._shape_of(shape, text)
        return item

    def _shape_of(self, key: Hashable, text: str) -> int:
        shape = self._shapes.setdefault(key, len(self._shapes))
        self._texts.setdefault(shape, text)
        return shape

    def shape(self, x: Item) -> int:
        """A number that two items have in common if they do the same."""
        if x < 0:
            return self._shape[x]
        if x == self.root:
            return self._shape_of("root", self._symbol(x))
        known = self._of_code.get(self.codes[x])
        if known is None:
            known = self._shape_of(("number", self.codes[x]), self._symbol(x))
            self._of_code[self.codes[x]] = known
        return known

    def _symbol(self, x: int) -> str:
        code = self.codes[x]
        return LEAF if code == ops.LEAF else ops.BY_CODE[code].symbol.format(c="n")

    # --- sums ---------------------------------------------------------------------------------------

    def _sums(self, items: Sequence[Item], inside: set[int]) -> list[Item]:
        """The items, with each sum of three numbers or more one item, with all that only it uses."""
        taken: set[int] = set()
        sums: dict[int, list[int]] = {}  # head -> what is added, and how

        def is_private(x: int) -> bool:
            return x in self.users and x in inside and x != self.root and x not in self.names

        for v in items:
            if self.codes[v] != ops.ADD:
                continue
            terms = [x for x in self.operands[v] if is_private(x)]
            inner = [x for x in terms if self.codes[x] in (ops.ADD, ops.MUL)]
            if not inner:
                continue
            lists = sorted((sums.pop(x) for x in inner if x in sums), key=len)
            whole = lists.pop() if lists else []
            whole += [x for part in lists for x in part]
            whole += [v, *(x for x in inner if x not in taken)]
            taken.update((v, *inner))
            sums[v] = whole
        heads = {v: self._sum(whole, inside) for v, whole in sums.items() if len(whole) > 2}
        hidden = {x for _, members in heads.values() for x in members}
        out: list[Item] = []
        for x in items:
            if x in heads:
                out.append(heads[x][0])
            elif x not in hidden:
                out.append(x)
        return out

    def _sum(self, whole: list[int], inside: set[int]) -> tuple[Item, set[int]]:
        """A group of these numbers and of the leaves that only they use."""
        members = set(whole)
        for v in whole:
            members.update(
                x
                for x in self.operands[v]
                if self.codes[x] == ops.LEAF and x in self.users and x in inside
            )
        products = sum(self.codes[x] == ops.MUL for x in whole)
        terms = len(whole) - products + 1 - products
        text = f"{products} products" if products != 1 else "1 product"
        label = text + (f" + {terms}" if terms else "") if products else f"{terms} terms"
        item = self._group("sum", label, ("sum", products, terms, len(members)), "Σ")
        self._heads[item] = max(whole)
        self._collapse(~item, sorted(members, key=self.numbers.__getitem__))
        return item, members

    # --- calls --------------------------------------------------------------------------------------

    def _calls(
        self, items: Sequence[Item], members: Sequence[int], constants: Mapping[int, int]
    ) -> list[Item]:
        """The items of a part of a network that is used many times, equal uses as one item.

        A use ends where the program computes something that is not among the members. One part can
        be used in several ways, which what was computed just before tells apart: a block is at work
        after its attention and after its inner network.
        """
        results = sorted(x for x in members if self.codes[x] != ops.LEAF)
        starts = [x for k, x in enumerate(results) if k == 0 or x > results[k - 1] + 1]
        calls: dict[int, list[Item]] = {}
        for item in items:
            last = constants.get(item, item) if item >= 0 else self._heads[item]
            calls.setdefault(starts[bisect_right(starts, last) - 1], []).append(item)
        shapes = {start: tuple(self.shape(x) for x in call) for start, call in calls.items()}
        frequent = Counter(shapes.values()).most_common(USUAL)
        usual = sorted((shape for shape, n in frequent if n > 1), key=len, reverse=True)
        alike: dict[tuple[int, ...], dict[int, list[list[Item]]]] = {}
        for first, call in calls.items():
            before = self._homes[first - 1]
            for start, end in _cut(shapes[first], usual):
                ways = alike.setdefault(shapes[first][start:end], {})
                ways.setdefault(before, []).append(call[start:end])
        out: list[Item] = []
        for ways in alike.values():
            # A single use that comes after something else is the first one, say.
            odd = [uses[0] for uses in ways.values() if len(uses) == 1]
            several = [uses for uses in ways.values() if len(uses) > 1] or [[]]
            several[0][:0] = odd
            for uses in several:
                whole = [x for use in uses for x in use]
                out += [self._repeat(whole, len(uses[0]))] if len(uses) > 1 else whole
        return out

    # --- repeats, parts, leaves -------------------------------------------------------------------------

    def _repeats(self, items: Sequence[Item]) -> list[Item]:
        """The items, with repeats one item each until there are few."""
        items, shapes = list(items), [self.shape(x) for x in items]
        while len(items) > FEW:
            found = shortest(np.array(shapes))
            if not found:
                break
            out: list[Item] = []
            outlines: list[int] = []
            done = 0
            for repeat in found:
                item = self._repeat(items[repeat.start : repeat.end], repeat.period)
                out += [*items[done : repeat.start], item]
                outlines += [*shapes[done : repeat.start], self.shape(item)]
                done = repeat.end
            items, shapes = out + items[done:], outlines + shapes[done:]
        return items

    def _repeat(self, items: Sequence[Item], period: int) -> Item:
        count = len(items) // period
        text = self._text(items[:period])
        shapes = tuple(self.shape(x) for x in items[:period])
        each = items if period == 1 else self._turns(items, period, shapes, text)
        word = f"{count:,} × {text}" if period == 1 else f"{count:,} × ({text})"
        kind = "repeat"
        if text == LEAF:
            kind, word = "leaves", f"{count:,} leaves"
        item = self._group(kind, word, ("repeat", shapes, count), word)
        self._put(~item, each)
        return item

    def _turns(
        self, items: Sequence[Item], period: int, shapes: tuple[int, ...], text: str
    ) -> list[Item]:
        turns: list[Item] = []
        for start in range(0, len(items), period):
            own = items[start : start + period]
            turn = self._group("turn", f"{len(turns) + 1:,}: {text}", ("turn", shapes), text)
            self._collapse(~turn, own)
            turns.append(turn)
        return turns

    def _parts(self, items: Sequence[Item]) -> list[Item]:
        """A long sequence in a few stretches, each of them cut again if it is long."""
        count = min(PARTS, -(-len(items) // FEW))
        bounds = [len(items) * k // count for k in range(count + 1)]
        parts: list[Item] = []
        for k, (start, end) in enumerate(pairwise(bounds)):
            own = items[start:end]
            part = self._group("part", f"part {k + 1} of {count}", ("part", len(parts)), "part")
            self._put(~part, self._parts(own) if len(own) > FEW else own)
            parts.append(part)
        return parts

    def _text(self, items: Sequence[Item]) -> str:
        """What a few items do: `Σ, ReLU`."""
        texts = list(dict.fromkeys(self._texts[self.shape(x)] for x in items))
        texts = [text for text in texts if text != LEAF] or texts
        return ", ".join(texts[:3]) + (", …" if len(texts) > 3 else "")

    def _alike(self, given: Sequence[int]) -> list[Item]:
        """Leaves, those with a common name or with none as one item if they are several."""
        by_stem: dict[str, list[int]] = {}
        for x in given:
            by_stem.setdefault(stem_of(self.names.get(x, "")), []).append(x)
        out: list[Item] = []
        for stem, own in by_stem.items():
            if len(own) < ALIKE:
                out += own
                continue
            label = stem.rpartition(".")[2] or f"{len(own):,} leaves"
            item = self._group("leaves", label, ("leaves", label), label)
            self._put(~item, own)
            out.append(item)
        return out


def _cut(shape: tuple[int, ...], usual: Sequence[tuple[int, ...]]) -> list[tuple[int, int]]:
    """Where to cut a call so that one of the usual ones comes out, at its start or its end.

    The last use, say, may be followed by what is done with all of them.
    """
    whole = len(shape)
    for known in usual:
        part = len(known)
        if part == whole and shape == known:
            break
        if part < whole and shape[:part] == known:
            return [(0, part), (part, whole)]
        if part < whole and shape[-part:] == known:
            return [(0, whole - part), (whole - part, whole)]
    return [(0, whole)]
