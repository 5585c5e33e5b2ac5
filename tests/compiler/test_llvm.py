"""What is known of the CPU; and machine code in memory, which must run wherever there is room."""

from __future__ import annotations

import sys

import pytest

from processes import run_python
from scalargrad.compiler import llvm

# Takes all gaps near the top of the address space, then frees single pages there: what fits in one
# page is put up there, and larger things 40 GiB below.
SCATTERED = """
import ctypes
import scalargrad as sg

model = sg.nn.GPT(9, 4, width=8, heads=2)  # some pages of code, with constants
f = sg.compile(lambda x, y: sg.losses.cross_entropy(model(x), y), mode="fast")
data = [1, 2, 3, 4], [2, 3, 4, 5]
expected = f.value_and_grad(*data)[0]
import llvmlite.binding

GIB, PAGE, RESERVED = 1 << 30, 4096, 0x4022  # private, anonymous, without memory behind it
system = ctypes.CDLL(None)
system.mmap.restype = ctypes.c_void_p
system.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
system.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def reserve(size):
    return system.mmap(None, size, 0, RESERVED, -1, 0)


blocks = [reserve(GIB) for _ in range(40)]
size = GIB // 4
while size >= 2 * PAGE:
    place = reserve(size)
    if place < min(blocks):
        system.munmap(place, size)
        size //= 2
for k in range(1000):
    system.munmap(blocks[0] + (2 * k + 100) * PAGE, PAGE)
f.native()
print(abs(f.value_and_grad(*data)[0] - expected) < 1e-12 * expected)
"""


# LLVM says so on the standard error where a CPU is told to have what its kind does not know.
EVERY_KIND = """
import platform, sys
platform.machine = lambda: sys.argv[1]
from scalargrad.compiler import llvm
binding = llvm.binding()
binding.initialize_all_targets()
flags = llvm.host()[1].split(",")
own = binding.get_host_cpu_features().flatten().split(",")
more = ",".join(flags[len(own):])
binding.Target.from_triple(sys.argv[1]).create_target_machine(features=more)
print(flags[:len(own)] == own)
"""


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64"])
def test_no_cpu_is_told_of_features_of_another_kind(machine):
    assert run_python("-c", EVERY_KIND, machine) == "True\n"


@pytest.mark.skipif(sys.platform != "linux", reason="arranges the address space as Linux does")
def test_code_and_constants_that_do_not_fit_side_by_side():
    assert run_python("-c", SCATTERED, SCALARGRAD_CACHE="0") == "True\n"


@pytest.mark.parametrize(
    ("name", "features", "expected"),
    [
        ("znver5", "+avx,+avx2,+fma,+avx512f,+avx512vl,+avx512dq", (512, 32, True)),
        ("znver4", "+avx,+avx2,+fma,+avx512f,+avx512vl,+avx512dq", (256, 16, True)),
        ("znver3", "+avx,+avx2,+fma,-avx512f", (256, 16, True)),
        ("sandybridge", "+sse2,+avx,-fma", (256, 16, False)),
        ("x86-64", "+sse2,-avx", (128, 16, False)),
        ("neoverse-n1", "+neon", (128, 32, True)),
    ],
)
def test_vectors_are_as_wide_as_the_cpu_computes_at_once(name, features, expected, monkeypatch):
    monkeypatch.setattr(llvm, "host", lambda: (name, features))
    assert llvm.vector_bits.__wrapped__() == expected
