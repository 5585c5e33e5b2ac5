"""`sg.explore`: the page has every number, its groups make sense, and its arithmetic is the engine's."""

from __future__ import annotations

import base64
import json
import math
import os
import random
import re
import shutil
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import scalargrad as sg
from checking import contrast
from generated import program, run
from processes import run_python
from scalargrad import Graph, TraceError, Value, ops, views
from scalargrad.nn import Module
from scalargrad.views.drawing import look
from scalargrad.views.page import explorer
from scalargrad.views.page.modules import paths_of, stem_of
from scalargrad.views.page.repeats import shortest
from scalargrad.views.page.structure import FEW, PARTS
from strategies import Program, wild_programs

pytestmark = pytest.mark.pure

PACKAGE = Path(explorer.__file__).parent
NODE = shutil.which("node")


def line() -> Value:
    """The squared error of a line at a point."""
    w, b, x, y = (Value(n, label) for n, label in ((2, "w"), (1, "b"), (3, "x"), (5, "y")))
    loss = (w * x + b - y) ** 2
    loss.label = "loss"
    loss.backward()
    return loss


class Read:
    """What a page's data says, as the page's own program reads it."""

    def __init__(self, html: str) -> None:
        (text,) = re.findall(
            r'<script id="data" type="application/json">(.*?)</script>', html, re.S
        )
        self.record = json.loads(text)
        self.count, self.leaves, self.root = (self.record[k] for k in ("count", "leaves", "root"))
        self.op = self.array("op", "u1")
        self.first, self.operands = self.array("first", "<i4"), self.array("operands", "<i4")
        self.partials = self.array("partials", "<f8")
        self.data, self.grad = self.array("data", "<f8"), self.array("grad", "<f8")
        self.places, self.parents = self.array("places", "<i4"), self.array("parents", "<i4")
        self.kinds, self.labels = self.record["kinds"], self.record["labels"]
        self.names = dict(zip(self.array("namesAt", "<i4").tolist(), self.record["names"]))
        self.plain = {row["code"] for row in self.record["table"] if row["plain"]}

    def array(self, name: str, kind: str) -> np.ndarray[Any, Any]:
        return np.frombuffer(base64.b64decode(self.record[name]), dtype=kind)

    def after(self, steps: int) -> list[float]:
        """The gradients after so many steps, as `backward.js` computes them."""
        grad = [0.0] * self.count
        grad[self.root] = 1.0
        operands, partials = self.operands.tolist(), self.partials.tolist()
        for v in range(self.count - 1, max(self.leaves, self.count - steps) - 1, -1):
            g = grad[v]
            for e in range(self.first[v], self.first[v + 1]):
                if g != 0.0 and (partials[e] != 0.0 or self.op[v] in self.plain):
                    grad[operands[e]] += partials[e] * g
        return grad

    def path(self, g: int) -> tuple[str, ...]:
        """The labels of the groups around and with g."""
        labels = []
        while g > 0:
            labels.append(self.labels[g])
            g = int(self.parents[g])
        return tuple(reversed(labels))

    def children(self) -> list[list[int]]:
        """The items in each group: numbers, and groups as ~g."""
        items: list[list[int]] = [[] for _ in self.kinds]
        for i, g in enumerate(self.places.tolist()):
            items[g].append(i)
        for g, parent in enumerate(self.parents.tolist()):
            if g:
                items[parent].append(~g)
        return items

    def group(self, *path: str) -> int:
        (found,) = [g for g in range(len(self.kinds)) if self.path(g) == path]
        return found


def read(value: Value, names: Mapping[str, Any] | Module | None = None) -> Read:
    return Read(sg.explore(value, names=names).html)


def bits(numbers: Iterable[float]) -> bytes:
    """The bits of numbers; every nan is one."""
    return np.array([x if x == x else math.nan for x in numbers]).tobytes()


# --- the numbers ----------------------------------------------------------------------------------


@given(wild_programs())
def test_the_page_has_every_number_with_all_its_bits(drawn: Program) -> None:
    root = run(drawn)[1][-1]
    root.backward()
    page, graph = read(root), Graph(root)
    assert page.data.tobytes() == np.array([v.data for v in graph.nodes]).tobytes()
    assert page.grad.tobytes() == np.array([v.grad for v in graph.nodes]).tobytes()
    for node in graph:
        edges = slice(page.first[node.number], page.first[node.number + 1])
        assert tuple(page.operands[edges]) == node.operands
        assert page.op[node.number] == (ops.BY_NAME[node.op].code if node.op else 0)
        assert bits(page.partials[edges]) == bits(node.value._local_grads)
    assert graph.nodes[page.root] is root


