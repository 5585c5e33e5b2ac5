"""`Trainer`: everything between a model and a trained model."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import modes
from ..checkpoint import PathLike
from ..compiler.program import Options, checked
from ..engine import Value
from ..errors import AnomalyError, ShapeError, TraceError, UnrepeatableError
from ..nn import Module
from ..optim import Optimizer
from .arguments import positive_count, shown
from .drawing import shuffled
from .examples import Batch, Examples, plain_numbers
from .history import History
from .interrupt import Interrupt, Stop
from .metrics import Metric, Metrics, named_metrics, sums
from .progress import Bar
from .run import Callback, Plan, Run, configuration, load_run, save_run
from .step import PLAIN_ERRORS, EagerStep, Fault, Loss, Penalty, Step
from .tally import Tally

if TYPE_CHECKING:
    from .compiled import CompiledStep
    from .ragged import RaggedStep

WITHOUT = "Trainer(compile=False) trains without compiling"
WORTHWHILE = 32  # examples to measure on from which tracing another program pays


class Trainer:
    """Fits a model to examples: mini-batches, shuffling, measuring, stopping, resuming.

    `loss(prediction, target)` is a Value for one example, where `prediction` is `model(x)`. The
    loss of a mini-batch is the mean of its examples' losses plus `penalty(model)` once:

        total = mean of loss(model(x), y) over the examples + penalty(model)

    `optimizer` is made without parameters (`optim.Adam(lr=1e-3)`: it gets the model's) or with
    them, as in PyTorch; made with some of the model's parameters it moves only those. To `fit`, a
    Value that only the loss knows is a constant: its `grad` afterwards means nothing. `seed`
    decides in which order examples are drawn, and nothing else. `progress` shows a bar on
    standard error: True always, False never, None where that is a terminal.

    With `compile`, the model and the loss are traced once and every mini-batch runs the program
    (see `scalargrad.compile`, which says what can be traced, and what `mode` and `dtype` mean).
    In exact mode the numbers are those of `compile=False`, bit for bit. Examples of different
    lengths have a program for each, made when it first comes, if there are few lengths and each
    comes often. Models that draw random numbers, and training inside `detect_anomaly()`, are run
    eagerly in any case.
    """

    def __init__(
        self,
        model: Module,
        loss: Loss,
        optimizer: Optimizer,
        *,
        penalty: Penalty | None = None,
        mode: str = "exact",
        dtype: str = "float64",
        compile: bool = True,
        seed: int = 0,
        progress: bool | None = None,
    ) -> None:
        if not isinstance(model, Module) or not callable(model):
            raise TypeError(f"model: expected an nn.Module that can be called, got {shown(model)}")
        if not callable(loss):
            raise TypeError(f"loss: expected a function of (prediction, target), got {shown(loss)}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: expected one such as optim.Adam(), got {shown(optimizer)}")
        if penalty is not None and not callable(penalty):
            raise TypeError(f"penalty: expected a function of the model, got {shown(penalty)}")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"seed: expected an int, got {shown(seed)}")
        self.model: Module = model
        self.loss, self.optimizer, self.penalty = loss, optimizer, penalty
        self.seed, self.progress = seed, progress
        self.rng = random.Random(seed)
        self.parameters = tuple(model.parameters())
        _bind(optimizer, self.parameters)
        self.options = checked(Options(mode, dtype))
        self.compile = _truth("compile", compile)
        self.eager = EagerStep(model, loss, penalty, self.parameters, optimizer)
        self._compiled: CompiledStep | None = None
        self._ragged: RaggedStep | None = None
        self._step: Step = self.eager
        self._stop_reason = ""

    def __getstate__(self) -> dict[str, Any]:
        """For a copy or a pickle: what was compiled is of this trainer's model."""
        return {**vars(self), "_compiled": None, "_ragged": None, "_step": self.eager}

    # --- using ------------------------------------------------------------------------------------

    def predict(self, x: ArrayLike) -> NDArray[np.float64]:
        """What the model answers to each example: shape (n,) for one output, else (n, outputs).

        Raises `ShapeError` for an example the model cannot take, naming it, and where answers
        differ in length from each other; as `fit`, `RuntimeError` where other Values took the place
        of parameters.
        """
        self._require_its_parameters("predict")
        examples = Examples(x)
        compiled = self._program(examples)
        if compiled is not None:
            try:
                answers = compiled.predict(np.asarray(examples.x))
            except (IndexError, ShapeError, TypeError, ValueError):
                answers = None  # run eagerly, which names the example
            if isinstance(answers, np.ndarray):
                return answers
        with modes.no_grad():
            each = [plain_numbers(self.eager.predict(example)) for example in _all(examples)]
        try:
            return np.array(each, dtype=np.float64)
        except ValueError:
            raise ShapeError(
                "predict: the model's answers differ in length from example to example, which no "
                "array can hold: call model(x) for each"
            ) from None

    def evaluate(
        self, x: ArrayLike, y: ArrayLike, metrics: Metrics | None = None
    ) -> dict[str, float]:
        """Loss (with the penalty) and metrics on examples: `{"loss": ..., "accuracy": ...}`.

        `metrics` is as in `fit`. Nothing is learned. Raises as `fit` does for its examples
        and its parameters.
        """
        self._require_its_parameters("evaluate")
        examples = Examples(x, y)
        step = self._program(examples) or self.eager
        return self._evaluate(step, _all(examples), named_metrics(metrics, self.loss))

    def _require_its_parameters(self, what: str) -> None:
        """`RuntimeError` where the model has lost some: what replaced them would not be moved.

        Others may have come: a model may keep in its attributes what it computed last.
        """
        lost = len(set(self.parameters).difference(self.model.parameters()))
        if lost:
            raise RuntimeError(
                f"{what}: {lost} of the {len(self.parameters)} parameters that the model had when "
                "this trainer was made are no longer in it, and what replaced them would not be "
                "moved: make another trainer, with an optimizer of its own; to change a number, "
                "assign to its .data"
            )

    def _program(self, examples: Examples) -> CompiledStep | None:
        """The compiled step, if `fit` made one, and these are examples that it is good for."""
        from .compiled import can_compile

        step = self._compiled
        if step is None or modes.current.anomaly or len(examples) < WORTHWHILE:
            return None
        if not can_compile(examples):
            return None
        step.load()
        return step

    def _evaluate(
        self, step: Step, batch: Batch, metrics: Mapping[str, Metric]
    ) -> dict[str, float]:
        outcome = step.forward(batch)
        totals = sums(metrics, outcome.predictions, batch.targets()) if metrics else {}
        means = {name: total / len(batch) for name, total in totals.items()}
        return {"loss": outcome.loss, **means}

    # --- learning ---------------------------------------------------------------------------------

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        epochs: int,
        batch_size: int = 32,
        shuffle: bool = True,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
        callbacks: Iterable[Callback] = (),
        checkpoint: PathLike | None = None,
        metrics: Metrics | None = None,
    ) -> History:
        """Go through the examples `epochs` times, and move the parameters after each mini-batch.

        Args:
            x: n inputs, an array or a list. The model is called with one row of it, as a list
                of numbers (or as a number, where x has one dimension).
            y: n targets. The loss is called with one of them.
            epochs: how often each example is used; with `checkpoint`, in all.
            batch_size: examples in a mini-batch. What is left over makes a last, short one.
            shuffle: whether to draw a new order for each epoch.
            validation: (inputs, targets) to measure on after each epoch, and not to learn from.
            callbacks: each is called after every epoch as `callback(trainer, epoch, history)`,
                epochs counting from 1, and may call `trainer.stop()`. If it has a
                `finish(trainer, history)`, that is called when training has ended; if it has
                `state_dict` and `load_state_dict`, its state is kept in checkpoints.
            checkpoint: a file that is written after every epoch and on Ctrl-C. Where it exists
                the run goes on from it, to the same bits as if it had never stopped.
            metrics: "accuracy", functions `(prediction, target) -> float` of plain numbers, or a
                dictionary of functions by name. None: accuracy, if the loss is a classifier's.

        Returns:
            The `History`. The first Ctrl-C ends training early: the mini-batch under way is
            dropped, what was learned is kept, `history.interrupted` is True, and a line on
            standard error says so. A second one raises `KeyboardInterrupt`.

        Raises:
            ShapeError: x and y of different lengths, no examples, or an input that the model
                cannot take; the message names the example.
            TypeError, ValueError, IndexError: an argument or a label that makes no sense.
            AnomalyError: the loss, a gradient or a parameter became inf or nan. The parameters
                are those after the last good mini-batch.
            RuntimeError: called inside `no_grad()`, or for a model in which other Values took
                the place of parameters since this trainer was made.
            CheckpointError: the checkpoint is damaged, or of a run with another model, other
                data or another setting; the message says which.
        """
        if not modes.current.grad:
            raise RuntimeError("fit: nothing can be learned inside no_grad(): call it outside")
        self._require_its_parameters("fit")
        plan = Plan(
            examples=Examples(x, y),
            validation=None if validation is None else _validation(validation),
            metrics=named_metrics(metrics, self.loss),
            epochs=positive_count("epochs", epochs),
            batch_size=positive_count("batch_size", batch_size),
            shuffle=_truth("shuffle", shuffle),
            callbacks=_callbacks(callbacks),
            path=_path(checkpoint),
        )
        self._try_labels(plan)
        self._step = self._fastest(plan)
        settings = configuration(self, plan) if plan.path else {}
        run = self._start(plan, settings)
        with Bar(plan, run, self.progress) as bar, Interrupt() as interrupt:
            try:
                while len(run.history) < plan.epochs and not run.history.stopped:
                    self._epoch(plan, run, bar, interrupt)
                    self._call_back(plan, run)
                    save_run(self, plan, run, settings)
            except (Stop, KeyboardInterrupt) as request:
                if isinstance(request, KeyboardInterrupt) and interrupt.presses > 1:
                    raise
                run.history.interrupted = True
                save_run(self, plan, run, settings)
        self._finish(plan, run)
        return run.history

    def stop(self, reason: str = "a callback asked for it") -> None:
        """End training after the epoch just finished: for callbacks. `History.stopped` says why."""
        self._stop_reason = reason

    def _try_labels(self, plan: Plan) -> None:
        """Meet a label that the loss refuses now, and not in the middle of an epoch."""
        with modes.no_grad():
            self._try(plan.examples)
            if plan.validation is not None:
                with _said_of("validation"):
                    self._try(plan.validation)

    def _try(self, examples: Examples) -> None:
        _, prediction = self.eager.one(examples[0])
        for label, row in examples.labels():
            self.eager.compare(prediction, label, row)

    def _fastest(self, plan: Plan) -> Step:
        """The compiled step where the program can be trusted to say what the model does."""
        parts = [plan.examples, *filter(None, (plan.validation,))]
        from .compiled import CompiledStep, can_compile, repeats  # with it comes the compiler

        own_step = type(self.optimizer).step is not Optimizer.step
        if not self.compile or own_step or modes.current.anomaly:
            return self.eager
        if not all(map(can_compile, parts)):
            return self._for_each_length(plan, parts)
        if self._compiled is None:
            step = CompiledStep(self.eager, self.optimizer, self.options.mode, self.options.dtype)
            if not _repeated(lambda: repeats(step, plan.examples)):
                return self.eager
            self._compiled = step
        return self._compiled

    def _for_each_length(self, plan: Plan, parts: list[Examples]) -> Step:
        """For examples that differ in length: compiled where each of the lengths comes often."""
        from .ragged import RaggedStep, is_regular

        if not all(is_regular(part, plan.epochs) for part in parts):
            return self.eager
        if self._ragged is None:
            step = RaggedStep(self.eager, self.options.mode, self.options.dtype)
            if not _repeated(lambda: step.repeats(plan.examples[0])):
                return self.eager
            self._ragged = step
        return self._ragged

    def _start(self, plan: Plan, settings: Mapping[str, Any]) -> Run:
        """The run in the checkpoint, or a new one."""
        if plan.path is not None and plan.path.exists():
            return load_run(self, plan, plan.path, settings)
        run = Run(rng=self.rng.getstate())
        # Better to learn now than after an epoch that the file cannot be written.
        save_run(self, plan, run, settings)
        return run

    def _epoch(self, plan: Plan, run: Run, bar: Bar, interrupt: Interrupt) -> None:
        """What is left of an epoch: the mini-batches not yet done, then the validation."""
        started, before = time.perf_counter(), run.seconds
        self._step.load()
        run.expect(plan.metrics)
        tally = Tally(plan.metrics, run.sums)
        try:
            order = self._order(plan, run)
            for k in range(run.batch * plan.batch_size, len(order), plan.batch_size):
                rows = order[k : k + plan.batch_size]
                last = k + plan.batch_size >= len(order)
                batch = Batch(plan.examples, rows, interrupt.check, last)
                self._learn(batch, tally, run, interrupt)
                bar.advance(tally.settle)
            validation: dict[str, float] = {}
            if plan.validation is not None:
                validation = self._evaluate(
                    self._step, _all(plan.validation, interrupt.check), plan.metrics
                )
        finally:
            tally.settle()
            fault = self._step.sync()
            run.seconds = before + time.perf_counter() - started
            if fault is not None:
                raise self._anomaly(fault, run)
        run.end_epoch(self.rng.getstate(), validation)

    def _order(self, plan: Plan, run: Run) -> NDArray[np.intp]:
        self.rng.setstate(run.rng)
        count = len(plan.examples)
        return shuffled(count, self.rng) if plan.shuffle else np.arange(count)

    def _learn(self, batch: Batch, tally: Tally, run: Run, interrupt: Interrupt) -> None:
        """One mini-batch: gradients, then the step."""
        try:
            outcome = self._step.gradients(batch)
        except TraceError as error:
            raise TraceError(f"{error}. {WITHOUT}") from error
        if outcome.fault is not None:
            raise self._anomaly(outcome.fault, run)
        tally.measure(outcome, batch)
        with interrupt.whole():
            fault = self._step.update()
            if fault is not None:
                raise self._anomaly(fault, run)
            run.add(outcome.loss, len(batch))
            tally.confirm(batch)

    def _anomaly(self, fault: Fault, run: Run) -> AnomalyError:
        place = f"epoch {len(run.history) + 1}, mini-batch {run.batch + 1 - fault.late}"
        return AnomalyError(
            f"{fault.what} in {place}: training has "
            "stopped, and the parameters are those before that mini-batch. Try a smaller learning "
            f"rate (now {self.optimizer.learning_rate():.3g}); inside "
            "scalargrad.detect_anomaly(), fit names the operation"
        )

    def _call_back(self, plan: Plan, run: Run) -> None:
        self._stop_reason = ""
        for callback in plan.callbacks:
            callback(self, len(run.history), run.history)
        run.history.stopped = self._stop_reason

    def _finish(self, plan: Plan, run: Run) -> None:
        if run.history.interrupted:
            print(_farewell(plan, run), file=sys.stderr)
            return
        for callback in plan.callbacks:
            if hasattr(callback, "finish"):
                callback.finish(self, run.history)


