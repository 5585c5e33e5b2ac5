"""`sg.draw`: every number and every arrow is there, nothing overlaps, and the file is one anywhere."""

from __future__ import annotations

import math
import os
import random
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

import scalargrad as sg
from checking import contrast
from generated import program, run
from processes import run_python
from scalargrad import Graph, TraceError, Value
from scalargrad.views import Drawing
from scalargrad.views.drawing import look, ordering
from scalargrad.views.drawing.layering import layered
from scalargrad.views.drawing.layout import Layout, Rectangle, Shape, laid_out
from scalargrad.views.drawing.ordering import ordered
from scalargrad.views.drawing.placing import spread
from strategies import Program, wild_programs

pytestmark = pytest.mark.pure

SVG = "{http://www.w3.org/2000/svg}"


def line() -> Value:
    """The squared error of a line at a point."""
    w, b, x, y = (Value(n, label) for n, label in ((2, "w"), (1, "b"), (3, "x"), (5, "y")))
    loss = (w * x + b - y) ** 2
    loss.label = "loss"
    loss.backward()
    return loss


def boxes(drawing: Drawing) -> list[list[str]]:
    """The texts of each box."""
    return [
        [text.text or "" for text in group.iter(f"{SVG}text")]
        for group in ET.fromstring(drawing.svg).iter(f"{SVG}g")
        if group.get("class") not in (None, "arrow")
    ]


def kinds(drawing: Drawing) -> Counter[str]:
    groups = ET.fromstring(drawing.svg).iter(f"{SVG}g")
    return Counter(group.get("class", "") for group in groups if group.get("class"))


def by_name(drawing: Drawing, name: str) -> list[str]:
    (found,) = [texts for texts in boxes(drawing) if name in texts]
    return found


# --- what is in a picture -------------------------------------------------------------------------


def test_a_box_shows_operation_name_data_and_grad() -> None:
    drawing = sg.draw(line())
    assert by_name(drawing, "w") == ["w", "data", "2", "grad", "12"]
    assert by_name(drawing, "y") == ["y", "data", "5", "grad", "−4"]
    assert by_name(drawing, "loss") == ["**2", "loss", "data", "4", "grad", "1"]
    assert kinds(drawing) == {"leaf": 4, "result": 3, "root": 1, "arrow": 7}
    assert repr(drawing).startswith("Drawing(8 boxes, 7 arrows")
    root = sg.draw(Value(8.0) ** (1 / 3))
    assert by_name(root, "**0.3333")
    assert by_name(sg.draw(Value.apply("take", Value(1.0), Value(2.0), const=1)), "take 1")


@given(wild_programs())
def test_every_number_and_every_arrow_is_there(drawn: Program) -> None:
    root = run(drawn)[1][-1]
    root.backward()
    nodes = Graph(root).nodes
    drawing = sg.draw(root, fold=False)
    texts = [dict(zip(box[-4::2], box[-3::2])) for box in boxes(drawing)]
    expected = [(f"{v.data:.4g}", f"{v.grad:.4g}") for v in sorted(nodes, key=lambda v: v.number)]
    shown = [(text["data"].replace("−", "-"), text["grad"].replace("−", "-")) for text in texts]
    assert shown == expected
    assert drawing.arrows == kinds(drawing)["arrow"] == sum(len(v.operands) for v in nodes)


def test_an_operand_used_twice_has_two_arrows() -> None:
    x = Value(3.0, "x")
    assert kinds(sg.draw(x * x)) == {"leaf": 1, "root": 1, "arrow": 2}


def test_the_sign_of_a_gradient_is_a_colour() -> None:
    svg = sg.draw(line()).svg
    colours = look.THEMES["light"]
    assert f'fill="{colours["negative"]}">−4</text>' in svg
    assert f'fill="{colours["positive"]}">12</text>' in svg
    assert svg.count(f'stroke="{colours["negative"]}"') == 1  # from y
    assert colours["wrong"] not in svg
    assert colours["wrong"] in sg.draw(Value(0.0).log()).svg


