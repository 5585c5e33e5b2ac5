"""LLVM: IR text to machine code for this CPU. The only file that imports llvmlite."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

from ..errors import MissingExtraError

_LOCK = threading.Lock()


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
    # Full vector width: LLVM by itself shies away from 512 bits on CPUs that slow down for them.
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten() + ",-prefer-256-bit"


@cache
def family() -> str:
    """The kind of CPU: "x86", "aarch64", or as LLVM calls it."""
    machine = str(binding().get_default_triple()).split("-")[0]
    return {"x86_64": "x86", "i686": "x86", "arm64": "aarch64"}.get(machine, machine)


@cache
def vector_bits() -> tuple[int, int, bool]:
    """Bits of a vector register, the number of these registers, and whether sums can be fused."""
    features = set(host()[1].split(","))
    if "+avx512f" in features and "+avx512vl" in features:
        return 512, 32, True
    if "+avx" in features:
        return 256, 16, "+fma" in features
    if "+sse2" in features:
        return 128, 16, False
    return 128, 32, True  # AArch64


@cache
def version() -> str:
    """The versions that machine code depends on."""
    import llvmlite

    return f"llvmlite {llvmlite.__version__}, LLVM {binding().llvm_version_info}"


def _machine() -> Any:
    llvm = binding()
    name, features = host()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=name, features=features, opt=2, reloc="pic", codemodel="small"
    )


def compile_text(text: str) -> bytes:
    """An object file from a module of IR."""
    with _LOCK:
        module = binding().parse_assembly(text)
        code: bytes = _machine().emit_object(module)
    return code


class Library:
    """An object file in memory, linked against the given addresses."""

    def __init__(self, code: bytes, imports: Mapping[str, int], exports: tuple[str, ...]) -> None:
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
        self.addresses = {name: self._tracker[name] for name in exports}
