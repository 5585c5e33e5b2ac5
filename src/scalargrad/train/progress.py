"""The progress bar: which epoch, how far, how long still, loss and metrics."""

from __future__ import annotations

from collections.abc import Callable

from .run import Plan, Run


class Bar:
    """A bar on standard error over all mini-batches of a run.

    A metric is shown as the mean of the epoch so far, and after a slash as last validated.
    `progress` is True to show it, False not to, None to show it where standard error is a
    terminal.
    """

    def __init__(self, plan: Plan, run: Run, progress: bool | None) -> None:
        from tqdm import tqdm

        self._epochs = plan.epochs
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
        self._bar.close()

    def advance(self, run: Run, complete: Callable[[], None]) -> None:
        """Show the state after one more mini-batch, which `complete` has the run hold whole."""
        if self._bar.disable:
            return
        complete()
        held_out = run.history.validation_metrics
        shown = [
            f"{name} {_short(name, mean)}"
            + (f"/{_short(name, held_out[name][-1])}" if held_out.get(name) else "")
            for name, mean in run.means().items()
        ]
        self._bar.set_description_str(f"epoch {len(run.history) + 1}/{self._epochs}", refresh=False)
        self._bar.set_postfix_str(", ".join(shown), refresh=False)
        self._bar.update()


def _short(name: str, number: float) -> str:
    return f"{100 * number:.1f}%" if "accuracy" in name else f"{number:#.3g}"
