"""Which CPU this is, without asking LLVM, which takes long to load.

LLVM tells x86 CPUs and their features apart by what the instruction CPUID says, and by which
registers the operating system saves. Where all of that is equal, so is the code.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad.compiler.processor import cpuid, saved

# Leaves of CPUID, parts of them, and the registers (of EAX, EBX, ECX, EDX) that describe the CPU.
# Others tell on which core this runs, or sizes of memory.
# (Intel, Software Developer's Manual, volume 2, CPUID; AMD, Programmer's Manual 3, appendix E.)
LEAVES = (
    (0x0, 0, (1, 2, 3)),
    (0x1, 0, (0, 2, 3)),
    (0x7, 0, (1, 2, 3)),
    (0x7, 1, (0, 1, 2, 3)),
    (0xD, 1, (0,)),
    (0x14, 0, (1,)),
    (0x19, 0, (1,)),
    (0x1E, 1, (0,)),
    (0x24, 0, (1,)),
    (0x29, 0, (1,)),
    (0x80000001, 0, (2, 3)),
    (0x80000008, 0, (1,)),
)


def identity() -> tuple[int, ...]:
    """Numbers that differ where kinds or features of CPUs differ; none where they cannot be had."""
    if not cython.compiled:
        return ()
    found = [cpuid(leaf, part, which) for leaf, part, chosen in LEAVES for which in chosen]
    return (*found, saved()) if any(found) else ()
