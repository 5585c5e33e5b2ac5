"""The example programs do what they say, run as a reader would run them."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def output(name: str, *options: object, timeout: float = 120) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, options)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_lecture() -> None:
    out = output("lecture.py")
    assert "41 parameters" in out
    errors = dict(re.findall(r"epoch +(\d+): mean squared error (\S+)", out))
    assert float(errors["1"]) > 0.1
    assert float(errors["200"]) < 1e-3
    answers = re.findall(r"-> (\S+), should be (\S+)", out)
    assert [float(right) for _, right in answers] == [1, -1, -1, 1]
    parts = [float(part) for part in re.findall(r"^  bias \+ .* (\S+)$", out, re.MULTILINE)]
    (total,) = re.findall(r"d\(loss\)/d\(bias\) is (\S+), a sum", out)
    assert len(parts) == 4
    assert math.isclose(sum(parts), float(total), rel_tol=1e-3, abs_tol=1e-6)
    assert all(abs(float(said) - float(right)) < 0.1 for said, right in answers)


def test_toy_regression() -> None:
    out = output("toy_regression.py")
    errors = re.findall(r"epoch +\d+: mean squared error (\S+), on points held out (\S+)", out)
    assert float(errors[0][1]) > 0.05
    assert float(errors[-1][0]) < 1e-3
    assert float(errors[-1][1]) < 1e-3
    assert len(re.findall(r"= (\S+), the network says (\S+)", out)) == 5


def test_names_gpt(tmp_path: Path) -> None:
    out = output("names_gpt.py", "--steps", 300)
    first, last = map(float, re.findall(r"loss ([\d.]+) at the start, ([\d.]+) at the end", out)[0])
    assert first == pytest.approx(math.log(27), abs=0.4)
    assert last < 2.4
    assert len(re.findall(r"^  [a-z]+( \*)?$", out, re.MULTILINE)) == 20

    path = tmp_path / "names.txt"
    path.write_text("\n".join(["ab", "abab", "ababab"] * 5))
    out = output("names_gpt.py", "--data", path, "--steps", 120)
    assert "15 names" in out
    assert set("".join(re.findall(r"^  ([a-z]+)", out, re.MULTILINE))) == {"a", "b"}


def test_microgpt() -> None:
    out = output("microgpt.py", "--steps", 200)
    assert "4,160 parameters" in out
    assert "10 steps, eager and compiled: the same bits" in out
    first, last = map(float, re.findall(r"loss ([\d.]+) at the start, ([\d.]+) at the end", out)[0])
    assert first == pytest.approx(math.log(27), abs=0.4)
    assert last < 2.6
    assert len(re.findall(r"^  [a-z]*( \*)?$", out, re.MULTILINE)) == 10


def test_microgpt_as_its_author_wrote_it_is_refused_with_the_remedy(tmp_path: Path) -> None:
    text = (EXAMPLES / "microgpt.py").read_text(encoding="utf-8")
    (tmp_path / "names_gpt.py").write_text((EXAMPLES / "names_gpt.py").read_text(encoding="utf-8"))
    for ours, theirs, remedy in (
        ("sg.take(letter_table, token)", "letter_table[token]", "scalargrad.take"),
        ("sg.maximum(*x).detach()", "max(v.data for v in x)", "scalargrad.softmax"),
        ("sg.take(softmax(answer), following)", "softmax(answer)[following]", "scalargrad.take"),
    ):
        assert text.count(ours) == 1
        file = tmp_path / "microgpt.py"
        file.write_text(text.replace(ours, theirs))
        done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=120)
        assert re.search(rf"TraceError: .* at .*microgpt.py:\d+.*{remedy}", done.stderr)


def test_dead_neurons(tmp_path: Path) -> None:
    out = output("dead_neurons.py", tmp_path / "graph.html")
    counts = [int(n) for n in re.findall(r": (\d+) of \d+ neurons get no gradient", out)]
    assert counts[0] > 0
    assert counts[2] == 0
    assert (tmp_path / "graph.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def accuracy(out: str) -> float:
    (percent,) = re.findall(r"accuracy on 1,000 images held out: ([\d.]+)%", out)
    return float(percent)


def test_mnist_reads_nine_of_ten_real_images(mnist_directory: Path) -> None:
    options = ("--examples", 4000, "--hidden", 16, "--lr", 0.015)
    assert accuracy(output("mnist.py", "--data", mnist_directory, *options)) >= 90


@pytest.mark.slow
def test_mnist_at_full_size(mnist_directory: Path) -> None:
    out = output("mnist.py", "--data", mnist_directory, timeout=1200)
    assert "9,000 images to learn from, 25,450 parameters" in out
    assert accuracy(out) >= 92
