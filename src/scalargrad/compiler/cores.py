"""How many threads a process should use."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from math import ceil
from pathlib import Path

VARIABLE = "SCALARGRAD_NUM_THREADS"
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@cache
def threads_by_default() -> int:
    """The environment variable `SCALARGRAD_NUM_THREADS`, or else `cores()`.

    Raises `ValueError` if the variable is no positive integer.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return cores()
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"{VARIABLE}: expected an integer of at least 1, got {given!r}")
    return int(given)


def cores() -> int:
    """The CPU cores that this process may use: its affinity, and its container's quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = _QUOTA.read_text().split()
        count = min(count, ceil(int(quota) / int(period)))
    return max(count, 1)