@given(wild_programs())
def test_the_last_step_has_the_gradients_of_one_backward(drawn: Program) -> None:
    root = run(drawn)[1][-1]
    page = read(root)
    root.backward()
    nodes = Graph(root).nodes
    assert bits(page.after(page.count)) == bits(v.grad for v in nodes)


def test_each_step_is_a_backward_by_hand() -> None:
    for seed in range(300):
        root = run(program(random.Random(seed), 20))[1][-1]
        page, nodes = read(root), Graph(root).nodes
        root.grad += 1.0
        for step, v in enumerate(reversed(nodes[page.leaves :]), 1):
            v._backward()
            assert bits(page.after(step)) == bits(x.grad for x in nodes)


def test_planted_wrong_arithmetic_is_noticed() -> None:
    x = Value(0.0)
    root = sg.maximum(x, -1.0) * math.inf + x * 0.0
    page = read(root)
    root.backward()
    expected = bits(v.grad for v in Graph(root).nodes)
    assert bits(page.after(page.count)) == expected
    page.plain = set(range(64))  # a derivative of 0 multiplied with inf, where the engine does not
    assert bits(page.after(page.count)) != expected


def test_gradients_are_those_the_values_hold() -> None:
    loss = line()
    loss.backward()
    page = read(loss)
    assert page.grad[:4].tolist() == [24.0, 8.0, 16.0, -8.0]
    assert page.after(4)[:4] == [12.0, 4.0, 8.0, -4.0]
    assert [page.names[k] for k in range(4)] == ["w", "b", "x", "y"]


def test_numbers_that_are_out_of_date_are_marked() -> None:
    loss = line()
    assert read(loss).array("stale", "<i4").tolist() == []
    Graph(loss).leaves[0].data = 7.0
    assert read(loss).array("stale", "<i4").tolist() == [4]


def test_lines_are_there_where_they_are_recorded() -> None:
    with sg.detect_anomaly():
        page = read(Value(2.0) * 3.0)
    assert page.record["lines"][0].startswith("test_explore.py:")
    assert read(Value(2.0) * 3.0).record["lines"] == []


def test_constants_belong_to_their_operations() -> None:
    page = read((Value(2.0) ** 3.0).leaky_relu(0.25))
    at, numbers = page.array("constantAt", "<i4").tolist(), page.array("constants", "<f8").tolist()
    assert dict(zip(at, numbers)) == {1: 3.0, 2: 0.25}


# --- the groups -----------------------------------------------------------------------------------


def group_problems(page: Read, most: int | None = None) -> list[str]:
    """Numbers or groups that are nowhere, groups in a circle, empty ones, and crowded ones."""
    found = []
    if not all(0 <= g < len(page.kinds) for g in page.places):
        found.append("a number is in no group")
    for g in range(1, len(page.kinds)):
        seen, h = set(), g
        while h > 0 and h not in seen:
            seen.add(h)
            h = int(page.parents[h])
        if h != 0:
            found.append(f"group {g} is not inside the outermost")
    for g, items in enumerate(page.children()):
        if not items:
            found.append(f"group {g} is empty")
        if most and len(items) > most and page.kinds[g] not in ("repeat", "leaves", "module"):
            found.append(f"group {g} has {len(items)} items")
    return found


def circles(page: Read) -> list[int]:
    """Groups in which arrows lead in a circle."""
    children = page.children()
    inside: dict[int, dict[int, set[int]]] = {g: {} for g in range(len(children))}

    def around(v: int) -> list[int]:
        path, g = [v], int(page.places[v])
        while g >= 0:
            path += [~g]
            g = int(page.parents[g])
        return path[::-1]

    for v in range(page.leaves, page.count):
        own = around(v)
        for x in page.operands[page.first[v] : page.first[v + 1]].tolist():
            other = around(x)
            k = next(k for k, (a, b) in enumerate(zip(own, other)) if a != b)
            inside[~own[k - 1]].setdefault(own[k], set()).add(other[k])
    found = []
    for g, arrows in inside.items():
        waiting = {item: set(sources) for item, sources in arrows.items()}
        while True:
            free = [item for item, sources in waiting.items() if not sources & waiting.keys()]
            if not free:
                break
            for item in free:
                del waiting[item]
        if waiting:
            found.append(g)
    return found


