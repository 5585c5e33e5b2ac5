"""Compile the engine where a C compiler is found; install the plain Python files where none is.

`SCALARGRAD_REQUIRE_COMPILED=1` turns a failed compilation into an error: releases and CI set it,
so a broken build cannot pass unnoticed. `SCALARGRAD_PURE=1` skips compilation.
"""

import os
import re
from pathlib import Path

from Cython.Build import build_ext
from Cython.Distutils.extension import Extension
from setuptools import setup

# Every module that imports cython is one.
COMPILED = sorted(
    path
    for path in Path("src").rglob("*.py")
    if re.search(r"^ *import cython$", path.read_text(encoding="utf-8"), re.MULTILINE)
)


def faces(path: Path) -> list[Path]:
    """The `.pxd` files a module is compiled against, its own and those it cimports.

    Cython looks for them in `.pyx` files only, and would not compile again when one changes.
    """
    text = path.read_text(encoding="utf-8")
    return [
        face
        for face in Path("src").rglob("*.pxd")
        if face == path.with_suffix(".pxd")
        or re.search(rf"cimports\.scalargrad.*\b{face.stem}\b", text)
    ]


for path in COMPILED:
    made = path.with_suffix(".c")
    if made.exists() and any(made.stat().st_mtime < face.stat().st_mtime for face in faces(path)):
        made.unlink()

required = os.environ.get("SCALARGRAD_REQUIRE_COMPILED", "") not in ("", "0")
pure = os.environ.get("SCALARGRAD_PURE", "") not in ("", "0")

# No contraction: a fused multiply-add would round once where the contract says twice.
flags = ["/O2", "/fp:precise"] if os.name == "nt" else ["-O3", "-ffp-contract=off"]

extensions = [
    Extension(
        ".".join(path.relative_to("src").with_suffix("").parts),
        [path.as_posix()],
        depends=[face.as_posix() for face in faces(path)],
        optional=not required,
        extra_compile_args=flags,
        cython_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "nonecheck": False,
            "initializedcheck": False,
            "cdivision": True,
            "embedsignature": True,
        },
    )
    for path in COMPILED
]

setup(
    ext_modules=[] if pure else extensions,
    cmdclass={"build_ext": build_ext},
    options={"build_ext": {"parallel": os.cpu_count()}},  # minutes, one after the other
)