def test_names_come_from_variables_and_networks() -> None:
    model = sg.nn.MLP(2, [2, 1])
    loss = sg.losses.mse(model([1.0, 2.0]), 1.0)
    named = sg.draw(loss, names={"loss": loss, "net": model})
    assert by_name(named, "net.layers[1].neurons[0].b")
    assert by_name(named, "loss")
    assert kinds(named)["parameter"] == 9
    assert kinds(sg.draw(loss))["parameter"] == 0


def test_numbers_are_written_as_asked() -> None:
    drawing = sg.draw(Value(-1 / 3), format=".2f")
    assert boxes(drawing) == [["data", "−0.33", "grad", "0.00"]]


def test_a_depth_shows_the_nearest_and_dashes_for_the_rest() -> None:
    loss = line()
    drawing = sg.draw(loss, 2)
    assert [box[-3] for box in boxes(drawing)] == ["5", "7", "2", "4"]
    assert drawing.svg.count('class="stub"') == 1
    assert sg.draw(loss, 0).svg.count('class="stub"') == 1
    assert 'class="stub"' not in sg.draw(loss, 4).svg
    assert sg.draw(loss, 4).svg == sg.draw(loss).svg


def test_numbers_that_are_out_of_date_are_marked() -> None:
    loss = line()
    w = Graph(loss).leaves[0]
    assert "stale" not in sg.draw(loss).svg
    w.data = 7.0
    stale = [box for box in boxes(sg.draw(loss)) if "stale" in box]
    assert stale == [["*", "stale", "6", "grad", "4"]]
    assert [box[2] for box in boxes(sg.draw(loss, fold=True)) if box[0] == "Σ"] == ["stale"]
    Graph(loss).forward()
    assert "stale" not in sg.draw(loss).svg


# --- folding --------------------------------------------------------------------------------------


def test_a_neuron_is_one_box() -> None:
    model = sg.nn.MLP(2, [4, 1])
    x = [Value(0.5, "x0"), Value(-1.5, "x1")]
    loss = sg.losses.mse(model(x), 1.0)
    loss.backward()
    drawing = sg.draw(loss, fold=True, names=model)
    assert kinds(drawing) == {"leaf": 3, "result": 10, "root": 1, "arrow": 19}
    first = model.layers[0].neurons[0]
    assert by_name(drawing, "layers[0].neurons[0]")[0] == "Σ"
    unnamed = sg.draw(loss, fold=True)
    assert Counter(box[1] for box in boxes(unnamed) if box[0] == "Σ") == {
        "2 products + 1": 4,
        "4 products + 1": 1,
    }
    total = (first.w[0] * x[0] + first.w[1] * x[1] + first.b).data
    assert f"{total:.4g}".replace("-", "−") in by_name(drawing, "layers[0].neurons[0]")


def test_what_has_a_name_or_two_uses_is_not_folded() -> None:
    a, b, c = (Value(n, name) for n, name in ((1.0, "a"), (2.0, "b"), (3.0, "c")))
    assert len(boxes(sg.draw(a * b + b * c + a, fold=True))) == 4
    product = a * b
    product.label = "product"
    assert by_name(sg.draw(product + b * c + a, fold=True), "product")
    shared = a * b
    assert len(boxes(sg.draw(shared + shared * c, fold=True))) == 5


def test_arrows_into_a_folded_sum_carry_what_their_numbers_receive() -> None:
    a, b, c = (Value(n, name) for n, name in ((2.0, "a"), (5.0, "b"), (7.0, "c")))
    out = a * b + c * a + a
    out.backward()
    notes = re.findall(r"<title>(a receives \S+)", sg.draw(out, fold=True).svg)
    assert sorted(notes) == ["a receives 1.0", "a receives 5.0", "a receives 7.0"]