@given(st.integers(0, 2**32), st.integers(1, 900))
def test_every_number_is_in_one_group_and_groups_are_in_groups(seed: int, size: int) -> None:
    page = read(run(program(random.Random(seed), size))[1][-1])
    assert group_problems(page, FEW) == []
    assert circles(page) == []


def test_planted_problems_of_groups_are_noticed() -> None:
    page = read(sg.total([Value(k) * Value(k) - 1.0 for k in range(90)]))
    assert group_problems(page, FEW) == []
    page.parents = page.parents.copy()
    page.parents[1] = 1
    assert "group 1 is not inside the outermost" in group_problems(page)
    page = read(line())
    page.places = np.array([1, 0, 0, 0, 1, 0, 0, 0])
    page.kinds, page.parents = ["all", "part"], np.array([-1, 0])
    assert circles(page) == []
    page.places = np.array([1, 0, 0, 0, 0, 1, 0, 0])  # w and (w * x) + b, but not w * x
    assert circles(page) == [0]


def mlp(points: int) -> tuple[Value, sg.nn.MLP]:
    model = sg.nn.MLP(2, [16, 16, 1], rng=random.Random(1))
    rng = random.Random(2)
    xs = [([rng.gauss(0, 1), rng.gauss(0, 1)], rng.choice((-1, 1))) for _ in range(points)]
    loss = sg.mean([sg.losses.hinge(model(x), y) for x, y in xs])
    loss.backward()
    return loss, model


def test_a_network_is_opened_layer_by_layer() -> None:
    loss, model = mlp(1)
    page = read(loss, {"model": model})
    assert group_problems(page, FEW) == []
    top = [page.labels[~item] for item in page.children()[0] if item < 0]
    assert top == ["model"]
    layers = [page.labels[~item] for item in page.children()[page.group("model")]]
    assert layers == ["layers[0]", "layers[1]", "layers[2]"]
    neuron = page.group("model", "layers[0]", "neurons[3]")
    assert page.kinds[neuron] == "unit"
    inside = Counter(page.op[i] for i in page.children()[neuron])
    assert inside == {0: 3, ops.MUL: 2, ops.ADD: 2, ops.RELU: 1}
    outside = [page.op[i] for i in page.children()[0] if i >= page.leaves]
    assert outside == [ops.MUL, ops.SUB, ops.RELU]  # the loss


def test_names_of_the_network_alone_will_do() -> None:
    loss, model = mlp(1)
    page = read(loss, model)
    assert page.kinds[page.group("layers[2]", "neurons[0]")] == "unit"
    assert group_problems(page, FEW) == []


def test_a_batch_is_a_repeat_in_each_neuron_and_in_the_loss() -> None:
    loss, model = mlp(50)
    page = read(loss, {"model": model})
    neuron = page.group("model", "layers[1]", "neurons[7]")
    (calls,) = [~i for i in page.children()[neuron] if i < 0 and page.kinds[~i] == "repeat"]
    assert page.labels[calls] == "50 × (Σ, ReLU)"
    assert len(page.children()[calls]) == 50
    top = {page.labels[~item] for item in page.children()[0] if item < 0}
    assert top == {"model", "50 × (*, -, ReLU)", "50 terms", "100 leaves"}
    assert group_problems(page, FEW) == []
    assert circles(page) == []


