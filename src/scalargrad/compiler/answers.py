"""Which mathematics library this process has: what it answers to some thousands of questions.

The vector forms of `exactmath`, `exactlog` and `exactcircle` may stand for the library's functions only if those compute in the
same way. That is so if their answers are those of the forms, which are known, as they are the same
on every machine: there is no code to compile first. Asked is about every row of every table, and
where answers tell whether products are fused with the additions after them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache as once
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from .. import ops, rules
from .calling import sines_and_cosines
from .environment import PAIR, PREFIX, library_addresses

Floats = NDArray[np.float64]

# Digests of what the forms answer.
EXPECTED = {
    "exp": "ec66e375678998de9647cd946e74dd10",
    "pow": "d5407b08d088b5e46fbdb0342222bed4",
    "tanh": "9c0af425f42b37ab94ab48cdb5b3093e",
    "log": "f11b67dba86812582e3d1d3545353fc6",
    "log1p": "6de927faac66c8e89ab3b1edd5f3a961",
    "sin": "9524131640f0a17ad77ce759c107e6a6",
    "cos": "314f48785e829d87777e166947ad5269",
}

COUNT = 1024
_GOLDEN = 0.6180339887498949
# Found by trying: arguments in the middle between two rows, or at the ends of the ranges in which
# something is computed in one way, and those whose results are in the middle between two numbers.
# Some answer is another one where a single product is rounded by itself, or a row or a way is
# chosen by another rule.
_ROWS = (
    *("-0x1.f8d75f0ab1eebp+8", "-0x1.e1cf761a51bd6p+8", "-0x1.ceeed6d590875p+8"),
    *("-0x1.f36a4de711f84p+8", "-0x1.f9490c220cb11p+8"),
)
_SUMS = (
    *("-0x1.c2f86b13087f2p+8", "0x1.aebb2fd5b3244p+7", "-0x1.6743b66e1ba24p+8"),
    *("-0x1.12cf2d9dcec72p+8", "0x1.6b37a27148f64p+8", "-0x1.1a178d9a7405p+8"),
    *("0x1.3611f2a4bb9ccp+7", "-0x1.53f5872a09056p+8"),
)
_POWERS = (
    *("0x1.c67c62b8abaddp-13", "0x1.7df5df9942807p+4"),
    *("0x1.43643345e17d4p+17", "0x1.d69d8ef3504b3p+3"),
    *("0x1.f0267c72c528dp-8", "-0x1.e1ebdd5d946bbp+4"),
    *("0x1.2b2388dda3f33p-979", "-0x1p-1", "0x1.d8757738a57aep+200", "-0x1p-1"),
    *("0x1.921489702b6cfp+810", "-0x1p-1", "0x1.58cdee1c17e33p-629", "-0x1p-1"),
    *("0x1.4cff524e2b48fp+373", "-0x1p-1", "0x1.dd0be200c9a36p+187", "0x1.3b6892447cd89p-1"),
)
_TANHS = (
    *("0x1.f0b18fd4c184p-4", "-0x1.3023c328dd37p-4", "0x1.f58cb7ea5a488p-2"),
    *("0x1.71e42410623ap-3", "-0x1.325c3abf1715p-3", "-0x1.c697b462aba98p-2"),
    *("0x1.dffd64ea1872p-4", "-0x1.4d843a68d6cd2p-4", "-0x1.e39eb2fb20a14p-2"),
    "-0x1.72761cdf9a62p-3",
    *("0x1.62e42fffffff3p-3", "0x1.62e42fffffff2p-3", "0x1.62e4300000003p-3"),
    *("0x1.62e4300000004p-3", "0x1.ffffffffffffep-1", "0x1.ffffffffffffcp-1"),
    *("0x1.0000000000001p+0", "0x1.0000000000003p+0"),
)
_LOGS = (
    *("0x1.dc564671bc7e1p-1", "0x1.dc418ce519adep-1", "0x1.0b52327af45e2p+0"),
    *("0x1.0b7f8d1bebef0p+0", "0x1.e1c6bd60aa990p-1", "0x1.0fe204b549448p+0"),
)
_LOG1PS = (
    *("-0x1.5b871ad836fa7p+0", "-0x1.6719754ce48dbp-1", "-0x1.c3435e65628d4p-1"),
    *("-0x1.c3435e65628d3p-1", "-0x1.c3435e65628e4p-1", "-0x1.c3435e65628e8p-1"),
)
_ANGLES = (
    *("0x1.95e22efe5129bp-1", "-0x1.f9eedca0606f8p+23", "0x1.176d9e700f700p-4"),
    *("-0x1.94018a74ac7c8p+4", "-0x1.bebca95b14570p+25", "0x1.f5ccc28674684p-1"),
    *("0x1.bf0b13b010626p+0", "-0x1.dd738dfea314ep+0", "0x1.b3007bc00f70ap+0"),
    *("0x1.7cb0b37d42782p+0", "-0x1.b06b6035af13ap+0", "0x1.1a106711c052ap-2"),
    *("-0x1.4e2ade1fcaae7p-1", "-0x1.dc76047f9475dp-2", "0x1.b5ffffffffa22p-1"),
    *("0x1.b600000000b40p-1", "0x1.368fcffffff91p+1", "0x1.368fd0000012bp+1"),
    *("0x1.020c49ba5e2a5p-3", "0x1.020c49ba5e3a2p-3", "0x1.b5ffffffff921p-1"),
    *("0x1.b600000000323p-1", "0x1.368fcfffffcebp+1", "0x1.368fd00000347p+1"),
)


def _spread(count: int) -> Floats:
    """Numbers from 0 to 1, evenly spread and with all kinds of last bits."""
    multiples = np.arange(1.0, count + 1.0) * _GOLDEN
    return multiples - np.floor(multiples)


def questions(name: str) -> tuple[Floats, Floats]:
    """Operands for a function; the second ones are zeros where it has but one."""
    even = _spread(COUNT)
    if name == "exp":
        given = np.array([float.fromhex(x) for x in _ROWS + _SUMS])
        x = np.concatenate((given, 1024.0 * even - 512.0, 16.0 * even[::4] - 8.0))
        return x, np.zeros(len(x))
    if name == "pow":
        given = np.array([float.fromhex(x) for x in _POWERS])
        x = np.ldexp(1.0 + even, np.arange(COUNT) * 37 % 601 - 300)
        y = 4.0 * even[::-1] - 2.0
        y[::2] = np.resize((-0.5, 0.5, -1.5, 1.5), COUNT // 2)
        return np.concatenate((given[::2], x)), np.concatenate((given[1::2], y))
    if name == "tanh":
        given = np.array([float.fromhex(x) for x in _TANHS])
        x = np.concatenate((given, 4.0 * even[::2] - 2.0, 46.0 * even[1::2] - 23.0))
        return x, np.zeros(len(x))
    if name == "log":
        exponents = np.arange(COUNT) * 37 % 601 - 300
        exponents[::4], exponents[1::4] = 0, -1  # where a last bit of the table counts for most
        x = np.ldexp(1.0 + even, exponents)
        near = 0.9375 + 0.127197265625 * even  # the range of numbers near to 1
        given = np.array([float.fromhex(x) for x in _LOGS])
        x = np.concatenate((given, x, near[::2], 1.0 + 2.0**-12 * (even - 0.5)[::8]))
        return x, np.zeros(len(x))
    if name == "log1p":  # of e^x, as softplus of numbers below 0
        given = np.array([0.0, *(float.fromhex(x) for x in _LOG1PS)])
        x = np.concatenate((given, -3.0 * even, -40.0 * even[::2]))
        return x, np.zeros(len(x))
    if name in ("sin", "cos"):
        given = np.array([float.fromhex(x) for x in _ANGLES])
        parts = 1.72 * even - 0.86, (5.0 * even - 2.5)[::2], (200.0 * even - 100.0)[::2]
        x = np.concatenate((given, *parts, np.ldexp(even - 0.5, np.arange(COUNT) % 28)[::2]))
        return x, np.zeros(len(x))
    if name == PAIR:
        return np.ldexp(even - 0.5, np.arange(COUNT) % 64 - 8), np.zeros(COUNT)
    return 4.0 * even[:64], np.zeros(64)


_OPS = {
    **{"exp": ops.EXP, "log": ops.LOG, "log1p": ops.SOFTPLUS, "tanh": ops.TANH},
    **{"sin": ops.SIN, "cos": ops.COS, "erfc": ops.ERFC, "pow": ops.POWER},
}


def digest(answers: Floats) -> str:
    """What tells answers apart."""
    return hashlib.sha256(answers.astype("<f8").tobytes()).hexdigest()[:32]


@once
def answers() -> Mapping[str, str]:
    """Digests of the answers of the functions that the engine uses, by their names in C."""
    found = {}
    for name, op in _OPS.items():
        found[name] = digest(_computed(op, *questions(name)))
    found[PAIR] = digest(_pairs())
    return MappingProxyType(found)


def _computed(op: int, x: Floats, y: Floats) -> Floats:
    found = np.empty(len(x))
    rules.evaluate_all(op, x.data, y.data, found.data)
    return found


def _pairs() -> Floats:
    """Sines and cosines computed at once; none where the library cannot."""
    address = library_addresses().get(PREFIX + PAIR)
    if not address:
        return np.empty(0)
    angles, _ = questions(PAIR)
    found = np.empty(2 * len(angles))
    sines_and_cosines(address, angles.data, found.data)
    return found


@once
def has_pairs() -> bool:
    """Whether a sine and a cosine computed at once have the bits of each computed alone."""
    alone = [_computed(op, *questions(PAIR)) for op in (ops.SIN, ops.COS)]
    return digest(np.stack(alone, axis=1)) == answers()[PAIR]


def vector_forms() -> frozenset[str]:
    """The functions whose vector forms have the library's bits."""
    return frozenset(name for name in EXPECTED if answers()[name] == EXPECTED[name])