def test_a_large_graph_is_folded_by_itself() -> None:
    model = sg.nn.MLP(2, [16, 16, 1])
    out = model([Value(1.0, "x"), Value(2.0, "y")])
    assert len(Graph(out)) > 800
    drawing = sg.draw(out, names=model)
    assert drawing.boxes == 2 + 33 + 32
    assert by_name(drawing, "layers[1].neurons[15]")


# --- places ---------------------------------------------------------------------------------------


def overlap(a: Rectangle, b: Rectangle, apart: float) -> bool:
    return (
        a.x < b.x + b.width + apart
        and b.x < a.x + a.width + apart
        and a.y < b.y + b.height + apart
        and b.y < a.y + a.height + apart
    )


def hits(a: tuple[float, float], b: tuple[float, float], box: Rectangle) -> bool:
    """Whether the rectangle around two points, which a bend between them stays in, meets a box."""
    low, high = (min(a[0], b[0]), min(a[1], b[1])), (max(a[0], b[0]), max(a[1], b[1]))
    around = Rectangle(*low, high[0] - low[0], high[1] - low[1])
    return overlap(around, box, -0.01)


def layout_problems(
    layout: Layout, arrows: Sequence[tuple[int, int]], apart: float = 10.0
) -> list[str]:
    """Boxes that overlap or stick out, and arrows that start, end or pass where they must not."""
    found = [
        f"boxes {j} and {k} overlap"
        for (j, a), (k, b) in combinations(enumerate(layout.boxes), 2)
        if overlap(a, b, apart)
    ]
    for k, box in enumerate(layout.boxes):
        inside = box.x >= -1e-6 and box.x + box.width <= layout.width + 1e-6
        if not (inside and box.y >= -1e-6 and box.y + box.height <= layout.height + 1e-6):
            found.append(f"box {k} sticks out")
    for k, ((source, target), way) in enumerate(zip(arrows, layout.ways)):
        first, last = layout.boxes[source], layout.boxes[target]
        ends = hits(way[0], way[0], grown(first)) and hits(way[-1], way[-1], grown(last))
        if not ends:
            found.append(f"arrow {k} does not join its boxes")
        for a, b in pairwise(way):
            others = (box for j, box in enumerate(layout.boxes) if j != source)
            if any(hits(a, b, box) for box in others):
                found.append(f"arrow {k} meets a box")
            if (b[1] if layout.down else b[0]) < (a[1] if layout.down else a[0]):
                found.append(f"arrow {k} goes back")
    tips = Counter(way[-1] for way in layout.ways)
    found += [f"two arrows end at {tip}" for tip, count in tips.items() if count > 1]
    return found


def grown(box: Rectangle) -> Rectangle:
    return Rectangle(box.x - 0.1, box.y - 0.1, box.width + 0.2, box.height + 0.2)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Shape], list[tuple[int, int]]]:
    """Boxes of any sizes, and arrows that lead from earlier ones to later ones."""
    count = draw(st.integers(1, 25))
    size = st.floats(20, 300)
    shapes = [
        Shape(draw(size), draw(st.floats(40, 70)), draw(st.booleans()), draw(st.booleans()))
        for _ in range(count)
    ]
    arrows = []
    for target in range(1, count):
        sources = draw(st.lists(st.integers(0, target - 1), max_size=4))
        arrows += [(source, target) for source in sources]
    return shapes, arrows


@given(graphs(), st.booleans())
def test_nothing_overlaps(graph: tuple[list[Shape], list[tuple[int, int]]], down: bool) -> None:
    layout = laid_out(*graph, down)
    assert layout_problems(layout, graph[1]) == []
    stubs = {k for k, shape in enumerate(graph[0]) if shape.stub}
    assert set(layout.stubs) == stubs
    assert all(hits(layout.stubs[k], layout.stubs[k], grown(layout.boxes[k])) for k in layout.stubs)


def test_large_random_graphs_have_no_overlaps() -> None:
    for seed in range(10):
        rng = random.Random(seed)
        shapes = [Shape(rng.uniform(80, 200), rng.choice((46.0, 63.0))) for _ in range(120)]
        arrows = [
            (rng.randrange(max(0, k - 40), k), k)
            for k in range(1, 120)
            for _ in range(rng.randrange(3))
        ]
        for down in (False, True):
            assert layout_problems(laid_out(shapes, arrows, down), arrows) == []