def test_the_parts_of_a_transformer() -> None:
    model = sg.nn.GPT(5, 4, width=4, heads=2, layers=2, rng=random.Random(1))
    loss = sg.losses.cross_entropy(model([0, 1, 2]), [1, 2, 3])
    page = read(loss, {"model": model})
    assert group_problems(page) == []
    homes: dict[tuple[str, ...], Counter[int]] = {}
    for v in range(page.leaves, page.count):
        home = int(page.places[v])
        while page.kinds[home] not in ("all", "module", "unit"):
            home = int(page.parents[home])
        homes.setdefault(page.path(home), Counter())[int(page.op[v])] += 1
    names = {row["code"]: row["name"] for row in page.record["table"]}

    def held(*path: str) -> set[str]:
        return {names[code] for code in homes.get(path, ())}

    block = ("model", "blocks[0]")
    # Scores and their softmax belong to the attention; what mixes a block's input and output, and
    # the norm in it, to the block; an activation to the unit; the loss to nothing.
    assert {"maximum", "exp", "div"} <= held(*block, "attention")
    assert held(*block) == {"add", "mul", "div", "pow"}
    assert held(*block, "expand", "expand[3]") == {"mul", "add", "relu"}
    assert held(*block, "attention", "query", "query[0]") == {"mul", "add"}
    assert held("model", "head", "head[0]") == {"mul", "add"}
    assert held("model", "tokens", "tokens[1]") == {"take"}
    assert {"log", "neg", "take", "exp"} <= held()
    assert "log" not in held("model")


def test_the_two_sums_of_a_block_are_told_apart() -> None:
    model = sg.nn.GPT(5, 8, width=8, heads=2, layers=2, rng=random.Random(1))
    loss = sg.losses.cross_entropy(model([0, 1, 2, 3, 4, 0]), [1, 2, 3, 4, 0, 1])
    page = read(loss, {"model": model})
    for block in ("blocks[0]", "blocks[1]"):
        items = page.children()[page.group("model", block)]
        repeats = [page.labels[~i] for i in items if i < 0 and page.kinds[~i] == "repeat"]
        assert len(repeats) == 2
        assert all(label.startswith("6 × (+") for label in repeats)
    assert circles(page) == []
    assert group_problems(page, FEW) == []


def test_parts_are_read_from_names() -> None:
    names = [
        "model.layers[0].neurons[3].w[1]",
        "head.w[3][5]",
        "head.b[3]",
        "net.w1[2][0]",
        "net.w2[0][1]",
        "net.b1[2]",
        "a['x.y[0]'].w[0]",
        "w",
        "gain[3]",
    ]
    assert paths_of(names) == [
        ("model", "layers[0]", "neurons[3]"),
        ("head", "head[3]"),
        ("head", "head[3]"),
        ("net", "w1", "w1[2]"),
        ("net", "w2", "w2[0]"),
        ("net",),
        ("a['x.y[0]']",),
        (),
        (),
    ]
    assert [stem_of(name) for name in ("xs[3][1]", "x", "", "a['k'][2]")] == [
        "xs",
        "x",
        "",
        "a['k']",
    ]


def test_a_long_loop_without_names_opens_as_a_handful_of_boxes() -> None:
    w, u, b, h = Value(0.5, "w"), Value(-0.3, "u"), Value(0.1, "b"), Value(0.0, "h")
    for t in range(500):
        h = (w * h + u * (0.1 * t) + b).tanh()
    page = read(h)
    assert len(page.children()[0]) < 10
    assert "499 × (tanh, Σ)" in page.labels
    assert group_problems(page, FEW) == []
    assert circles(page) == []


def test_nested_loops_are_found() -> None:
    x = Value(0.3)
    for _ in range(30):
        for _ in range(20):
            x = x.sin().exp()
        x = x.log()
    page = read(x)
    turns = Counter(kind for kind in page.kinds if kind == "turn")
    assert turns["turn"] >= 30
    assert any(re.fullmatch(r"(29|30) × \(.*20 × \(sin, exp\).*\)", label) for label in page.labels)
    assert group_problems(page, FEW) == []


def test_an_irregular_graph_is_cut_into_parts() -> None:
    rng = random.Random(3)
    values = [Value(rng.gauss(0, 1)) for _ in range(40)]
    operations = (
        lambda a, b: a.tanh(),
        lambda a, b: a.sin(),
        lambda a, b: a - b,
        lambda a, b: a.exp() / 9,
        sg.maximum,
    )
    for _ in range(20_000):
        a, b = rng.sample(values[-60:], 2)
        values.append(rng.choice(operations)(a, b))
    page = read(sg.total(values[-60:]))
    assert len(page.children()[0]) <= PARTS
    assert group_problems(page, FEW) == []
    assert circles(page) == []


