"""LLVM: IR text to machine code for this CPU. The only file that imports llvmlite."""

from __future__ import annotations

import platform
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import MissingExtraError
from .cache import stamps

_LOCK = threading.Lock()
# Level 2 would put the chosen instructions in another order, which CPUs do for themselves, and try
# short divisions before long ones. Our code is no quicker for it, and compiled later.
LEVEL = 1
QUICK = 0  # takes a third of the time, for code that takes twice as long and has the same bits
# CPUs that compute 512 bits in two steps, as LLVM calls them. Vectors of 256 bits are as fast there,
# and more often all zero, which products leave out: MNIST trains nearly twice as fast.
_HALVES = frozenset({"znver4"})


@cache
def binding() -> ModuleType:
    """llvmlite's binding, initialised; `MissingExtraError` where it is not installed."""
    try:
        import llvmlite.binding as llvm
    except ImportError:
        raise MissingExtraError("llvmlite", "all", "compiling to native code") from None
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm  # type: ignore[no-any-return]


@cache
def host() -> tuple[str, str]:
    """The name and the features of this CPU."""
    llvm = binding()
    features = llvm.get_host_cpu_features().flatten()
    if family() == "x86":
        # Full vector width: LLVM by itself shies away from 512 bits on CPUs that slow down for them.
        features += ",-prefer-256-bit"
    return llvm.get_host_cpu_name(), features


@cache
def family() -> str:
    """The kind of CPU: "x86", "aarch64", or as the system calls it."""
    machine = platform.machine().lower()
    names = {"x86_64": "x86", "amd64": "x86", "i686": "x86", "arm64": "aarch64"}
    return names.get(machine, machine)


@cache
def vector_bits() -> tuple[int, int, bool]:
    """The best vectors: their bits, the registers for them, and whether sums can be fused."""
    name, listed = host()
    features = set(listed.split(","))
    if features >= {"+avx512f", "+avx512vl", "+avx512dq"} and name not in _HALVES:
        return 512, 32, True
    if "+avx" in features:
        return 256, 16, "+fma" in features
    if "+sse2" in features:
        return 128, 16, False
    return 128, 32, True  # AArch64


@cache
def target() -> tuple[object, ...]:
    """What machine code depends on besides its text: the CPU and the compiler.

    LLVM is not loaded to find out, where the CPU can be asked without.
    """
    from .processor import identity

    return identity() or host(), _version()


def _version() -> tuple[object, ...]:
    """The version of llvmlite, and its library, which LLVM is a part of."""
    import llvmlite

    folder = Path(llvmlite.__file__).parent / "binding"
    return llvmlite.__version__, *stamps(folder, (".so", ".dylib", ".dll"))


def _machine(level: int = LEVEL) -> Any:
    llvm = binding()
    name, features = host()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=name, features=features, opt=level, reloc="pic", codemodel="small"
    )


def compile_text(text: str, level: int = LEVEL) -> bytes:
    """An object file from a module of IR, optimised as far as LLVM does at such a level."""
    with _LOCK:
        module = binding().parse_assembly(text)
        code: bytes = _machine(level).emit_object(module)
    return code


class Library:
    """See `linking.load`."""

    def __init__(self, code: bytes, imports: Mapping[str, int], exports: Sequence[str]) -> None:
        llvm = binding()
        with _LOCK:
            # Code reaches its constants by 32-bit distances. LLVM's older linker allocates them
            # apart, and ends the process where the system puts them farther than that.
            together = sys.platform != "win32"
            self._jit = llvm.create_lljit_compiler(_machine(), use_jit_link=together)
            builder = llvm.JITLibraryBuilder().add_object_img(code)
            for name, address in imports.items():
                builder.import_symbol(name, address)
            for name in exports:
                builder.export_symbol(name)
            self._tracker = builder.link(self._jit, "scalargrad")
        self.addresses: dict[str, int] = {name: self._tracker[name] for name in exports}
