"""The pictures of a training run: what is on them, where, and how they reach the disk."""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scalargrad.errors import MissingExtraError, ShapeError
from scalargrad.views import pictures
from scalargrad.views.pictures.confusion_matrix import recall, shades
from scalargrad.views.pictures.style import COLOURS, number, numbers, percent
from scalargrad.views.pictures.training import epoch_ticks

matplotlib = pytest.importorskip("matplotlib", reason="pictures need the plot extra")

from matplotlib.backend_bases import RendererBase  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.colors import same_color, to_rgb  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.text import Text  # noqa: E402
from matplotlib.transforms import Bbox  # noqa: E402

from scalargrad.views.pictures.page import fitting_size, shortened, spread, text_width  # noqa: E402

NAN, INF = float("nan"), float("inf")


def drawn(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that drawing the figure puts on the page, and the box it fills."""
    found: list[tuple[str, Bbox]] = []
    draw = Text.draw

    def recorded(text: Text, renderer: RendererBase, *arguments: object) -> None:
        if text.get_visible() and text.get_text().strip():
            found.append((text.get_text(), text.get_window_extent(renderer)))
        draw(text, renderer, *arguments)

    with mock.patch.object(Text, "draw", recorded):
        FigureCanvasAgg(figure).draw()
    return found


def texts(figure: Figure) -> list[str]:
    """Every text on the page."""
    return [text for text, _ in drawn(figure)]


def clutter(figure: Figure) -> list[str]:
    """Texts that cover each other or leave the page; an empty list is a clean picture."""
    boxes = drawn(figure)
    width, height = figure.canvas.get_width_height()
    found = [
        f"{text!r} leaves the page"
        for text, box in boxes
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height
    ]
    low, high = (np.array([getattr(box, corner) for _, box in boxes]) for corner in ("min", "max"))
    size = high - low
    for i, (text, _) in enumerate(boxes):
        shared = np.minimum(high[i], high[i + 1 :]) - np.maximum(low[i], low[i + 1 :])
        # Boxes include the line's leading, so those of two tidy lines may touch.
        least = 0.25 * np.minimum(size[i, 1], size[i + 1 :, 1])
        for j in np.flatnonzero((shared[:, 0] > 1) & (shared[:, 1] > least)):
            found.append(f"{text!r} covers {boxes[i + 1 + j][0]!r}")
    return found


def line(figure: Figure, role: str, panel: int = 0):
    return next(entry for entry in figure.axes[panel].lines if entry.get_label() == role)


def digest(figure: Figure, folder: Path, name: str = "picture.png") -> str:
    return hashlib.sha256(pictures.save(figure, folder / name).read_bytes()).hexdigest()


def blobs(n: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return generator.normal(size=(n, 2)) + 2.0 * y[:, None], y


EVERY: dict[str, Callable[[], Figure]] = {
    "curves": lambda: pictures.curves(
        [2.0, 1.0, 0.02],
        validation_loss=[2.1, 1.2, 0.03],
        metrics={"accuracy": [0.1, 0.6, 0.9], "validation accuracy": [0.1, 0.5, 0.9]},
        title="three epochs",
    ),
    "decision_boundary": lambda: pictures.decision_boundary(
        lambda p: p.sum(axis=1) - 2, *blobs(), resolution=30, title="blobs"
    ),
    "predictions": lambda: pictures.predictions(
        np.random.default_rng(0).random((30, 16)), np.arange(30) % 3, np.arange(30) % 5
    ),
    "confusion": lambda: pictures.confusion(np.arange(30) % 3, np.arange(30) % 5),
    "regression": lambda: pictures.regression([1, 2, 3.5], [1.5, 2, 3]),
}


class TestEveryPicture:
    @pytest.mark.parametrize("name", EVERY)
    def test_no_text_covers_another_or_leaves_the_page(self, name: str) -> None:
        assert clutter(EVERY[name]()) == []

    def test_the_check_for_clutter_finds_planted_clutter(self) -> None:
        figure = Figure()
        figure.text(0.5, 0.5, "one")
        figure.text(0.5, 0.5, "two")
        figure.text(0.99, 0.1, "a text that runs off the page")
        assert len(clutter(figure)) == 2

    @pytest.mark.parametrize("name", EVERY)
    @pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
    def test_equal_figures_give_equal_bytes(self, name: str, suffix: str, tmp_path: Path) -> None:
        first = digest(EVERY[name](), tmp_path, f"a.{suffix}")
        assert digest(EVERY[name](), tmp_path, f"b.{suffix}") == first

    def test_different_figures_give_different_bytes(self, tmp_path: Path) -> None:
        assert digest(pictures.curves([1.0, 2.0]), tmp_path) != digest(
            pictures.curves([1.0, 3.0]), tmp_path
        )

    @pytest.mark.parametrize("name", EVERY)
    def test_the_callers_settings_have_no_effect_and_survive(
        self, name: str, tmp_path: Path
    ) -> None:
        plain = digest(EVERY[name](), tmp_path)
        odd = {
            "font.size": 30,
            "axes.facecolor": "black",
            "savefig.facecolor": "red",
            "savefig.bbox": "tight",
            "savefig.dpi": 20,
            "xtick.major.size": 40,
            "lines.linewidth": 9,
            "font.family": ["serif"],
        }
        with matplotlib.rc_context(odd):
            figure = EVERY[name]()
            assert digest(figure, tmp_path) == plain
            assert {key: matplotlib.rcParams[key] for key in odd} == odd

    @pytest.mark.parametrize("name", EVERY)
    def test_a_notebook_gets_a_png_and_its_size(self, name: str) -> None:
        figure = EVERY[name]()
        content, size = figure._repr_png_()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = figure.get_size_inches()
        assert size == {"width": round(96 * width), "height": round(96 * height)}

    def test_a_figure_survives_pickling(self) -> None:
        figure = EVERY["curves"]()
        copy = pickle.loads(pickle.dumps(figure))
        assert copy._repr_png_()[0] == figure._repr_png_()[0]

    @pytest.mark.parametrize("name", EVERY)
    def test_without_matplotlib_the_error_names_the_extra(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
            monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtraError, match=r"needs matplotlib.*'scalargrad\[plot\]'"):
            EVERY[name]()

    def test_neither_pyplot_nor_a_display_is_touched(self) -> None:
        program = (
            "import sys\n"
            "from scalargrad.views import pictures\n"
            "assert 'matplotlib' not in sys.modules\n"
            "pictures.curves([1.0, 0.5])._repr_png_()\n"
            "assert 'matplotlib.pyplot' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=120)

    def test_two_processes_write_the_same_bytes(self, tmp_path: Path) -> None:
        program = (
            "import sys\n"
            "from scalargrad.views import pictures\n"
            "pictures.save(pictures.confusion([0, 1, 1], [0, 1, 0]), sys.argv[1])\n"
        )
        written = []
        for seed in ("1", "2"):
            path = tmp_path / f"{seed}.svg"
            environment = {**os.environ, "PYTHONHASHSEED": seed}
            subprocess.run(
                [sys.executable, "-c", program, str(path)],
                check=True,
                timeout=120,
                env=environment,
            )
            written.append(path.read_bytes())
        assert written[0] == written[1]


class TestCurves:
    def test_lines_hold_the_numbers_from_epoch_one(self) -> None:
        figure = pictures.curves([3.0, 2.0, 1.0], validation_loss=[3.5, 2.5, 1.5])
        assert len(figure.axes) == 1
        for role, values in (("training", [3, 2, 1]), ("validation", [3.5, 2.5, 1.5])):
            assert line(figure, role).get_xdata().tolist() == [1, 2, 3]
            assert line(figure, role).get_ydata().tolist() == values
            assert same_color(line(figure, role).get_color(), COLOURS[role])
        assert line(figure, "training").get_linestyle() == "-"
        assert line(figure, "validation").is_dashed()
        assert figure.axes[0].get_xlim() == (1, 3)

    def test_ends_are_labelled_with_the_last_value_and_there_is_no_legend(self) -> None:
        figure = pictures.curves(
            [3.0, 0.1234], validation_loss=[3, 0.2], metrics={"accuracy": [0.5, 0.987]}
        )
        assert {"training 0.123", "validation 0.2", "training 98.7%"} <= set(texts(figure))
        assert all(axes.get_legend() is None for axes in figure.axes)

    @pytest.mark.parametrize(
        ("loss", "scale"),
        [
            ([10.0, 0.3], "log"),
            ([10.0, 0.4], "linear"),
            ([10.0, 0.0], "linear"),
            ([10.0, -0.1], "linear"),
            ([10.0, NAN, 0.3, INF], "log"),
            ([1.0], "linear"),
            ([NAN], "linear"),
        ],
    )
    def test_the_axis_is_logarithmic_when_the_numbers_span_decades(
        self, loss: list[float], scale: str
    ) -> None:
        assert pictures.curves(loss).axes[0].get_yscale() == scale

    def test_validation_counts_for_the_scale(self) -> None:
        figure = pictures.curves([10.0, 5.0], validation_loss=[10.0, 0.01])
        assert figure.axes[0].get_yscale() == "log"

    def test_accuracy_has_its_own_panel_in_percent(self) -> None:
        figure = pictures.curves(
            [1.0, 0.5], metrics={"accuracy": [0.5, 1.0], "val_accuracy": [0.4, 0.9]}
        )
        assert len(figure.axes) == 2
        low, high = figure.axes[1].get_ylim()
        assert 0 <= low < 0.4
        assert high == 1.0
        assert all(t.get_text().endswith("%") for t in figure.axes[1].get_yticklabels())
        assert line(figure, "validation", 1).get_ydata().tolist() == [0.4, 0.9]
        assert {"Loss", "Accuracy", "best validation 90.0% at epoch 2"} <= set(texts(figure))

    def test_every_metric_gets_a_panel(self) -> None:
        numbers_ = [1.0, 2.0, 3.0]
        metrics = {"perplexity": numbers_, "validation perplexity": numbers_, "rate": numbers_}
        figure = pictures.curves(numbers_, metrics=metrics)
        assert len(figure.axes) == 3
        assert {"Loss", "Perplexity", "Rate"} <= set(texts(figure))

    def test_the_note_names_the_best_epoch(self) -> None:
        figure = pictures.curves([5, 4, 3.0], validation_loss=[5, 2.5, 4.0])
        assert "lowest validation 2.5 at epoch 2" in texts(figure)

    def test_gaps_break_the_line_and_are_marked(self) -> None:
        figure = pictures.curves([3.0, NAN, 2.0, INF, -INF, 1.0])
        heights = line(figure, "training").get_ydata()
        assert np.isnan(heights).tolist() == [False, True, False, True, True, False]
        assert line(figure, "training gaps").get_xdata().tolist() == [2.0, 4.5]
        assert sum(p.get_label() == "gap" for p in figure.axes[0].patches) == 2
        assert "× nan or too large at epochs 2, 4–5" in texts(figure)

    def test_no_gap_no_mark(self) -> None:
        figure = pictures.curves([3.0, 2.0])
        assert not len(line(figure, "training gaps").get_xdata())
        assert not any("×" in text for text in texts(figure))

    def test_a_value_between_gaps_and_a_last_value_get_a_dot(self) -> None:
        loss = [NAN] * 30
        loss[0], loss[10], loss[20], loss[21] = 1.0, 2.0, 3.0, 4.0
        assert line(pictures.curves(loss), "training").get_markevery() == [0, 10, 21]

    def test_a_last_value_that_is_nan_is_said(self) -> None:
        assert "training nan" in texts(pictures.curves([1.0, NAN]))

    def test_nothing_to_draw_is_said(self) -> None:
        figure = pictures.curves([NAN, INF])
        assert "no number to draw" in texts(figure)
        assert clutter(figure) == []

    def test_none_is_passed_over_without_a_mark(self) -> None:
        figure = pictures.curves([4.0, 3.0, 2.0, 1.0], validation_loss=[None, 3.0, None, 1.5])
        assert line(figure, "validation").get_xdata().tolist() == [2, 4]
        assert line(figure, "validation").get_ydata().tolist() == [3.0, 1.5]
        assert not len(line(figure, "validation gaps").get_xdata())

    def test_a_flat_loss_is_told_apart(self) -> None:
        figure = pictures.curves([2.30259, 2.30257], validation_loss=[2.3027, 2.30266])
        assert {"training 2.30257", "validation 2.30266"} <= set(texts(figure))

    def test_a_long_title_stays_on_the_page(self) -> None:
        assert clutter(pictures.curves([1.0, 2.0], title="a long title " * 30)) == []

    @settings(max_examples=25, deadline=None)
    @given(
        loss=st.lists(
            st.floats(width=64) | st.floats(min_value=1e-3, max_value=10), min_size=1, max_size=40
        ),
        validated=st.booleans(),
    )
    @example(loss=[1.7e308], validated=True)
    @example(loss=[1e308, -1e308, 5e-324], validated=False)
    @example(loss=[1e140, 5e-324, -1e140], validated=True)
    @example(loss=[5e-324, 1e140], validated=True)
    def test_any_numbers_give_a_clean_picture(self, loss: list[float], validated: bool) -> None:
        figure = pictures.curves(loss, validation_loss=loss[::-1] if validated else None)
        assert clutter(figure) == []
        assert len(figure.axes[0].lines) == 2 * (1 + validated)

    @pytest.mark.parametrize("epochs", [*range(1, 40), 99, 100, 101, 250, 600, 1000, 12345])
    def test_epoch_ticks_are_few_round_and_start_at_one(self, epochs: int) -> None:
        ticks = epoch_ticks(epochs)
        assert ticks[0] == 1
        assert ticks == sorted(set(ticks))
        assert ticks[-1] <= epochs
        assert len(ticks) <= 11
        assert len(set(np.diff(ticks[1:]))) <= 1
        axes = pictures.curves(list(range(1, epochs + 1))).axes[0]
        assert [t.get_text() for t in axes.get_xticklabels()] == [str(tick) for tick in ticks]

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda: pictures.curves([]), ShapeError, "loss is empty"),
            (
                lambda: pictures.curves([1.0, 2.0], validation_loss=[1.0]),
                ShapeError,
                "loss has length 2 and validation_loss has length 1",
            ),
            (
                lambda: pictures.curves([1.0, 2.0], metrics={"accuracy": [0.1] * 3}),
                ShapeError,
                r"loss has length 2 and metrics\['accuracy'\] has length 3",
            ),
            (
                lambda: pictures.curves([1.0], metrics={"accuracy": [97.0]}),
                ValueError,
                r"metrics\['accuracy'\] must be fractions from 0 to 1, got 97",
            ),
            (
                lambda: pictures.curves(
                    [1.0], metrics={"val_accuracy": [0.9], "validation accuracy": [0.9]}
                ),
                ValueError,
                "second validation curve of 'accuracy'",
            ),
            (
                lambda: pictures.curves([1.0], validation_loss=[None]),
                ValueError,
                "validation_loss has only None",
            ),
            (lambda: pictures.curves(["low"]), TypeError, "loss must be an array of numbers"),
        ],
    )
    def test_errors(self, call: Callable[[], Figure], error: type, message: str) -> None:
        with pytest.raises(error, match=message):
            call()


class TestDecisionBoundary:
    def rings(self, figure: Figure) -> np.ndarray:
        collections = figure.axes[0].collections
        return next(c for c in collections if c.get_label() == "wrong").get_offsets().data

    @pytest.mark.parametrize("low", [-1, 0])
    def test_exactly_the_wrong_points_are_ringed(self, low: int) -> None:
        x, y = blobs()
        y = np.where(y == 1, 1, low)
        figure = pictures.decision_boundary(lambda p: p[:, 0] - 1, x, y, resolution=20)
        wrong = (x[:, 0] > 1) != (y == 1)
        assert 0 < wrong.sum() < len(y)
        np.testing.assert_array_equal(self.rings(figure), x[wrong])
        assert f"wrong ({wrong.sum()})" in texts(figure)
        assert f"{(~wrong).sum()} of 40 points right ({percent(np.mean(~wrong))})" in texts(figure)
        assert f"class {'−1' if low else 0}" in texts(figure)

    def test_points_carry_their_class_colour(self) -> None:
        x, y = blobs()
        figure = pictures.decision_boundary(lambda p: p[:, 0], x, y, resolution=20)
        for role, members in (("negative", y == 0), ("positive", y == 1)):
            dots = next(c for c in figure.axes[0].collections if c.get_label() == role)
            np.testing.assert_array_equal(dots.get_offsets().data, x[members])
            assert same_color(dots.get_facecolor()[0], COLOURS[role])

    def test_a_score_of_zero_is_the_first_class(self) -> None:
        x = [[0.0, 0.0], [0.0, 1.0]]
        figure = pictures.decision_boundary(lambda p: p[:, 0], x, [0, 1], resolution=20)
        assert self.rings(figure).tolist() == [x[1]]

    def test_a_perfect_classifier_has_no_rings(self) -> None:
        x = [[-1.0, 0.0], [1.0, 0.0]]
        figure = pictures.decision_boundary(lambda p: p[:, 0], x, [0, 1], resolution=20)
        assert len(self.rings(figure)) == 0
        assert not any("wrong" in text for text in texts(figure))

    def test_the_line_is_where_the_score_is_zero(self) -> None:
        x, y = blobs()
        figure = pictures.decision_boundary(lambda p: p[:, 0] - 0.37, x, y, resolution=50)
        contour = next(
            c
            for c in figure.axes[0].collections
            if c.get_paths() and c.get_array() is not None and len(c.get_offsets()) <= 1
        )
        vertices = np.concatenate([path.vertices for path in contour.get_paths()])
        np.testing.assert_allclose(vertices[:, 0], 0.37, atol=1e-9)

    def test_both_axes_have_one_scale_and_hold_every_point(self) -> None:
        x, y = blobs()
        axes = pictures.decision_boundary(lambda p: p[:, 0], x, y, resolution=20).axes[0]
        assert axes.get_aspect() == 1
        assert axes.get_xlim()[0] < x[:, 0].min() < x[:, 0].max() < axes.get_xlim()[1]
        assert axes.get_ylim()[0] < x[:, 1].min() < x[:, 1].max() < axes.get_ylim()[1]

    def test_resolution_is_the_longer_side_of_the_grid(self) -> None:
        asked: list[int] = []

        def predict(points: np.ndarray) -> np.ndarray:
            asked.append(len(points))
            return points[:, 0]

        figure = pictures.decision_boundary(predict, [[0, 0], [8, 1]], [0, 1], resolution=64)
        shape = figure.axes[0].images[0].get_array().shape
        assert max(shape) == 64
        assert asked == [2, shape[0] * shape[1]]

    def test_the_shade_grows_with_the_score(self) -> None:
        x, y = blobs()
        image = pictures.decision_boundary(lambda p: p[:, 0], x, y, resolution=20).axes[0].images[0]
        low, high = image.get_clim()
        assert low == -high < 0
        tints = np.abs(1 - image.to_rgba(np.array([0.0, 0.5, 1.0]) * high)[:, :3]).sum(axis=1)
        assert tints[0] < 0.05 < tints[1] < tints[2]

    def test_a_nan_score_is_wrong_and_shown_grey(self) -> None:
        x, y = [[-1.0, 0], [1.0, 0], [2.0, 0]], [0, 0, 1]
        figure = pictures.decision_boundary(
            lambda p: np.where(p[:, 0] > 0, NAN, -1.0), x, y, resolution=20
        )
        assert self.rings(figure).tolist() == x[1:]
        assert "score is nan" in texts(figure)
        assert figure.axes[0].images[0].get_array().mask.any()

    @pytest.mark.parametrize("score", [1.0, -1.0, 0.0, INF, -INF, NAN, 1e308])
    def test_a_constant_score_is_drawn(self, score: float) -> None:
        figure = pictures.decision_boundary(
            lambda p: np.full(len(p), score), *blobs(), resolution=10
        )
        assert clutter(figure) == []
        expected = "score is nan" if np.isnan(score) else "no boundary in sight"
        assert expected in texts(figure)

    @settings(max_examples=15, deadline=None)
    @given(
        points=st.lists(
            st.tuples(*[st.floats(min_value=-1e9, max_value=1e9)] * 2), min_size=1, max_size=8
        )
    )
    @example(points=[(1e20, 1e20)])
    @example(points=[(0.0, 0.0), (4e-256, 0.0)])
    @example(points=[(-130410077.0, 0.0)])
    @example(points=[(0.0, 0.0), (0.0, 9.0)])
    @example(points=[(1e6, 1e7), (1.00005e6, 1e7 + 70)])
    def test_any_points_give_a_clean_picture(self, points: list[tuple[float, float]]) -> None:
        figure = pictures.decision_boundary(
            lambda p: p[:, 0] - points[0][0], points, [1] * len(points), resolution=12
        )
        assert clutter(figure) == []

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"x": [[1.0, 2.0, 3.0]]}, ShapeError, r"x must have shape \(n, 2\), got \(1, 3\)"),
            ({"y": [0, 1, 1]}, ShapeError, "x has length 2 and y has length 3"),
            ({"y": [1, 2]}, ValueError, r"y must be in \{-1, 1\} or \{0, 1\}, got \[1, 2\]"),
            ({"y": [-1, 0]}, ValueError, r"got \[-1, 0\]"),
            ({"y": [0.5, 1]}, ValueError, "y must hold whole numbers.*got 0.5 at position 0"),
            ({"x": [[NAN, 0], [0, 0]]}, ValueError, "x holds nan"),
            ({"resolution": 1}, ValueError, "resolution must be at least 2, got 1"),
            (
                {"predict": lambda p: p},
                ShapeError,
                r"predict must return shape \(2,\).*got \(2, 2\)",
            ),
            ({"predict": lambda p: ["a"]}, TypeError, "predict's result must be an array"),
        ],
    )
    def test_errors(self, change: dict[str, object], error: type, message: str) -> None:
        arguments = {"predict": lambda p: p[:, 0], "x": [[0, 0], [1, 1.0]], "y": [0, 1]}
        with pytest.raises(error, match=message):
            pictures.decision_boundary(**{**arguments, **change})


class TestPredictions:
    def draw(self, wrong: int, right: int, **options: object) -> Figure:
        """Examples of class 0 taken for 1 (wrong) and then of class 0 taken for 0."""
        n = wrong + right
        images = np.arange(n)[:, None] * np.ones(9)
        predicted = np.array([1] * wrong + [0] * right)
        order = np.random.default_rng(0).permutation(n)
        self.order = order
        return pictures.predictions(images[order], np.zeros(n, int), predicted[order], **options)

    def frames(self, figure: Figure) -> list[str]:
        return [patch.get_label() for patch in figure.axes[0].patches]

    def test_each_image_has_a_frame_and_a_label_and_the_wrong_ones_are_red(self) -> None:
        figure = self.draw(wrong=3, right=9)
        axes = figure.axes[0]
        assert len(axes.images) == len(axes.patches) == len(axes.texts) == 12
        assert self.frames(figure) == ["wrong"] * 3 + ["right"] * 9
        for image, frame, text in zip(axes.images, axes.patches, axes.texts):
            wrong = image.get_array()[0, 0] < 3
            assert (frame.get_label() == "wrong") == wrong
            assert text.get_text() == ("1 (0)" if wrong else "0 (0)")
            for colour in (frame.get_edgecolor(), text.get_color()):
                assert same_color(colour, COLOURS["wrong"]) == wrong
        assert {"9 of 12 right (75.0%)", "Wrong: 3", "Right: 9"} <= set(texts(figure))

    @pytest.mark.parametrize(
        ("wrong", "right", "shown_wrong", "shown_right"),
        [
            (0, 100, 0, 40),
            (1, 100, 1, 30),
            (100, 100, 20, 20),
            (100, 5, 35, 5),
            (100, 0, 40, 0),
            (30, 30, 20, 20),
            (2, 3, 2, 3),
        ],
    )
    def test_some_mistakes_are_always_among_those_shown(
        self, wrong: int, right: int, shown_wrong: int, shown_right: int
    ) -> None:
        figure = self.draw(wrong, right)
        assert self.frames(figure) == ["wrong"] * shown_wrong + ["right"] * shown_right
        said = texts(figure)
        if 0 < shown_wrong < wrong:
            assert f"Wrong: {shown_wrong} of {wrong}" in said
        if 0 < shown_right < right:
            assert f"Right: {shown_right} of {right}" in said
        assert clutter(figure) == []

    @pytest.mark.parametrize("limit", [1, 2, 7, 12])
    def test_limit_and_columns(self, limit: int) -> None:
        figure = self.draw(wrong=20, right=20, limit=limit, columns=3)
        assert 1 <= len(self.frames(figure)) <= limit
        assert "wrong" in self.frames(figure)
        lefts = {round(patch.get_x(), 6) for patch in figure.axes[0].patches}
        assert len(lefts) == min(3, len([f for f in self.frames(figure) if f == "wrong"]))

    def test_the_surest_mistakes_come_first(self) -> None:
        confidence = np.random.default_rng(1).random(60)
        figure = self.draw(wrong=30, right=30, confidence=confidence, limit=10)
        shown = [round(image.get_array()[0, 0]) for image in figure.axes[0].images][:5]
        of_image = {int(image): confidence[place] for place, image in enumerate(self.order)}
        surest = sorted(range(30), key=lambda image: -of_image[image])[:5]
        assert shown == surest
        assert percent(of_image[surest[0]]) in texts(figure)
        assert clutter(figure) == []

    def test_names_and_dollar_signs_are_plain_text(self) -> None:
        figure = self.draw(2, 2, names=["$cat$", "a lorry with a long name"])
        assert {"($cat$)", "$cat$"} <= set(texts(figure))
        assert any(text.startswith("a lorry") and text.endswith("…") for text in texts(figure))
        assert clutter(figure) == []

    def test_all_images_share_one_scale_with_ink_dark(self) -> None:
        axes = self.draw(2, 8).axes[0]
        assert {image.get_clim() for image in axes.images} == {(0.0, 9.0)}
        assert {image.get_cmap().name for image in axes.images} == {"gray_r"}

    def test_constant_images_are_drawn(self) -> None:
        figure = pictures.predictions(np.full((2, 3, 3), 7.0), [0, 1], [0, 1])
        assert np.ptp(figure.axes[0].images[0].get_clim()) > 0

    @pytest.mark.parametrize(
        ("images", "shape"), [(np.zeros((1, 6)), (2, 3)), (np.zeros((1, 2, 3)), None)]
    )
    def test_shapes(self, images: np.ndarray, shape: tuple[int, int] | None) -> None:
        axes = pictures.predictions(images, [0], [0], shape=shape).axes[0]
        assert axes.images[0].get_array().shape == (2, 3)
        frame = axes.patches[0]
        assert frame.get_width() / frame.get_height() == pytest.approx(1.5)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"predicted": [0]}, ShapeError, "true has length 2 and predicted has length 1"),
            ({"images": np.zeros((3, 4))}, ShapeError, "true has length 2 and images has length 3"),
            ({"images": np.zeros((2, 5))}, ShapeError, "5 numbers in a row.*not fill a square"),
            ({"shape": (3, 3)}, ShapeError, r"4 numbers in a row.*not fill shape \(3, 3\)"),
            ({"images": np.zeros(4)}, ShapeError, r"shape \(n, height, width\).*got \(4,\)"),
            (
                {"images": np.zeros((2, 2, 2)), "shape": (4, 1)},
                ShapeError,
                r"shape \(n, 4, 1\).*got \(2, 2, 2\)",
            ),
            ({"images": [[1, 2], [3]]}, TypeError, "images must be an array of numbers"),
            ({"images": np.full((2, 4), NAN)}, ValueError, "images holds nan"),
            ({"images": np.zeros((2, 0))}, ShapeError, "at least one image with pixels"),
            ({"true": [], "predicted": []}, ShapeError, "true is empty"),
            ({"true": [[0], [1]]}, ShapeError, r"true must have one dimension, got shape \(2, 1\)"),
            ({"names": ["zero"]}, ValueError, "the label 1, but names has 1 entries"),
            ({"columns": 0}, ValueError, "columns must be at least 1, got 0"),
            ({"limit": 0}, ValueError, "limit must be at least 1, got 0"),
            ({"confidence": [0.5]}, ShapeError, "true has length 2 and confidence has length 1"),
            ({"confidence": [0.5, 1.5]}, ValueError, "confidence must be probabil.*got 1.5"),
            ({"confidence": [0.5, NAN]}, ValueError, "confidence must be probabil.*got nan"),
        ],
    )
    def test_errors(self, change: dict[str, object], error: type, message: str) -> None:
        arguments = {"images": np.zeros((2, 4)), "true": [0, 1], "predicted": [0, 1]}
        with pytest.raises(error, match=message):
            pictures.predictions(**{**arguments, **change})


class TestConfusion:
    def test_cells_hold_the_counts_of_true_by_predicted(self) -> None:
        true, predicted = [0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 2, 2]
        axes = pictures.confusion(true, predicted).axes[0]
        cells = {
            (int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in axes.texts
        }
        assert cells == {(0, 0): "1", (0, 1): "1", (1, 1): "2", (1, 2): "1", (2, 2): "1"}
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
        low, high = axes.get_ylim()
        assert low > high

    def test_title_and_recall(self) -> None:
        figure = pictures.confusion([0, 0, 0, 1], [0, 0, 1, 1])
        said = texts(figure)
        assert {"Accuracy 75.0%: 3 of 4 right", "recall", "66.7%", "100%"} <= set(said)

    def test_a_class_without_examples_has_no_recall(self) -> None:
        figure = pictures.confusion([0, 0], [0, 1], classes=["a", "b", "c"])
        assert texts(figure).count("–") == 2
        np.testing.assert_array_equal(recall(np.array([[1, 1], [0, 0]])), [0.5, NAN])

    def test_only_labels_that_occur_are_shown(self) -> None:
        axes = pictures.confusion([-1, 7], [7, 7]).axes[0]
        assert [t.get_text() for t in axes.get_xticklabels()] == ["−1", "7"]
        assert [t.get_text() for t in axes.get_yticklabels()] == ["−1", "7"]

    def test_one_mistake_beside_thousands_can_be_seen(self) -> None:
        counts = np.array([[5000, 1, 0], [0, 5000, 400], [0, 0, 5000]])
        colours = shades(counts)
        np.testing.assert_allclose(colours[0, 2], 1.0)
        faint, strong = 1 - colours[0, 1].min(), 1 - colours[1, 2].min()
        assert 0.1 < faint < strong
        assert colours[1, 2, 0] > colours[1, 2, 2]
        assert colours[0, 0, 2] > colours[0, 0, 0]

    @given(st.lists(st.tuples(st.integers(-3, 5), st.integers(-3, 5)), min_size=1, max_size=30))
    @settings(max_examples=15, deadline=None)
    def test_counts_add_up_and_colours_are_colours(self, pairs: list[tuple[int, int]]) -> None:
        true, predicted = zip(*pairs)
        figure = pictures.confusion(true, predicted)
        axes = figure.axes[0]
        assert sum(int(text.get_text()) for text in axes.texts) == len(pairs)
        image = axes.images[0].get_array()
        assert image.min() >= 0
        assert image.max() <= 1
        right = sum(t == p for t, p in pairs)
        assert any(f"{right} of {len(pairs)} right" in text for text in texts(figure))
        assert clutter(figure) == []

    @pytest.mark.parametrize("classes", [1, 2, 27, 60, 100])
    def test_many_classes_are_clean(self, classes: int) -> None:
        labels = np.arange(4 * classes) % classes
        figure = pictures.confusion(labels, np.roll(labels, classes // 2))
        assert clutter(figure) == []
        assert max(figure.get_size_inches()) < 20

    def test_long_names_are_shortened_and_turned(self) -> None:
        names = ["a class with a very long name", "another such long name", "$x$"]
        figure = pictures.confusion([0, 1, 2], [0, 1, 2], classes=names)
        assert clutter(figure) == []
        assert {t.get_rotation() for t in figure.axes[0].get_xticklabels()} == {90}
        assert "$x$" in texts(figure)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (([0, 1], [0]), ShapeError, "true has length 2 and predicted has length 1"),
            (([], []), ShapeError, "true is empty"),
            (([0.5], [0]), ValueError, "true must hold whole numbers.*got 0.5"),
            (([0], [NAN]), ValueError, "predicted must hold whole numbers.*got nan"),
            ((["cat"], ["cat"]), TypeError, "true must be an array of numbers, got list"),
            (([0], [2], ["a", "b"]), ValueError, "predicted holds the label 2, but classes has 2"),
            (([-1], [0], ["a", "b"]), ValueError, "true holds the label -1"),
        ],
    )
    def test_errors(self, arguments: tuple, error: type, message: str) -> None:
        true, predicted, *classes = arguments
        with pytest.raises(error, match=message):
            pictures.confusion(true, predicted, classes=classes[0] if classes else None)


class TestRegression:
    def test_points_identity_and_errors(self) -> None:
        axes = pictures.regression([1.0, 2.0, 4.0], [1.5, 2.0, 3.0]).axes[0]
        strokes, points = axes.collections
        assert points.get_offsets().tolist() == [[1, 1.5], [2, 2], [4, 3]]
        ends = [segment[:, 1].tolist() for segment in strokes.get_segments()]
        assert ends == [[1, 1.5], [2, 2], [4, 3]]
        identity = next(entry for entry in axes.lines if entry.get_label() == "identity")
        np.testing.assert_array_equal(identity.get_xdata(), identity.get_ydata())
        assert axes.get_xlim() == axes.get_ylim()
        assert axes.get_aspect() == 1

    def test_the_note_holds_both_measures_of_fit(self) -> None:
        true, predicted = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0])
        rmse = np.sqrt(np.mean((true - predicted) ** 2))
        r2 = 1 - np.sum((true - predicted) ** 2) / np.sum((true - true.mean()) ** 2)
        note = f"root mean square error {rmse:.3g}, R² {r2:.3g}"
        assert note in texts(pictures.regression(true, predicted))

    def test_equal_true_numbers_have_no_r2(self) -> None:
        assert not any("R²" in text for text in texts(pictures.regression([0.1] * 3, [1, 2, 3])))

    def test_predictions_that_cannot_be_drawn_are_counted(self) -> None:
        figure = pictures.regression([1, 2, 3.0], [1, NAN, INF])
        assert "2 of 3 predictions are nan or too large" in texts(figure)
        assert figure.axes[0].collections[-1].get_offsets().tolist() == [[1, 1]]

    def test_many_points_have_no_strokes(self) -> None:
        axes = pictures.regression(np.arange(400), np.arange(400)).axes[0]
        assert len(axes.collections) == 1

    @settings(max_examples=20, deadline=None)
    @given(
        st.lists(
            st.tuples(st.floats(min_value=-1e150, max_value=1e150), st.floats()),
            min_size=1,
            max_size=10,
        )
    )
    @example([(1.0000001, 1.0), (1.0000005, 1.0)])
    @example([(1e150, -1e150)])
    @example([(0.0, 0.0), (1e-212, 0.0)])
    def test_any_numbers_give_a_clean_picture(self, pairs: list[tuple[float, float]]) -> None:
        true, predicted = zip(*pairs)
        assert clutter(pictures.regression(true, predicted)) == []

    def test_errors(self) -> None:
        with pytest.raises(ShapeError, match="true has length 2 and predicted has length 1"):
            pictures.regression([1, 2], [1])
        with pytest.raises(ShapeError, match="true is empty"):
            pictures.regression([], [])
        with pytest.raises(ValueError, match="true holds inf"):
            pictures.regression([1, INF], [1, 2])


class TestSave:
    def test_makes_the_folder_and_returns_the_path(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b" / "curves.png"
        assert pictures.save(pictures.curves([1.0, 2.0]), str(path)) == path
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert [entry.name for entry in path.parent.iterdir()] == ["curves.png"]

    @pytest.mark.parametrize(("name", "start"), [("a.SVG", b"<?xml"), ("a.pdf", b"%PDF")])
    def test_the_suffix_chooses_the_format(self, name: str, start: bytes, tmp_path: Path) -> None:
        assert pictures.save(Figure(), tmp_path / name).read_bytes().startswith(start)

    def test_nothing_that_changes_by_day_or_version_is_inside(self, tmp_path: Path) -> None:
        for suffix in ("png", "svg", "pdf"):
            content = pictures.save(Figure(), tmp_path / f"a.{suffix}").read_bytes()
            for word in (b"Software", b"dc:date", b"CreationDate", b"Producer"):
                assert word not in content

    @pytest.mark.parametrize("failing", ["fsync", "replace"])
    @pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left")])
    def test_an_interrupted_write_leaves_the_old_file(
        self, failing: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "curves.png"
        path.write_bytes(b"old")

        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(os, failing, fail)
        with pytest.raises(type(error)):
            pictures.save(pictures.curves([1.0]), path)
        monkeypatch.undo()
        assert path.read_bytes() == b"old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["curves.png"]

    def test_the_file_is_on_disk_before_it_gets_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "curves.png"
        steps: list[str] = []
        fsync, replace = os.fsync, os.replace

        def watched_fsync(descriptor: int) -> None:
            steps.append(f"fsync {os.fstat(descriptor).st_size > 1000}")
            fsync(descriptor)

        def watched_replace(source: Path, target: Path) -> None:
            steps.append(f"replace {Path(source).parent == path.parent}")
            replace(source, target)

        monkeypatch.setattr(os, "fsync", watched_fsync)
        monkeypatch.setattr(os, "replace", watched_replace)
        pictures.save(pictures.curves([1.0]), path)
        assert steps == ["fsync True", "replace True"]

    def test_errors_name_the_path(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"path must end in .png, .svg, .pdf, got 'a.jpg'"):
            pictures.save(Figure(), "a.jpg")
        with pytest.raises(ValueError, match="got 'curves'"):
            pictures.save(Figure(), "curves")
        (tmp_path / "file").write_text("not a folder")
        with pytest.raises(OSError, match=r"could not be written: .*file/curves\.png"):
            pictures.save(Figure(), tmp_path / "file" / "curves.png")
        (tmp_path / "folder.png").mkdir()
        with pytest.raises(IsADirectoryError, match=r"folder\.png"):
            pictures.save(Figure(), tmp_path / "folder.png")


class TestStyle:
    def test_colours_of_different_things_stay_apart_for_the_colour_blind(self) -> None:
        # Machado, Oliveira and Fernandes (2009), full severity, on linear light.
        blindness = {
            "protan": [
                [0.152286, 1.052583, -0.204868],
                [0.114503, 0.786281, 0.099216],
                [-0.003882, -0.048116, 1.051998],
            ],
            "deutan": [
                [0.367322, 0.860646, -0.227968],
                [0.280085, 0.672501, 0.047413],
                [-0.011820, 0.042940, 0.968881],
            ],
        }
        pairs = [("training", "validation"), ("positive", "negative"), ("right", "wrong")]
        for matrix in blindness.values():
            for a, b in pairs:
                seen = [
                    np.clip(np.array(matrix) @ np.array(to_rgb(COLOURS[c])) ** 2.2, 0, 1)
                    ** (1 / 2.2)
                    for c in (a, b)
                ]
                assert np.linalg.norm(seen[0] - seen[1]) > 0.4

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0, "0"),
            (2.302585, "2.3"),
            (-1.5, "−1.5"),
            (0.001, "0.001"),
            (0.0123456, "0.0123"),
            (999.9, "1,000"),
            (12345.6, "12,346"),
            (999999.9, "1e6"),
            (1.5e-7, "1.5e−7"),
            (INF, "inf"),
        ],
    )
    def test_number(self, value: float, text: str) -> None:
        assert number(value) == text

    @given(st.floats(min_value=-1e12, max_value=1e12), st.floats(min_value=1e-6, max_value=1e6))
    def test_numbers_stay_true(self, start: float, step: float) -> None:
        values = [start + k * step for k in range(5)]
        read = [float(t.replace("−", "-").replace(",", "")) for t in numbers(values)]
        np.testing.assert_allclose(read, values, rtol=1e-14, atol=2e-3 * step)

    @pytest.mark.parametrize(
        ("fraction", "text"),
        [(0, "0%"), (1, "100%"), (0.5, "50.0%"), (0.99999, ">99.9%"), (1e-9, "<0.1%")],
    )
    def test_percent_says_all_and_nothing_only_when_true(self, fraction: float, text: str) -> None:
        assert percent(fraction) == text

    @given(st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=8))
    def test_spread_keeps_order_distance_and_range(self, places: list[float]) -> None:
        moved = spread(places, 0.1, 0.0, 1.0)
        assert min(moved) >= -1e-9
        assert max(moved) <= 1 + 1e-9
        order = sorted(range(len(places)), key=lambda i: places[i])
        assert all(moved[b] - moved[a] > 0.1 - 1e-9 for a, b in itertools.pairwise(order))
        if all(places[b] - places[a] >= 0.1 for a, b in itertools.pairwise(order)):
            assert moved == places

    def test_fitting_and_shortening(self) -> None:
        width = text_width("a long text", 10)
        assert fitting_size(["a long text"], 10, width + 0.01, 5) == 10
        assert fitting_size(["a long text"], 10, width / 2, 1) == pytest.approx(5, rel=0.05)
        assert fitting_size(["a long text"], 10, 0.01, 5) == 5
        assert shortened("a long text", 10, width + 0.01) == "a long text"
        cut = shortened("a long text", 10, width / 2)
        assert cut.endswith("…")
        assert text_width(cut, 10) <= width / 2
