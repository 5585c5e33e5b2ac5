"""What a tape's leaves and outputs mean: parameters, arguments, constants, the loss, the batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import VerifyError
from ..tape import Tape
from .distinct import distinct
from .spaces import Space

if TYPE_CHECKING:
    from .trace import Trace

Batch = Literal["mean", "sum", "each"] | None
GRADIENT = {
    Space.PARAMETER: Space.PARAMETER_GRADIENT,
    Space.ARGUMENT: Space.ARGUMENT_GRADIENT,
    Space.EXAMPLE: Space.EXAMPLE_GRADIENT,
}


class Marks(NamedTuple):
    """The roles in a tape.

    space      uint8[leaves]    PARAMETER, ARGUMENT, EXAMPLE (batched argument) or CONSTANT
    place      int32[leaves]    the place in that space; ignored for constants
    number     float64[leaves]  the number of a constant; ignored for the others
    index_space, index_place    for each slot of `Tape.index`: INDEX or EXAMPLE_INDEX and the
                                place in it, or CONSTANT for a slot that keeps its value
    sizes                       how many elements PARAMETER, ARGUMENT, EXAMPLE, INDEX and
                                EXAMPLE_INDEX have; elements the tape does not read are allowed
    batch                       None: one example. "each": outputs for each example. "sum" and
                                "mean": output 0 is summed over the examples from the first to
                                the last, and divided by their number; the outputs after it are
                                for each example
    penalty                     add output 1, which must not depend on the batch, to the total
                                of output 0 after the sum over the batch
    wanted                      the spaces whose gradients are wanted: of output 0, with "each"
                                of its sum over the examples times the scalar SEED; none: only
                                the outputs are computed
    accumulate                  add to the gradients that are there, as `backward` does; otherwise
                                they are set
    """

    space: NDArray[np.uint8]
    place: NDArray[np.int32]
    number: NDArray[np.float64]
    sizes: dict[Space, int]
    index_space: NDArray[np.uint8] = np.empty(0, np.uint8)
    index_place: NDArray[np.int32] = np.empty(0, np.int32)
    batch: Batch = None
    penalty: bool = False
    wanted: tuple[Space, ...] = ()
    accumulate: bool = False


def marks_of(
    leaves: Iterable[tuple[Space, float]],
    indices: Iterable[Space] = (),
    batch: Batch = None,
    penalty: bool = False,
    wanted: tuple[Space, ...] = (),
) -> Marks:
    """Marks from the role of each leaf, in order, and of each slot of the index.

    A leaf is a space and, for a constant, its number; places are given in order of appearance.
    """
    roles, slots = list(leaves), list(indices)
    sizes: dict[Space, int] = {}
    places = []
    for space in [space for space, _ in roles] + slots:
        places.append(sizes.get(space, 0))
        sizes[space] = sizes.get(space, 0) + 1
    sizes.pop(Space.CONSTANT, None)
    return Marks(
        space=np.array([space for space, _ in roles], np.uint8),
        place=np.array(places[: len(roles)], np.int32),
        number=np.array([number for _, number in roles], np.float64),
        sizes=sizes,
        index_space=np.array(slots, np.uint8),
        index_place=np.array(places[len(roles) :], np.int32),
        batch=batch,
        penalty=penalty,
        wanted=wanted,
    )


def marks_of_trace(
    trace: Trace,
    batch: Batch = None,
    wanted: tuple[Space, ...] = (),
    accumulate: bool = False,
) -> Marks:
    """The roles in a trace, for a program that reads rows of flattened arguments as they are.

    With m flattened arguments, ARGUMENT, EXAMPLE, INDEX and EXAMPLE_INDEX all have m elements,
    and argument k is element k of the one it is read from: EXAMPLE or EXAMPLE_INDEX if it
    differs between the examples of a batch.
    """
    m, leaves = len(trace.arguments), trace.tape.leaves
    space, place = np.full(leaves, Space.CONSTANT, np.uint8), np.zeros(leaves, np.int32)
    parameters = np.arange(len(trace.parameters), dtype=np.int32)
    space[trace.parameters], place[trace.parameters] = Space.PARAMETER, parameters
    varies = ~trace.shared if batch is not None else np.zeros(m, bool)
    used = np.flatnonzero(trace.arguments >= 0)
    space[trace.arguments[used]] = np.where(varies[used], Space.EXAMPLE, Space.ARGUMENT)
    place[trace.arguments[used]] = used
    index_space = np.full(len(trace.indices), Space.CONSTANT, np.uint8)
    slots = np.flatnonzero(trace.indices >= 0)
    index_space[slots] = np.where(varies[trace.indices[slots]], Space.EXAMPLE_INDEX, Space.INDEX)
    sizes = {Space.PARAMETER: len(parameters), Space.ARGUMENT: m, Space.INDEX: m}
    if batch is not None:
        sizes |= {Space.EXAMPLE: m, Space.EXAMPLE_INDEX: m}
    return Marks(
        space=space,
        place=place,
        number=trace.data[:leaves],
        sizes=sizes,
        index_space=index_space,
        index_place=np.maximum(trace.indices, 0).astype(np.int32),
        batch=batch,
        wanted=wanted,
        accumulate=accumulate,
    )


def verify_marks(tape: Tape, marks: Marks) -> None:
    """Raises `VerifyError` where the marks do not fit the tape."""
    leaves, slots = tape.leaves, len(tape.index)
    if not len(marks.space) == len(marks.place) == len(marks.number) == leaves:
        raise VerifyError(f"marks for {len(marks.space)} leaves, the tape has {leaves}")
    if not len(marks.index_space) == len(marks.index_place) == slots:
        raise VerifyError(f"marks for {len(marks.index_space)} indices, the tape has {slots}")
    allowed = (Space.PARAMETER, Space.ARGUMENT, Space.EXAMPLE, Space.CONSTANT)
    pairs = [(marks.space, marks.place, allowed)]
    allowed_index = (Space.INDEX, Space.EXAMPLE_INDEX, Space.CONSTANT)
    for spaces, places, ok in (*pairs, (marks.index_space, marks.index_place, allowed_index)):
        for space in {Space(s) for s in distinct(spaces).tolist()}:
            if space not in ok:
                raise VerifyError(f"marks: {space.name} is not among {[s.name for s in ok]}")
            highest = int(places[spaces == space].max())
            if space != Space.CONSTANT and highest >= marks.sizes.get(space, 0):
                raise VerifyError(
                    f"marks: place {highest} of {space.name}, which has "
                    f"{marks.sizes.get(space, 0)} elements"
                )
    batched = marks.sizes.get(Space.EXAMPLE, 0) + marks.sizes.get(Space.EXAMPLE_INDEX, 0)
    if batched and marks.batch is None:
        raise VerifyError("marks: batched arguments, but batch is None")
    if len(tape.outputs) <= int(marks.penalty):
        raise VerifyError(f"marks: {len(tape.outputs)} outputs, penalty={marks.penalty}")
