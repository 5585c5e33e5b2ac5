"""The progress bar: which epoch, how far, how long still, loss and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable

from .run import Plan, Run

OFTEN = 0.05  # seconds after which the bar is brought up to date


class Bar:
    """A bar on standard error over all mini-batches of a run.

    It is up to date after every epoch, at the end, and nearly so in between. A metric is shown as the mean of the epoch so far, and after a slash as last validated.
    `progress` is True to show it, False not to, None to show it where standard error is a
    terminal.
    """

    def __init__(self, plan: Plan, run: Run, progress: bool | None) -> None:
        from tqdm import tqdm

        self._plan, self._run = plan, run
        self._done, self._next = 0, 0.0  # mini-batches not shown yet, and when they will be
        self._bar = tqdm(
            total=plan.epochs * plan.batches,
            initial=len(run.history) * plan.batches + run.batch,
            disable=None if progress is None else not progress,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {remaining} left{postfix}",
            dynamic_ncols=True,
        )

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._done:
            self._show()
        self._bar.close()

    def advance(self, complete: Callable[[], None]) -> None:
        """There is one more mini-batch; `complete` has the run know all about it."""
        if self._bar.disable:
            return
        self._done += 1
        if self._run.batch == self._plan.batches or time.monotonic() >= self._next:
            complete()
            self._show()

    def _show(self) -> None:
        run = self._run
        held_out = run.history.validation_metrics
        shown = [
            f"{name} {_short(name, mean)}"
            + (f"/{_short(name, held_out[name][-1])}" if held_out.get(name) else "")
            for name, mean in run.means().items()
        ]
        self._bar.set_description_str(
            f"epoch {len(run.history) + 1}/{self._plan.epochs}", refresh=False
        )
        self._bar.set_postfix_str(", ".join(shown), refresh=False)
        self._bar.update(self._done)
        self._done, self._next = 0, time.monotonic() + OFTEN


def _short(name: str, number: float) -> str:
    return f"{100 * number:.1f}%" if "accuracy" in name else f"{number:#.3g}"