def test_planted_overlaps_are_caught() -> None:
    shapes, arrows = [Shape(80, 50) for _ in range(4)], [(0, 1), (0, 2), (1, 3), (2, 3)]
    good = laid_out(shapes, arrows, False)
    assert layout_problems(good, arrows) == []
    moved = list(good.boxes)
    moved[2] = Rectangle(moved[1].x, moved[1].y + 20, 80, 50)
    squeezed = Layout(good.width, good.height, tuple(moved), good.ways, {}, False)
    assert "boxes 1 and 2 overlap" in layout_problems(squeezed, arrows)
    narrow = Layout(good.width - 9, good.height, good.boxes, good.ways, {}, False)
    assert layout_problems(narrow, arrows) == ["box 3 sticks out"]
    swapped = Layout(good.width, good.height, good.boxes, good.ways[::-1], {}, False)
    assert any("join" in problem for problem in layout_problems(swapped, arrows))


def test_operands_arrive_in_their_order_where_that_matters() -> None:
    a, b = Value(1.0, "a"), Value(2.0, "b")
    for first, second in ((a, b), (b, a)):
        svg = ET.fromstring(sg.draw(first - second).svg)
        tips = {}
        for arrow in svg.iter(f"{SVG}g"):
            if arrow.get("class") == "arrow":
                head = arrow.findall(f"{SVG}path")[1].get("d") or ""
                y = float(head.split("L")[1].split()[1])
                tips[(arrow.findtext(f"{SVG}title") or "")[0]] = y
        assert tips[first.label] < tips[second.label]


def brute_crossings(columns: Sequence[Sequence[int]], ways: Sequence[Sequence[int]]) -> int:
    position = {item: k for column in columns for k, item in enumerate(column)}
    links = sorted({link for way in ways for link in pairwise(way)})
    column = {item: c for c, items in enumerate(columns) for item in items}
    return sum(
        column[a] == column[c] and (position[a] - position[c]) * (position[b] - position[d]) < 0
        for (a, b), (c, d) in combinations(links, 2)
    )


@given(graphs())
def test_ordering_keeps_the_items_and_never_adds_crossings(
    graph: tuple[list[Shape], list[tuple[int, int]]],
) -> None:
    shapes, arrows = graph
    layers = layered(len(shapes), arrows)
    middle = [0.5] * len(arrows)
    order = ordered(layers, middle)
    assert [sorted(column) for column in order] == [sorted(column) for column in layers.columns]
    _, after = ordering._links(layers, middle)
    first = ordering._first_order(layers)
    assert ordering._crossings(order, after) == brute_crossings(order, layers.ways)
    assert ordering._crossings(first, after) == brute_crossings(first, layers.ways)
    assert ordering._crossings(order, after) <= ordering._crossings(first, after)