def test_sums_are_folded_with_what_only_they_use() -> None:
    xs = [Value(k) for k in range(100)]
    named = xs[0] * xs[1]
    named.label = "kept"
    out = sg.dot(xs, [Value(1.0) for _ in xs]) + named
    page = read(out.tanh())
    (label,) = [label for label in page.labels if "products" in label]
    assert label == "100 products + 1"
    (kept,) = [k for k, name in page.names.items() if name == "kept"]
    assert page.places[kept] == 0


@given(st.lists(st.integers(0, 3), max_size=60))
def test_repeats_repeat(items: list[int]) -> None:
    end = 0
    for repeat in shortest(np.array(items)):
        assert repeat.start >= end
        turn = items[repeat.start : repeat.start + repeat.period]
        assert items[repeat.start : repeat.end] == turn * repeat.turns
        assert repeat.turns >= 2
        end = repeat.end


def test_the_shortest_repeats_are_found_first() -> None:
    assert shortest(np.array([9, *([1] * 6), 8, *([1] * 7)])) == [(1, 1, 6), (8, 1, 7)]
    assert shortest(np.array([1, 2] * 4 + [3] + [1, 2] * 5)) == [(0, 2, 4), (9, 2, 5)]
    assert shortest(np.array([1, 2, 3, 4, 5, 6, 7, 8] * 2)) == [(0, 8, 2)]
    assert shortest(np.array([1, 2, 3])) == []
    assert shortest(np.array([], dtype=np.int64)) == []


# --- the file -------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """The elements of a page, and the text of its title."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.title = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "title" and not self.title:
            self.title = data


HOSTILE = ("</script><script>alert(1)</script>", "<!--", "\"&'<b>", "日本 \ud800", "a\u2028b\x00")


@pytest.mark.parametrize("label", HOSTILE)
def test_labels_are_text_whatever_is_in_them(label: str) -> None:
    out = Value(1.0, label) * Value(2.0, "x")
    out.label = label
    page = sg.explore(out)
    assert label in Read(page.html).record["names"]
    (data,) = re.findall(r'id="data" type="application/json">(.*)', page.html)
    assert not set("<>&") & set(data.removesuffix("</script>"))
    tags = Counter(tag for tag, _ in Elements(page.html).found)
    assert tags["script"] == 2
    assert tags["b"] == 0
    assert tags == Counter(tag for tag, _ in Elements(sg.explore(line()).html).found)
    page.html.encode()


def test_the_page_is_titled_by_the_value() -> None:
    assert Elements(sg.explore(line()).html).title == "The graph of loss"
    assert Elements(sg.explore(Value(1.0)).html).title == "The graph of a Value"


