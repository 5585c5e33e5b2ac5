"""The hash by which equal nodes and like nodes are found; see `hashing.pxd` for the compiled one."""

from __future__ import annotations

ALL_BITS = 0xFFFFFFFFFFFFFFFF


def mix(h: int, x: int) -> int:
    """A 64-bit hash of h followed by x (multiplicative hashing, Knuth, TAOCP 3, 6.4)."""
    h = ((h ^ (x & ALL_BITS)) * 0x9E3779B97F4A7C15) & ALL_BITS
    return h ^ (h >> 29)