def test_a_tree_and_a_ladder_have_no_crossings() -> None:
    tree = [(k, (k + 15) // 2 + 8) for k in range(0)] or [
        (0, 4),
        (3, 4),
        (1, 5),
        (2, 5),
        (4, 6),
        (5, 6),
    ]
    for arrows, count in ((tree, 7), ([(0, 2), (1, 3), (0, 3), (2, 4), (3, 4)], 5)):
        layers = layered(count, arrows)
        assert brute_crossings(ordered(layers, [0.5] * len(arrows)), layers.ways) == 0


@given(
    st.lists(
        st.tuples(st.floats(-100, 100), st.floats(0.1, 10), st.floats(0, 30)),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 2**32),
)
def test_spreading_is_the_nearest_that_keeps_the_gaps(
    items: list[tuple[float, float, float]], seed: int
) -> None:
    rng = random.Random(seed)
    wishes, weights, gaps = map(list, zip(*items))
    places = spread(wishes, weights, gaps)
    assert all(b - a >= gap - 1e-9 for (a, b), gap in zip(pairwise(places), gaps[1:]))

    def cost(candidate: Sequence[float]) -> float:
        return sum(w * (x - wish) ** 2 for w, x, wish in zip(weights, candidate, wishes))

    for _ in range(20):
        other = [places[0] + rng.gauss(0, 3)]
        for gap in gaps[1:]:
            other.append(other[-1] + gap + abs(rng.gauss(0, 10)) * rng.choice((0, 1)))
        mixed = [p + 0.1 * (o - p) for p, o in zip(places, other)]
        for candidate in (other, mixed):
            assert cost(places) <= cost(candidate) + 1e-6


# --- the file -------------------------------------------------------------------------------------


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_label_gives_well_formed_xml(label: str, other: str) -> None:
    out = Value(1.0, label) * Value(2.0, other)
    root = ET.fromstring(sg.draw(out).svg.encode())
    assert len(list(root.iter(f"{SVG}g"))) == 1 + 3 + 2


def test_labels_are_shown_as_they_are_or_shortened() -> None:
    assert by_name(sg.draw(Value(1.0, '<&">')), '<&">')
    assert by_name(sg.draw(Value(1.0, "two\nlines\t")), "two lines ")
    long = sg.draw(Value(1.0, "x" * 100))
    assert by_name(long, "x" * 31 + "…")
    assert "x" * 100 in long.svg  # what it says when pointed at
    assert look.cells("日本") == 4
    assert look.cells("e\N{COMBINING ACUTE ACCENT}") == 1


def test_numbers_of_any_size_fit_their_boxes() -> None:
    for x in (math.nan, -math.inf, 5e-324, -1.7976931348623157e308, -0.0, 1e16, 123456789.0):
        for spec in (".4g", ".17g", ".3f"):
            drawing = sg.draw(Value(x), format=spec)
            (texts,) = boxes(drawing)
            assert look.width("data" + texts[-3]) < drawing.width


def test_the_same_program_gives_the_same_bytes_in_every_process() -> None:
    script = """
import random, sys
sys.path[:0] = sys.argv[1:]
import scalargrad as sg
from generated import program, run
for seed in range(30):
    root = run(program(random.Random(seed), 30))[1][-1]
    root.backward()
    print(sg.draw(root).svg)
"""
    here = str(Path(__file__).parent)
    first = run_python("-c", script, here)
    junk = [Value(k) for k in range(1000)]
    again = []
    for seed in range(30):
        root = run(program(random.Random(seed), 30))[1][-1]
        root.backward()
        again.append(sg.draw(root).svg)
    assert first.strip() == "\n".join(again).strip()
    assert len(junk) == 1000


def test_pictures_side_by_side_share_nothing() -> None:
    svg = sg.draw(line()).svg
    assert not re.search(r"\sid=|url\(|<style|<script", svg)


def test_a_notebook_shows_the_svg() -> None:
    drawing = sg.draw(line())
    assert drawing._repr_svg_() == drawing.svg == str(drawing)
    assert drawing.svg.startswith("<svg ")


def test_directions_and_themes() -> None:
    loss = line()
    right, down = sg.draw(loss, direction="right"), sg.draw(loss, direction="down")
    assert right.width > right.height
    assert down.height > down.width
    assert kinds(right) == kinds(down)
    dark = sg.draw(loss, theme="dark").svg
    assert look.THEMES["dark"]["paper"] in dark
    assert set(re.findall("#[0-9a-f]{6}", dark)) <= set(look.THEMES["dark"].values())


def test_a_long_chain_is_drawn_downwards() -> None:
    x = Value(1.0)
    for _ in range(50):
        x = x.sin()
    assert sg.draw(x).height > sg.draw(x).width
    assert sg.draw(x, direction="right").width > 5000


@pytest.mark.parametrize("theme", look.THEMES)
def test_text_stands_out_from_its_box(theme: str) -> None:
    """Contrast as WCAG 2 defines it: 4.5 for text, 3 for lines."""
    colours = look.THEMES[theme]
    for box in ("leaf", "parameter", "result", "root"):
        for text in ("ink", "muted", "positive", "negative", "wrong"):
            assert contrast(colours[text], colours[box]) >= 4.5, (theme, text, box)
        assert contrast(colours[f"{box} edge"], colours["paper"]) >= 2.8, (theme, box)
    for arrow in ("positive", "negative", "wrong"):
        assert contrast(colours[arrow], colours["paper"]) >= 4.5, (theme, arrow)


def test_saving(tmp_path: Path) -> None:
    drawing = sg.draw(line())
    path = drawing.save(tmp_path / "new" / "loss.svg")
    assert path.read_text(encoding="utf-8") == drawing.svg
    assert os.listdir(path.parent) == ["loss.svg"]
    with pytest.raises(ValueError, match=r"path: expected a name that ends in \.svg, got .*x\.png"):
        drawing.save(tmp_path / "x.png")
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(OSError, match="the picture could not be written"):
        drawing.save(tmp_path / "folder.svg")


# --- errors ---------------------------------------------------------------------------------------


def test_a_graph_too_large_to_read_is_refused_with_a_depth_that_is_not() -> None:
    x = Value(1.0)
    for _ in range(1000):
        x = x.sin()
    with pytest.raises(ValueError, match=r"needs 1,001 boxes and 1,000 arrows.*depth=199 draws the 200") as error:  # fmt: skip
        sg.draw(x)
    depth = int(re.search(r"depth=(\d+)", str(error.value))[1])  # type: ignore[index]
    assert sg.draw(x, depth).boxes == 200
    with pytest.raises(ValueError, match="needs 201 boxes"):
        sg.draw(x, depth + 1)
    assert sg.draw(x, limit=1001).boxes == 1001


def test_graphs_of_any_size_are_refused_at_once() -> None:
    x = Value(1.0)
    for _ in range(100_000):
        x = x + 1.0
    with pytest.raises(ValueError, match="has more than 10,000 numbers"):
        sg.draw(x)
    with pytest.raises(ValueError, match="has more than 200 numbers"):
        sg.draw(x, fold=False)
    assert sg.draw(x, 3).boxes == 7


def test_too_many_arrows_are_refused() -> None:
    model = sg.nn.MLP(40, [40])
    out = sg.total(model([Value(1.0) for _ in range(40)]))
    with pytest.raises(ValueError, match=r"1,600 arrows.*depth=\d+ draws"):
        sg.draw(out)


def test_arguments_that_mean_nothing_are_errors() -> None:
    x = Value(1.0)
    for wrong, message in (
        ({"depth": -1}, "depth: expected at least 0, got -1"),
        ({"limit": 0}, "limit: expected at least 1, got 0"),
        ({"direction": "left"}, "direction: expected None or 'right' or 'down', got 'left'"),
        ({"theme": "blue"}, "theme: expected 'light' or 'dark', got 'blue'"),
        ({"format": ".4d"}, r"format: expected a format of floats such as '\.4g', got '\.4d'"),
    ):
        with pytest.raises(ValueError, match=message):
            sg.draw(x, **wrong)  # type: ignore[arg-type]
    for wrong, message in (
        ({"depth": 1.5}, "depth: expected an int, got float 1.5"),
        ({"limit": True}, "limit: expected an int, got bool True"),
        ({"format": 4}, "format: expected a str"),
        ({"names": 3}, "names: expected a dictionary"),
    ):
        with pytest.raises(TypeError, match=message):
            sg.draw(x, **wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"value: expected a Value, got float 3\.0"):
        sg.draw(3.0)  # type: ignore[arg-type]


def test_a_number_being_traced_cannot_be_drawn() -> None:
    def f(x: Value) -> Value:
        y = x * 2.0
        sg.draw(y)
        return y

    with pytest.raises(TraceError, match=r"draw\(\)"):
        sg.compile(f)(1.0)