def test_nothing_is_loaded() -> None:
    html = sg.explore(line()).html
    assert set(re.findall(r"https?://[^\s\"'<>]*", html)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(
        r"<link|<img|@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|import\(", html
    )
    assert not any(
        "src" in attributes or "href" in attributes for _, attributes in Elements(html).found
    )


def test_a_notebook_shows_the_page_in_a_frame_of_its_own() -> None:
    page = sg.explore(line())
    ((tag, attributes),) = Elements(page._repr_html_()).found
    assert tag == "iframe"
    assert attributes["srcdoc"] == page.html
    assert attributes["sandbox"] == "allow-scripts"
    assert repr(page) == (
        "Page(8 numbers in 1 group: shown in a notebook, or save('graph.html') and open that in a "
        "browser)"
    )


def test_themes() -> None:
    for theme, expected in ((None, ""), ("light", "light"), ("dark", "dark")):
        html = sg.explore(line(), theme=theme).html
        assert Elements(html).found[0] == ("html", {"lang": "en", "data-theme": expected})
        assert all(colour in html for colour in look.THEMES["dark"].values())


@pytest.mark.parametrize("theme", look.THEMES)
def test_text_stands_out(theme: str) -> None:
    """Contrast as WCAG 2 defines it."""
    colours = look.THEMES[theme]
    for text in ("ink", "muted", "root edge", "positive", "negative", "wrong"):
        for ground in ("paper", "result"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def test_the_same_program_gives_the_same_bytes_in_every_process() -> None:
    script = """
import hashlib, random, sys
sys.path[:0] = sys.argv[1:]
import scalargrad as sg
from generated import program, run
for seed in range(20):
    root = run(program(random.Random(seed), 300))[1][-1]
    root.backward()
    print(hashlib.sha256(sg.explore(root).html.encode()).hexdigest())
model = sg.nn.MLP(3, [4, 2], rng=random.Random(1))
loss = sg.losses.mse(model([1.0, 2.0, 3.0]), [0.0, 1.0])
print(hashlib.sha256(sg.explore(loss, names={"model": model}).html.encode()).hexdigest())
"""
    here = str(Path(__file__).parent)
    first = run_python("-c", script, here, PYTHONHASHSEED="1")
    assert len(set(first.split())) == 21
    assert run_python("-c", script, here, PYTHONHASHSEED="2") == first


def test_saving(tmp_path: Path) -> None:
    page = sg.explore(line())
    path = page.save(tmp_path / "new" / "graph.html")
    assert path.read_text(encoding="utf-8") == page.html
    assert os.listdir(path.parent) == ["graph.html"]
    with pytest.raises(
        ValueError, match=r"path: expected a name that ends in \.html, got .*x\.svg"
    ):
        page.save(tmp_path / "x.svg")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(OSError, match="the page could not be written"):
        page.save(tmp_path / "folder.html")


def test_a_page_takes_some_seventy_bytes_a_number() -> None:
    loss, model = mlp(30)
    page = sg.explore(loss, names={"model": model})
    assert page.nodes > 15_000
    assert len(page.html) < 100_000 + 90 * page.nodes


def test_wheels_have_the_files_of_the_page() -> None:
    root = Path(__file__).parents[1]
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    data = settings["tool"]["setuptools"]["package-data"]
    patterns = [*data["*"], *data.get("scalargrad.views.page", [])]
    files = [p.name for p in PACKAGE.iterdir() if p.is_file() and p.suffix != ".py"]
    assert {"page.html", "page.css", "page.js"} <= set(files)
    assert [name for name in files if not any(fnmatch(name, p) for p in patterns)] == []
    assert {f"{name}.js" for name in explorer.SCRIPTS} == {n for n in files if n.endswith(".js")}


# --- errors ---------------------------------------------------------------------------------------


def test_arguments_that_mean_nothing_are_errors() -> None:
    x = Value(1.0)
    for wrong, message in (
        ({"limit": 0}, "limit: expected at least 1, got 0"),
        ({"theme": "blue"}, "theme: expected None or 'light' or 'dark', got 'blue'"),
    ):
        with pytest.raises(ValueError, match=message):
            sg.explore(x, **wrong)  # type: ignore[arg-type]
    for wrong, message in (
        ({"limit": 1.5}, "limit: expected an int, got float 1.5"),
        ({"names": 3}, "names: expected a dictionary"),
    ):
        with pytest.raises(TypeError, match=message):
            sg.explore(x, **wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"value: expected a Value, got float 3\.0"):
        sg.explore(3.0)  # type: ignore[arg-type]


def test_a_graph_too_large_is_refused() -> None:
    x = Value(1.0)
    for _ in range(100):
        x = x.sin()
    assert sg.explore(x, limit=101).nodes == 101
    with pytest.raises(
        ValueError, match=r"has 101 numbers, more than a page.*limit=100\).*explore one"
    ):
        sg.explore(x, limit=100)
    candidates = [Value(k) for k in range(100)]
    taken = sg.total([Value.apply("take", *candidates, const=3) for _ in range(40)])
    with pytest.raises(ValueError, match=r"has 4,078 operands, more than a page"):
        sg.explore(taken, limit=179)


def test_a_number_being_traced_cannot_be_explored() -> None:
    def f(x: Value) -> Value:
        y = x * 2.0
        sg.explore(y)
        return y

    with pytest.raises(TraceError, match=r"explore\(\)"):
        sg.compile(f)(1.0)


def test_the_function_and_the_package_have_names_of_their_own() -> None:
    assert sg.explore is views.explore
    assert sg.views.Page is views.Page


# --- the page's own program -----------------------------------------------------------------------

PROGRAM = """
const fs = require("fs");
const vm = require("vm");
const [, , scripts, ...pages] = process.argv;
const ask = `
const graph = readGraph(record);
const show = new Show(graph);
const same = (a, b) => a === b || (a !== a && b !== b);
const steps = stepsOf(graph);
const answer = { last: Buffer.from(gradientsAfter(graph, steps).buffer).toString("base64") };
const problems = [];

// Open one box after the other, as far as the page lets one, and lay everything out.
const check = (g) => {
  const { boxes, arrows } = show.boxesIn(g);
  const sizes = boxes.map((_, k) => ({ width: 60 + (k % 3) * 20, height: 40 + (k % 2) * 17 }));
  const layout = laidOut(sizes, arrows);
  boxes.forEach((_, k) => {
    const a = { ...layout.boxes[k], ...sizes[k] };
    if (!(a.x >= -0.01 && a.y >= -0.01 && a.x + a.width <= layout.width + 0.01 && a.y + a.height <= layout.height + 0.01)) problems.push("out " + g);
    for (let j = 0; j < k; j++) {
      const b = { ...layout.boxes[j], ...sizes[j] };
      if (a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height) problems.push("overlap " + g);
    }
  });
  const edges = arrows.flatMap((arrow) => arrow.edges);
  if (new Set(edges).size > edges.length) problems.push("edges " + g);
  if (boxes.length > SLICE + 2 * SLICE * SEPARATE) problems.push("crowd " + g);
};
for (let g = 0; g < Math.min(graph.kinds.length, 150); g++) check(g);
let random = 1;
for (let k = 0; k < 60; k++) {
  random = (random * 48271) % 2147483647;
  const v = random % graph.count;
  show.reveal(v);
  if (show.shownAs(v) !== v) problems.push("not revealed " + v);
  if (show.countBoxes() > MOST) problems.push("too many boxes");
  formulaOf(graph, v);
  fullTitle(graph, v);
  for (let e = graph.first[v]; e < graph.first[v + 1]; e++) slopeOf(graph, e);
}
answer.problems = problems.slice(0, 5);
answer.numbers = Array.from(graph.order).sort((a, b) => a - b).every((v, k) => v === k);
answer.formula = formulaOf(graph, graph.root);
answer;
`;
for (const page of pages) {
  const html = fs.readFileSync(page, "utf8");
  const record = JSON.parse(/<script id="data" type="application\\/json">([^]*?)<\\/script>/.exec(html)[1]);
  const context = vm.createContext({ record, atob, Buffer, console });
  console.log(JSON.stringify(vm.runInContext(fs.readFileSync(scripts, "utf8") + ask, context)));
}
"""


def answers(tmp_path: Path, pages: list[sg.views.Page]) -> Iterator[dict[str, Any]]:
    """What the page's program says of some pages, run by node."""
    scripts = tmp_path / "scripts.js"
    scripts.write_text(
        "\n".join((PACKAGE / f"{n}.js").read_text("utf-8") for n in explorer.SCRIPTS)
    )
    (tmp_path / "program.js").write_text(PROGRAM, encoding="utf-8")
    paths = [page.save(tmp_path / f"{k}.html") for k, page in enumerate(pages)]
    done = subprocess.run(
        [str(NODE), tmp_path / "program.js", scripts, *paths],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return map(json.loads, done.stdout.splitlines())


@pytest.mark.skipif(NODE is None, reason="node, which runs the page's program, is not installed")
def test_the_program_of_the_page(tmp_path: Path) -> None:
    """It computes the engine's gradients to the bit, shows any number, and lays boxes out apart."""
    loss, model = mlp(12)
    roots: list[tuple[Value, Any]] = [(loss, {"model": model}), (loss, None), (line(), None)]
    gpt = sg.nn.GPT(5, 4, width=4, heads=2, rng=random.Random(1))
    roots.append((sg.losses.cross_entropy(gpt([0, 1, 2]), [1, 2, 3]), gpt))
    roots += [(run(program(random.Random(seed), 400))[1][-1], None) for seed in range(12)]
    pages = [sg.explore(root, names=names) for root, names in roots]
    for (root, _), page, answer in zip(roots, pages, answers(tmp_path, pages), strict=True):
        nodes = Graph(root).nodes
        for v in nodes:
            v.grad = 0.0
        root.backward()
        last = np.frombuffer(base64.b64decode(answer["last"]), "<f8")
        assert bits(last) == bits(v.grad for v in nodes)
        assert answer["problems"] == []
        assert answer["numbers"]
        if page is pages[2]:
            assert answer["formula"] == "v6 ** 2"
