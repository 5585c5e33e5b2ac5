"""`scalargrad doctor`: what is installed, what is missing, whether it works and how fast."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

from .. import Value, __version__, compiled

REQUIRED: Mapping[str, str] = {  # distribution -> module
    "numpy": "numpy",
    "llvmlite": "llvmlite",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
}


class Extra(NamedTuple):
    """A library that some things need, and what adds it."""

    module: str
    extra: str
    purpose: str


OPTIONAL: Mapping[str, Extra] = {
    "matplotlib": Extra("matplotlib", "plot", "pictures"),
    "scikit-learn": Extra("sklearn", "sklearn", "estimators, and the images of digits"),
    "scipy": Extra("scipy", "scipy", "optimisers and solvers with exact derivatives"),
    "jax": Extra("jax", "jax", "a back end, and functions for programs in JAX"),
    "torch": Extra(
        "torch", "torch", "scalar programs in its models, and a second opinion in tests"
    ),
    "onnx": Extra("onnx", "onnx", "scalar programs as files for its runtimes"),
}


class Finding(NamedTuple):
    """One line of the report."""

    subject: str
    text: str
    fault: bool = False


def doctor(options: argparse.Namespace) -> int:
    """Print the report. The exit code: 0, or 1 if something that is required is not right."""
    findings = [
        Finding("scalargrad", f"{__version__}, in {Path(__file__).parents[1]}"),
        Finding("python", f"{platform.python_version()}, {sys.executable}"),
        Finding("system", f"{platform.platform()}, {cpu()}, {cores()} cores"),
        _engine(),
        Finding("C compiler", compiler() or "none found: the engine cannot be compiled here"),
        *(_required(name, module) for name, module in REQUIRED.items()),
        *(_optional(name, extra) for name, extra in OPTIONAL.items()),
        _check(),
        _speed(),
    ]
    for finding in findings:
        print(f"{'!' if finding.fault else ' '} {finding.subject:13} {finding.text}")
    return int(any(finding.fault for finding in findings))


def _engine() -> Finding:
    if compiled:
        return Finding("engine", "compiled")
    if os.environ.get("SCALARGRAD_PURE", "") not in ("", "0"):
        return Finding("engine", "plain Python, because SCALARGRAD_PURE is set")
    remedy = "install again" if compiler() else "install a C compiler, then install again"
    return Finding(
        "engine", f"plain Python, many times slower: {remedy}, with SCALARGRAD_REQUIRE_COMPILED=1"
    )


def compiler() -> str:
    """The C compiler that an installation would use, "" if there is none."""
    configured = (sysconfig.get_config_var("CC") or "").split()[:1]
    candidates = [os.environ.get("CC", ""), *configured, "cc", "gcc", "clang", "cl"]
    return next((found for name in candidates if name and (found := shutil.which(name))), "")


def cpu() -> str:
    """The processor's model name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def version(distribution: str, module: str) -> str:
    """The version that is installed, "" if there is none."""
    if util.find_spec(module) is None:
        return ""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _required(name: str, module: str) -> Finding:
    found = version(name, module)
    return Finding(name, found or f"missing: pip install {name}", fault=not found)


def _optional(name: str, extra: Extra) -> Finding:
    found = version(name, extra.module)
    return Finding(
        name,
        found or f"not installed; pip install 'scalargrad[{extra.extra}]' adds {extra.purpose}",
    )


def example() -> tuple[float, float, float]:
    """A small expression with its two derivatives: 3a^2 b + b^3 at a = -4, b = 2."""
    a, b = Value(-4.0), Value(2.0)
    c = 3 * a * a * b + b**3
    c.backward()
    return c.data, a.grad, b.grad


def _check(compute: Callable[[], tuple[float, float, float]] = example) -> Finding:
    expected, got = (104.0, -48.0, 60.0), compute()
    if got == expected:
        return Finding("self-check", "an expression and its derivatives are right")
    return Finding("self-check", f"expected {expected}, got {got}: install again", fault=True)


def _speed() -> Finding:
    nodes, best = 20_000, float("inf")
    for _ in range(3):
        started = time.perf_counter()
        x = y = Value(1.0)
        for _ in range(nodes):
            y = y + x
        y.backward()
        best = min(best, time.perf_counter() - started)
    return Finding("speed", f"{best / nodes * 1e9:,.0f} ns per operation, forward and backward")
