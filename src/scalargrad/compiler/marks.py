"""What a tape's leaves and outputs mean: parameters, arguments, constants, the loss, the batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import VerifyError
from ..tape import Tape
from .loops import Space

Batch = Literal["mean", "sum", "each"] | None
GRADIENT = {
    Space.PARAMETER: Space.PARAMETER_GRADIENT,
    Space.ARGUMENT: Space.ARGUMENT_GRADIENT,
    Space.EXAMPLE: Space.EXAMPLE_GRADIENT,
}


def _empty(kind: type) -> NDArray[np.generic]:
    return np.empty(0, kind)


@dataclass(frozen=True, slots=True)
class Marks:
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
                                the last, and divided by their number
    penalty                     add output 1, which must not depend on the batch, to the total
                                of output 0 after the sum over the batch
    wanted                      the spaces whose gradients are wanted, of output 0 (with the
                                penalty); none: only the outputs are computed
    """

    space: NDArray[np.uint8]
    place: NDArray[np.int32]
    number: NDArray[np.float64]
    sizes: dict[Space, int]
    index_space: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    index_place: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    batch: Batch = None
    penalty: bool = False
    wanted: tuple[Space, ...] = ()


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
        for space in {Space(s) for s in np.unique(spaces).tolist()}:
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
    if marks.wanted and marks.batch == "each":
        raise VerifyError('marks: gradients need a single loss: batch "each" has one per example')
    if len(tape.outputs) <= int(marks.penalty):
        raise VerifyError(f"marks: {len(tape.outputs)} outputs, penalty={marks.penalty}")
