"""Compiled programs against their bars: `python -m benchmarks.compiled [--only moons ...]`.

Each part prints its own table, and at the end all bars are listed with what was reached. Every
peer is checked against scalargrad's loss and gradients before it is timed; what is not installed
is left out, with the reason. A "step" is a whole training step from Python: arguments in,
gradients, update, loss out; "code" is its machine code alone. One thread, one core.
"""

from __future__ import annotations

import os

# One thread for everybody; must be set before NumPy loads its BLAS.
for _variable in (
    *("SCALARGRAD_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
):
    os.environ[_variable] = "1"
os.environ.pop("OPENBLAS_CORETYPE", None)

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks import bars, calls, compile_times, graphs, harness, mnist, training
from benchmarks.bars import Bar

TRAINING = {
    "moons": training.moons,
    "images": training.images,
    "images-adam": training.images_adam,
    "document": training.document,
    "documents": training.documents,
}
OTHERS: dict[str, Callable[[], list[Bar]]] = {
    "calls": calls.report,
    "compile": compile_times.report,
    "batch": graphs.batch,
    "irregular": graphs.irregular,
    "deep": graphs.deep,
    "growth": graphs.growth,
    "mnist": mnist.report,
}


def main(arguments: Sequence[str] = ()) -> None:
    """Run the parts asked for, or all."""
    names = [*TRAINING, *OTHERS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="PART")
    parser.add_argument("--torch-compile", action="store_true", help="also time torch.compile")
    parser.add_argument("--ten-million", action="store_true", help="grow to 10^7 nodes (minutes)")
    options = parser.parse_args(arguments)
    parts: dict[str, Callable[[], list[Bar]]] = {
        **{name: partial(part, options.torch_compile) for name, part in TRAINING.items()},
        **OTHERS,
    }
    if options.ten_million:
        parts["growth"] = partial(graphs.growth, graphs.LARGEST)
    harness.pin()
    print(f"{harness.machine()}; one thread, one core\n")
    found: list[Bar] = []
    for name in options.only:
        start = time.perf_counter()
        print(f"### {name}\n")
        found += parts[name]()
        print(f"({time.perf_counter() - start:.0f} s)\n")
    print("### Bars\n")
    print(bars.table(found))


if __name__ == "__main__":
    main(sys.argv[1:])