def _repeated(repeats: Callable[[], bool]) -> bool:
    """Whether the model does the same each time; what keeps it from being traced is told."""
    try:
        return repeats()
    except UnrepeatableError:
        return False
    except TraceError as error:
        raise TraceError(f"{error}. {WITHOUT}") from error


def _bind(optimizer: Optimizer, parameters: tuple[Value, ...]) -> None:
    if not optimizer.parameters:
        optimizer.bind(parameters)
    others = len(set(optimizer.parameters).difference(parameters))
    if others:
        raise ValueError(
            f"optimizer: {others} of its {len(optimizer.parameters)} parameters are not the "
            "model's, and what is not the model's would not be saved: make the optimizer with "
            "model.parameters() of this model, or without parameters; what the loss alone uses "
            "becomes the model's as an attribute of it"
        )


def _all(examples: Examples, check: Callable[[], None] = lambda: None) -> Batch:
    return Batch(examples, range(len(examples)), check)


def _validation(validation: Any) -> Examples:
    try:
        x, y = validation
    except (TypeError, ValueError):
        raise TypeError(
            f"validation: expected (inputs, targets), got {shown(validation)}"
        ) from None
    with _said_of("validation"):
        return Examples(x, y)


@contextmanager
def _said_of(what: str) -> Iterator[None]:
    """Begin the message of an error with what it is about."""
    try:
        yield
    except PLAIN_ERRORS as error:
        if type(error) not in PLAIN_ERRORS:
            raise
        raise type(error)(f"{what}: {error}") from error


def _truth(name: str, given: Any) -> bool:
    if isinstance(given, bool):
        return given
    raise TypeError(f"{name}: expected True or False, got {shown(given)}")


def _path(checkpoint: Any) -> Path | None:
    if checkpoint is None or isinstance(checkpoint, str | os.PathLike):
        return None if checkpoint is None else Path(checkpoint)
    raise TypeError(f"checkpoint: expected the path of a file, got {shown(checkpoint)}")


def _callbacks(callbacks: Any) -> tuple[Callback, ...]:
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks: expected a list of functions, got {shown(callbacks)}")
    given = tuple(callbacks)
    for k, callback in enumerate(given):
        if not callable(callback):
            raise TypeError(f"callbacks[{k}]: expected a function, got {shown(callback)}")
    return given


def _farewell(plan: Plan, run: Run) -> str:
    where = f"Interrupted in epoch {len(run.history) + 1} of {plan.epochs}"
    if run.batch:
        where += f", after {run.batch} of {plan.batches} mini-batches"
    advice = "training with fit(checkpoint=PATH) can be resumed"
    if plan.path is not None:
        advice = f"training with the checkpoint {plan.path} goes on from here"
    return f"{where}. What was learned is kept; {advice}."
