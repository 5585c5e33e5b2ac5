"""Loops to LLVM IR: every instruction becomes a function, and `run` calls them in order.

The code is for one batch size and one machine. Numbers live in one array per space, whose
addresses `run` finds in its only argument, the environment: a pointer for each `Space`, one to
the index table, one to scratch memory for operands copied to a better layout, and one to the
stream of operations without structure.

A program that is worth it can be shared by several workers. Its long nests then ask which part of
their tiles is to be computed, `run` computes all of them, and `share(environment, phase, worker,
workers)` what one worker has to do in one phase: see `phases`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import lcm
from typing import NamedTuple

from . import serial
from .binding import Binder, Piece, spaces_written, touched
from .clusters import ClusterCode
from .environment import SCRATCH
from .fuse import Cluster, fuse
from .ir import Function
from .loops import (
    Apply,
    Contract,
    Indicator,
    Instruction,
    Repeat,
    Scatter,
    Space,
    Take,
    Walk,
    work,
)
from .moulds import PORTION, Moulds
from .phases import BY_EXAMPLES, SHARED, SINGLE, Task, chains, phases
from .riders import paired
from .selections import indicator, scatter, take
from .team import TRIAL
from .tiles import Division, speedup
from .totals import candidates

# In cycles, roughly: what a nest must take to be shared, and a program for each of its workers.
LONG, WORTH = 1_500.0, 100_000.0
# The speed-up by four workers that is enough where tiles of a repeat are as they like; and in how
# many parts, at least, tiles that are to fit one another cut a batch.
EVEN, PARTS = 3.0, 8
ALL = -1  # workers
MANY = 3000  # pieces of a program that is not looked at for what could be shared


class _Part(NamedTuple):
    """A function, and who calls it in which phase: ALL workers, or one; see `_whose`."""

    phase: int
    who: int
    name: str


def _form(piece: Piece, chunk: int) -> int:
    """How a piece is done, where so many examples belong together."""
    if chunk and piece.unit and chunk % piece.unit == 0:
        return BY_EXAMPLES
    return SHARED if piece.split and piece.cycles >= LONG else SINGLE


@dataclass
class Emitter(Binder):
    """The state of one program's emission."""

    unread: frozenset[Space] = frozenset()

    def __post_init__(self) -> None:
        super().__post_init__()
        total = sum(work(step, self.batch) for step in self.loops.instructions)
        self.several = total / self.module.width > 2 * WORTH
        self.phases = 0  # of `share`; 0 if the program is for one worker
        self.workers = 1  # more are of no use
        self.cycles = self.shared = 0.0  # of the program, and of its shared pieces

    def prepare(
        self, cluster: Cluster, sums: Sequence[Cluster] = ()
    ) -> tuple[Piece, Sequence[bool]]:
        """A cluster, bound to memory; the copies that it needs become pieces before it.

        `sums` over the examples could be computed in its loops, too: whether each of them is.
        """
        absorbed: Sequence[bool] = ()
        step = cluster.steps[0]
        if isinstance(step, Repeat):
            piece = self._repeat(step, cluster)
        elif isinstance(step, Contract | Apply):
            code = ClusterCode(self, cluster)
            absorbed = [code.absorb(total) for total in sums]
            piece = code.piece()
        else:
            piece = _PIECE[type(step)](self, cluster)
        for each in (cluster, *(total for total, inside in zip(sums, absorbed) if inside)):
            for member in each.steps:
                self.forget(member)
        return piece, absorbed

    def _repeat(self, step: Repeat, cluster: Cluster) -> Piece:
        before = len(self.pieces), dict(self.copied), self.scratch
        piece = self._turns_of(step, cluster)
        uneven = bool(piece.unit) and speedup(self.batch, piece.unit, 4) < EVEN
        if self.several and uneven:
            # Few of its tiles end where others do: once more, with tiles that fit one another.
            count, self.copied, self.scratch = before
            del self.pieces[count:]
            most, self.most = self.most, max(self.batch // PARTS, 1)
            piece = self._turns_of(step, cluster)
            self.most = most
        return piece

    def _turns_of(self, step: Repeat, cluster: Cluster) -> Piece:
        self.written.append(spaces_written(step))
        self.counts.append(step.count)
        inner = [self.prepare(each)[0] for each in cluster.inner]
        # Copies made in a turn are of that turn.
        self.copied = {k: v for k, v in self.copied.items() if k[-1] < len(self.written)}
        self.written.pop()
        self.counts.pop()
        # Where all divide the examples, each worker goes through all turns and waits for nobody.
        unit = lcm(*(piece.unit for piece in inner))

        def write(function: Function, division: Division | None) -> None:
            def body() -> None:
                for piece in inner:
                    own = None if division is None else division.finer(unit, piece.unit)
                    piece.write(function, own)

            function.repeat(step.count, body)

        copies = tuple(t for piece in inner for t in piece.reads if t.array == SCRATCH)
        return Piece(
            write,
            (*touched(cluster.reads), *copies),
            touched(cluster.writes),
            cycles=step.count * sum(piece.cycles for piece in inner),
            unit=unit,
        )

    def run(self) -> None:
        """Write the module."""
        clusters = fuse(self.loops, self.unread, self.batch, divider=self.module.divides)
        hosts = {} if self.several else candidates(clusters)
        done: set[int] = set()
        for k, cluster in enumerate(clusters):
            # Sums that may go into a later cluster wait for it.
            if k in done or hosts.get(k, k) > k:
                continue
            sums = [number for number, host in hosts.items() if host == k]
            piece, absorbed = self.prepare(cluster, [clusters[number] for number in sums])
            for number, inside in zip(sums, absorbed):
                if inside:
                    done.add(number)
                elif number < k:
                    self.pieces.append(self.prepare(clusters[number])[0])
            self.pieces.append(piece)
        self._write()

    def _write(self) -> None:
        """Write the pieces, in functions that belong to one phase each."""
        chunk = self._chunk()
        forms = [_form(piece, chunk) for piece in self.pieces]
        shared = [form != SINGLE for form in forms]
        self.cycles = sum(piece.cycles for piece in self.pieces)
        self.shared = sum(p.cycles for p, some in zip(self.pieces, shared) if some)
        if self.several and self.shared >= 2 * WORTH and len(self.pieces) <= MANY:
            tasks = [Task(p.reads, p.writes, f) for p, f in zip(self.pieces, forms)]
            found = phases(tasks)
            whose = self._whose(tasks, found)
            order = sorted((phase, who, k) for k, (phase, who) in enumerate(zip(found, whose)))
            self.phases, self.workers = 1 + max(found), int(self.shared / WORTH)
        else:
            self.shared = 0.0
            self.pieces = paired(self.pieces)
            order = [(0, 0, k) for k in range(len(self.pieces))]
            self.settle()
        divisions: list[Division | None] = [None] * len(self.pieces)
        if self.phases:
            divisions = [self._division(*which, chunk) for which in zip(self.pieces, forms)]
        moulds = [piece.mould() for piece in self.pieces]
        writer = Moulds(self.module, [*zip(moulds, divisions)])
        functions: list[_Part] = []
        function: Function | None = None
        for phase, who, k in order:
            if function is None or (phase, who) != functions[-1][:2] or function.long:
                if function is not None:
                    self.module.finish(function)
                functions.append(_Part(phase, who, f"nests{len(functions)}"))
                parameters = f"ptr %env, {PORTION}" if who == ALL else "ptr %env"
                function = Function(self.module, functions[-1].name, parameters)
            writer.write(function, self.pieces[k].write, moulds[k], divisions[k])
        if function is not None:
            self.module.finish(function)
        serial.finish(self)
        self._run(functions)
        if self.phases:
            self._share(functions)

    def _whose(self, tasks: Sequence[Task], found: Sequence[int]) -> list[int]:
        """Who does each task: ALL, or the worker of that number, counted round and round.

        Of each phase, the long chains of single tasks go to one worker after the other.
        """
        cycles: dict[int, dict[int, float]] = {}
        chain = chains(tasks, found)
        for k, task in enumerate(tasks):
            if task.form == SINGLE:
                phase = cycles.setdefault(found[k], {})
                phase[chain[k]] = phase.get(chain[k], 0.0) + self.pieces[k].cycles
        worker: dict[int, int] = {}
        for phase in cycles.values():
            long = sorted((c for c in phase if phase[c] >= LONG), key=lambda c: -phase[c])
            worker |= {c: long.index(c) if c in long else len(long) for c in phase}
        return [worker[c] if task.form == SINGLE else ALL for c, task in zip(chain, tasks)]

    def _division(self, piece: Piece, form: int, chunk: int) -> Division | None:
        """How workers divide a piece."""
        if form == BY_EXAMPLES:
            return Division(chunk // piece.unit, -(-self.batch // chunk))
        return Division() if form == SHARED else None

    def _chunk(self) -> int:
        """How many examples belong together: so that dividing them spares most of the time."""
        pieces = [piece for piece in self.pieces if piece.unit]
        chunks: set[int] = set()
        for unit in {piece.unit for piece in pieces}:
            chunks |= {unit, *(lcm(unit, other) for other in chunks)}
            chunks = {chunk for chunk in chunks if 2 * chunk <= self.batch}

        def spared(chunk: int) -> float:
            divided = sum(piece.cycles for piece in pieces if chunk % piece.unit == 0)
            return divided * (1.0 - 1.0 / speedup(self.batch, chunk, 2))

        return max(sorted(chunks), key=spared, default=0)

    def _run(self, functions: Sequence[_Part]) -> None:
        main = Function(self.module, "run", linkage="")
        for _, who, name in functions:
            main.do(f"call void @{name}(ptr %env{', i64 0, i64 1' if who == ALL else ''})")
        self.module.finish(main)

    def _share(self, functions: Sequence[_Part]) -> None:
        """What one worker does in one phase."""
        main = Function(
            self.module, "share", "ptr %env, i64 %phase, i64 %worker, i64 %workers", linkage=""
        )
        labels, end = [main.label() for _ in range(self.phases)], main.label()
        cases = " ".join(f"i64 {k}, label %{label}" for k, label in enumerate(labels))
        main.do(f"switch i64 %phase, label %{end} [ {cases} ]")
        for phase, label in enumerate(labels):
            main.begin(label)
            for who, parts in groupby((f for f in functions if f.phase == phase), lambda f: f.who):
                after = main.label()
                if who != ALL:
                    own, number = main.label(), main.emit(f"urem i64 {who}, %workers")
                    mine = main.emit(f"icmp eq i64 {number}, %worker")
                    main.do(f"br i1 {mine}, label %{own}, label %{after}")
                    main.begin(own)
                for part in parts:
                    told = ", i64 %worker, i64 %workers" if who == ALL else ""
                    main.do(f"call void @{part.name}(ptr %env{told})")
                main.do(f"br label %{after}")
                main.begin(after)
            main.do(f"br label %{end}")
        main.begin(end)
        self.module.finish(main)
        together = Function(self.module, "together", linkage="")
        together.declare("void", "lead", "ptr", "ptr", "ptr", "i64", "i64", "i64", "ptr")
        trial = ", ".join(f"i64 {number}" for number in TRIAL)
        self.module.definitions.append(f"@trial = internal global [{len(TRIAL)} x i64] [{trial}]")
        together.do(
            "call void @lead(ptr %env, ptr @run, ptr @share, "
            f"i64 {self.phases}, i64 {self.workers}, i64 {int(self.cycles)}, ptr @trial)"
        )
        self.module.finish(together)


def _walk(emitter: Emitter, cluster: Cluster) -> Piece:
    step = cluster.steps[0]
    assert isinstance(step, Walk)
    write, scratch = serial.prepare(emitter, step)
    return Piece(
        lambda function, _: write(function),
        touched(cluster.reads),
        (*touched(cluster.writes), *scratch),
    )


_PIECE: dict[type[Instruction], Callable[[Emitter, Cluster], Piece]] = {
    Indicator: indicator,
    Take: take,
    Scatter: scatter,
    Walk: _walk,
}
