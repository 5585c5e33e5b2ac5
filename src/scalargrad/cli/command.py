"""The command line itself: its words, its errors, its exit codes."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from .. import __version__
from ..errors import ScalargradError
from .doctor import doctor
from .predict import predict
from .settings import OPTIMIZERS
from .tasks import TASKS
from .train import train

FAILED, INTERRUPTED = 2, 130  # 130 is 128 + SIGINT, as shells have it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0 is success, 1 a fault that `doctor` found, 2 a mistake or something that cannot be done,
    told in one line on standard error, and 130 an end by Ctrl-C.
    """
    try:
        options = _parser().parse_args(arguments)
        code: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("scalargrad: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (ScalargradError, OSError, ValueError, MemoryError) as error:
        print(f"scalargrad: error: {_line(error)}", file=sys.stderr)
        return FAILED
    return code


def _line(error: BaseException) -> str:
    """The error in one line."""
    text = str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        text = "out of memory: use fewer examples or a smaller network"
    elif isinstance(error, OSError) and error.filename and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    return " ".join(text.split())


class _Parser(argparse.ArgumentParser):
    """A parser that tells a mistake in one line, as every other error here is told."""

    def error(self, message: str) -> NoReturn:
        self.exit(FAILED, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> _Parser:
    parser = _Parser(prog="scalargrad", description="Neural networks made of single numbers.")
    parser.add_argument("--version", action="version", version=f"scalargrad {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands.add_parser("train", help="train a network", formatter_class=_Help))
    _add_predict(
        commands.add_parser("predict", help="ask a trained network", formatter_class=_Help)
    )
    check = commands.add_parser("doctor", help="show what is installed and whether it works")
    check.set_defaults(run=doctor)
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help with the lines of the description as they are."""


def _add_train(parser: argparse.ArgumentParser) -> None:
    width = max(map(len, TASKS))
    parser.description = (
        "Train a network and leave it, with pictures, in a folder.\n\n"
        + "\n".join(f"  {name:{width}}  {task.summary}" for name, task in TASKS.items())
        + "\n\nEach takes a few seconds."
    )
    parser.add_argument("task", choices=TASKS, metavar="|".join(TASKS))
    add = parser.add_argument
    add("--epochs", type=_count, metavar="N", help="how often to go through the examples")
    add("--batch-size", type=_count, metavar="N", help="examples in a mini-batch")
    add("--lr", type=_rate, metavar="X", help="learning rate at the start; it falls to 0")
    add("--optimizer", choices=OPTIMIZERS, help="how parameters are moved")
    add(
        "--hidden",
        type=_sizes,
        action=_Extend,
        metavar="N[,N...]",
        help="neurons in each hidden layer; may be repeated",
    )
    add("--seed", type=_seed, metavar="N", help="of the first weights and the order of examples")
    add("--examples", type=_count, metavar="N", help="how many to learn from")
    add("--data", metavar="DIR", help="folder with MNIST's files (mnist)")
    add("--download", action="store_true", help="fetch those that are missing there (mnist)")
    add("--out", metavar="DIR", help="where to write; runs/TASK if not given")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in --out")
    again.add_argument("--force", action="store_true", help="replace another task's run in --out")
    parser.set_defaults(run=train)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.description = "Ask a trained network; without a question, see how good it is."
    # As it stands, argparse takes -0.5 for a number but -5e-1 for an option.
    parser._negative_number_matcher = re.compile(r"-\.?\d")
    parser.add_argument("folder", metavar="DIR", help="the folder it was trained into")
    question = parser.add_mutually_exclusive_group()
    question.add_argument("--index", type=int, metavar="N", help="example N of those held out")
    question.add_argument(
        "--image", nargs="+", metavar="FILE", help="pictures of one digit each (digits, mnist)"
    )
    question.add_argument(
        "numbers", nargs="*", type=float, default=[], metavar="NUMBER", help="the inputs"
    )
    parser.add_argument("--data", metavar="DIR", help="folder with MNIST's files, if it moved")
    parser.set_defaults(run=predict)


class _Extend(argparse.Action):
    """Joins the sizes of every `--hidden`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest) or ()
        assert isinstance(values, tuple)
        setattr(namespace, self.dest, before + values)


def _number(
    convert: Callable[[str], float], allowed: Callable[[float], bool], expected: str
) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = convert(text)
        except ValueError:
            number = math.nan
        if not allowed(number):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return number

    return read


_count = _number(int, lambda n: n >= 1, "a whole number, 1 or more")
_seed = _number(int, lambda n: n >= 0, "a whole number, 0 or more")
_rate = _number(float, lambda x: 0.0 < x < math.inf, "a number above 0")


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(_count(part)) for part in text.split(","))
