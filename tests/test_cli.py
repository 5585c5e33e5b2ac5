"""The command line, as a user types it: what it prints, writes, refuses, and how it ends."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scalargrad
from scalargrad import data
from scalargrad.checkpoint import load_checkpoint, load_model
from scalargrad.cli import main
from scalargrad.cli.doctor import _check, version
from scalargrad.cli.images import drawn, read_image
from scalargrad.cli.settings import OPTIMIZERS, Settings
from scalargrad.cli.tasks import TASKS
from scalargrad.errors import CheckpointError, DataError

posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX systems")
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def told(captured: Captured, *arguments: object, code: int = 0) -> str:
    """What a command prints, after checking how it ends."""
    captured.readouterr()
    assert run(*arguments) == code
    out, err = captured.readouterr()
    assert code or err == ""
    return out if code in (0, 1) else err


def refused(captured: Captured, *arguments: object) -> str:
    """The one line of a command that fails."""
    captured.readouterr()
    try:
        code = run(*arguments)
    except SystemExit as stop:  # how argparse ends
        code = int(stop.code or 0)
    out, err = captured.readouterr()
    assert code == 2
    assert out == ""
    assert err.startswith("scalargrad")
    assert "error: " in err
    assert err.count("\n") == 1
    return err


def process(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """The command in a process of its own, where Ctrl-C is as in a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "scalargrad", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def as_in_a_terminal() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def require_picture(path: Path) -> None:
    """That the file is a PNG with something in it."""
    image = pytest.importorskip("PIL.Image").open(path)
    image.load()
    assert image.format == "PNG"
    pixels = np.asarray(image.convert("L"))
    assert min(pixels.shape) > 200
    assert len(np.unique(pixels)) > 20


# --- train ----------------------------------------------------------------------------------------

PICTURES = {
    "toy": {"curves.png", "regression.png"},
    "moons": {"curves.png", "decision.png"},
    "digits": {"curves.png", "predictions.png", "confusion.png"},
}
QUICK = {
    "toy": ("--epochs", 2),
    "moons": ("--epochs", 1, "--hidden", "4"),
    "digits": ("--epochs", 1, "--hidden", "6", "--examples", 100),
}


@pytest.mark.parametrize("task", PICTURES)
def test_train_writes_a_model_a_history_and_pictures(task: str, capsys: Captured) -> None:
    pytest.importorskip("matplotlib")
    out = told(capsys, "train", task, *QUICK[task])
    folder = Path("runs", task)
    assert {path.name for path in folder.iterdir()} == PICTURES[task] | {
        *("run.json", "checkpoint.safetensors", "model.safetensors", "model.json", "history.json")
    }
    for name in PICTURES[task]:
        require_picture(folder / name)
        assert str(folder / name) in out
    history = json.loads((folder / "history.json").read_text())
    assert len(history["loss"]) == len(history["validation_loss"]) == QUICK[task][1]
    config = json.loads((folder / "model.json").read_text())["config"]
    assert config["settings"]["task"] == task
    assert config["network"]["nouts"][-1] == TASKS[task].outputs
    assert "held out" in out
    assert "what to try next" in out
    assert f"scalargrad predict runs/{task}" in out


def test_toy_learns(capsys: Captured) -> None:
    out = told(capsys, "train", "toy")
    assert float(re.findall(r"held out: ([\d.]+)", out)[0]) < 0.05
    out = told(capsys, "predict", "runs/toy", "0.3", "-5e-1")
    assert out.startswith("(0.3, -0.5): ")
    assert float(out.split(": ")[1]) == pytest.approx(0.8, abs=0.05)


def test_moons_are_told_apart(capsys: Captured) -> None:
    out = told(capsys, "train", "moons")
    assert int(re.findall(r"\((\d+) right\)", out)[0]) >= 99
    assert "the upper moon" in told(capsys, "predict", "runs/moons", 0, 1)
    assert "the lower moon" in told(capsys, "predict", "runs/moons", 1, -0.5)


def test_digits_as_in_the_demo(capsys: Captured) -> None:
    out = told(capsys, "train", "digits")
    right = int(re.findall(r"accuracy on 359 held out: .* \((\d+) right\)", out)[0])
    assert right / 359 >= 0.96
    assert re.search(r"an example took .* µs in the fastest epoch; .* times as long\n", out)
    # The saved model answers as the trained one did.
    assert f"({right} right)" in told(capsys, "predict", "runs/digits")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns_with_its_own_rate(optimizer: str, capsys: Captured) -> None:
    options = ("--epochs", 15, "--examples", 200, "--hidden", 16)
    out = told(capsys, "train", "moons", "--optimizer", optimizer, *options)
    assert int(re.findall(r"\((\d+) right\)", out)[0]) >= 80
    task = TASKS["moons"]
    own = task.defaults.lr if optimizer == task.defaults.optimizer else OPTIMIZERS[optimizer].lr
    assert json.loads(Path("runs/moons/run.json").read_text())["lr"] == own


@pytest.mark.pure
def test_options_reach_the_network(capsys: Captured) -> None:
    options = ("--hidden", "3,4", "--hidden", "5", "--epochs", 1, "--examples", 50, "--seed", 9)
    out = told(capsys, "train", "moons", *options, "--lr", 0.125, "--batch-size", 7, "--out", "x/y")
    assert "50 points to learn from, 100 held out" in out
    assert "a 2-3-4-5-1 network" in out
    saved = Settings.from_data(json.loads(Path("x/y/run.json").read_text()), "run.json")
    assert saved == Settings("moons", (3, 4, 5), 1, 7, "adam", 0.125, seed=9, examples=50)
    state, _ = load_model("x/y/model.safetensors")
    assert [state[f"layers.{k}.w"].shape for k in range(4)] == [(3, 2), (4, 3), (5, 4), (1, 5)]


def test_the_same_seed_gives_the_same_file_in_every_process() -> None:
    def model(name: str, seed: int, hashes: str) -> bytes:
        options = ("--epochs", 2, "--hidden", 4, "--seed", seed, "--out", name)
        done = process("train", "moons", *options, env={**os.environ, "PYTHONHASHSEED": hashes})
        assert done.communicate(timeout=60)
        assert done.returncode == 0
        return Path(name, "model.safetensors").read_bytes()

    first = model("a", 1, "1")
    assert model("b", 1, "2") == first
    assert model("c", 2, "1") != first


def test_nothing_but_the_report_is_printed_without_a_terminal() -> None:
    ran = process("train", "toy", "--epochs", 2)
    out, err = ran.communicate(timeout=60)
    assert (ran.returncode, err) == (0, "")
    assert "epoch 1/" not in out


def test_an_older_run_of_the_same_task_is_replaced(capsys: Captured) -> None:
    told(capsys, "train", "moons", *QUICK["moons"])
    first = Path("runs/moons/model.safetensors").read_bytes()
    out = told(capsys, "train", "moons", *QUICK["moons"], "--seed", 5)
    assert "learned for 1 epoch" in out
    assert Path("runs/moons/model.safetensors").read_bytes() != first


def test_another_tasks_run_is_not_replaced_unless_forced(capsys: Captured) -> None:
    told(capsys, "train", "moons", *QUICK["moons"], "--out", "mine")
    before = {path: path.read_bytes() for path in Path("mine").iterdir()}
    error = refused(capsys, "train", "toy", *QUICK["toy"], "--out", "mine")
    assert "mine: holds a run of moons" in error
    assert {path: path.read_bytes() for path in Path("mine").iterdir()} == before
    told(capsys, "train", "toy", *QUICK["toy"], "--out", "mine", "--force")
    assert not Path("mine/decision.png").exists()
    assert Path("mine/regression.png").exists()


def test_files_of_other_origin_are_not_replaced(capsys: Captured) -> None:
    Path("mine").mkdir()
    Path("mine/model.safetensors").write_text("precious")
    Path("mine/notes.txt").write_text("mine")
    assert "other origin" in refused(capsys, "train", "toy", *QUICK["toy"], "--out", "mine")
    assert Path("mine/model.safetensors").read_text() == "precious"
    told(capsys, "train", "toy", *QUICK["toy"], "--out", "mine", "--force")
    assert Path("mine/notes.txt").read_text() == "mine"


# --- stopping and resuming ------------------------------------------------------------------------


def wait_for_epochs(folder: Path, epochs: int) -> None:
    """Until a run's checkpoint holds so many."""
    path = folder / "checkpoint.safetensors"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and len(load_checkpoint(path).extra["run"]["history"]["loss"]) >= epochs:
            return
        time.sleep(0.01)
    pytest.fail(f"{path}: not {epochs} epochs in a minute")


LONG = ("train", "moons", "--epochs", 40, "--hidden", "8", "--examples", 200)


@posix
@pytest.mark.parametrize(
    ("found", "called", "hint"),
    [
        (True, "elsewhere/scalargrad", "scalargrad predict"),
        (False, ".venv/bin/scalargrad", ".venv/bin/scalargrad predict"),
        (False, "package/__main__.py", f"{sys.executable} -m scalargrad predict"),
    ],
)
def test_what_to_try_next_can_be_typed_as_it_is(
    found: bool,
    called: str,
    hint: str,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if found:
        (tmp_path / "scalargrad").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [called])
    out = told(capsys, "train", "toy", "--epochs", 1, "--examples", 20)
    assert f"\n  {hint} runs/toy 0.3 -0.5" in out


@posix
def test_ctrl_c_saves_and_resume_ends_with_the_same_model(capsys: Captured) -> None:
    told(capsys, *LONG, "--out", "whole")
    running = process(*LONG, "--out", "stopped", preexec_fn=as_in_a_terminal)
    wait_for_epochs(Path("stopped"), 2)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert err.startswith("Interrupted in epoch ")
    assert "Traceback" not in err
    assert "scalargrad train moons --out stopped --resume" in out
    # What was learned so far can be used.
    assert "accuracy" in told(capsys, "predict", "stopped")
    assert "going on" in told(capsys, "train", "moons", "--out", "stopped", "--resume")
    for name in ("model.safetensors", "curves.png", "decision.png"):
        assert Path("stopped", name).read_bytes() == Path("whole", name).read_bytes()


@posix
def test_a_killed_run_resumes_to_the_same_model(capsys: Captured) -> None:
    told(capsys, *LONG, "--out", "whole")
    running = process(*LONG, "--out", "killed")
    wait_for_epochs(Path("killed"), 2)
    running.kill()
    running.communicate(timeout=60)
    assert not Path("killed/model.safetensors").exists()
    told(capsys, *LONG, "--out", "killed", "--resume")
    model = Path("killed/model.safetensors").read_bytes()
    assert model == Path("whole/model.safetensors").read_bytes()


@posix
def test_ctrl_c_outside_training_is_one_line() -> None:
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import scalargrad.cli.train as t;"
        "t.folder.begin = lambda *a: signal.raise_signal(signal.SIGINT);"
        "from scalargrad.cli import main; sys.exit(main(['train', 'toy']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "scalargrad: interrupted\n"


def test_a_finished_run_resumes_to_itself(capsys: Captured) -> None:
    told(capsys, "train", "moons", *QUICK["moons"])
    model = Path("runs/moons/model.safetensors").read_bytes()
    told(capsys, "train", "moons", "--resume", *QUICK["moons"])
    assert Path("runs/moons/model.safetensors").read_bytes() == model


def test_resume_refuses_what_is_not_the_same_run(capsys: Captured) -> None:
    assert "holds no run to resume" in refused(capsys, "train", "moons", "--resume")
    told(capsys, "train", "moons", *QUICK["moons"])
    for option, value, message in (
        ("--hidden", "4,4", "hidden 4, not 4,4"),
        ("--epochs", 9, "epochs 1, not 9"),
        ("--optimizer", "sgd", "optimizer adam, not sgd"),
        ("--seed", 1, "seed 0, not 1"),
    ):
        assert message in refused(capsys, "train", "moons", "--resume", option, value)
    error = refused(capsys, "train", "toy", "--resume", "--out", "runs/moons")
    assert "task moons, not toy" in error


# --- when things go wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "COMMAND"),
        (("fly",), "invalid choice: 'fly'"),
        (("train",), "toy|moons|digits|mnist"),
        (("train", "cats"), "invalid choice: 'cats'"),
        (("train", "toy", "--epochs", "0"), "--epochs: expected a whole number, 1 or more"),
        (("train", "toy", "--epochs", "1.5"), "got '1.5'"),
        (("train", "toy", "--lr", "nan"), "--lr: expected a number above 0"),
        (("train", "toy", "--lr", "-1"), "--lr: expected a number above 0"),
        (("train", "toy", "--hidden", "8,x"), "--hidden: expected a whole number"),
        (("train", "toy", "--hidden", "0"), "got '0'"),
        (("train", "toy", "--optimizer", "magic"), "invalid choice: 'magic'"),
        (("train", "toy", "--examples", "5000"), "--examples 5000: there are 200"),
        (("train", "toy", "--resume", "--force"), "not allowed with"),
        (("train", "toy", "--data", "."), "toy reads no files"),
        (("train", "digits", "--download"), "digits reads no files"),
        (("train", "mnist"), "pass --data DIR"),
        (("train", "mnist", "--data", "nowhere"), "nowhere: no file train-images"),
        (("predict", "nowhere"), "nowhere: holds no model.safetensors"),
        (("predict",), "DIR"),
        (("doctor", "--why"), "unrecognized arguments: --why"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], message: str, capsys: Captured) -> None:
    assert message in refused(capsys, *arguments)
    assert not Path("runs").exists()


def test_a_rate_that_is_far_too_high_is_explained(capsys: Captured) -> None:
    assert run("train", "moons", "--lr", 1e200, "--optimizer", "sgd") == 2
    error = capsys.readouterr().err
    assert error.startswith("scalargrad: error: the loss is ")
    assert "in epoch 1, mini-batch " in error
    assert "Try a smaller learning rate (now 1e+200)" in error
    assert error.count("\n") == 1


def test_a_folder_that_cannot_be_made(capsys: Captured) -> None:
    Path("file").write_text("")
    assert "file" in refused(capsys, "train", "toy", "--out", "file/run")
    assert "file" in refused(capsys, "train", "toy", "--out", "file")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"task": "toy"}', "null", "[" * 100_000])
def test_a_damaged_run_file(content: str, capsys: Captured) -> None:
    Path("mine").mkdir()
    Path("mine/run.json").write_text(content)
    for arguments in (
        ("train", "toy", "--out", "mine"),
        ("train", "toy", "--out", "mine", "--resume"),
    ):
        assert "mine/run.json: " in refused(capsys, *arguments)
    told(capsys, "train", "toy", *QUICK["toy"], "--out", "mine", "--force")


def test_damaged_models(capsys: Captured) -> None:
    told(capsys, "train", "toy", *QUICK["toy"])
    path = Path("runs/toy/model.safetensors")
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[:-1], whole.replace(b"toy", b"cat", 1)):
        path.write_bytes(content)
        assert "runs/toy/model.safetensors: " in refused(capsys, "predict", "runs/toy", 0, 0)
    from scalargrad.checkpoint import save_model

    save_model(path, {}, {"settings": {"task": "toy"}})
    assert "not the settings of a run" in refused(capsys, "predict", "runs/toy", 0, 0)
    save_model(path, {}, {"settings": Settings("cats", (1,), 1, 1, "sgd", 0.1).to_data()})
    assert "'cats' is not one of" in refused(capsys, "predict", "runs/toy", 0, 0)
    save_model(path, {}, {"settings": TASKS["toy"].defaults.to_data()})
    assert "layers.0.w is missing" in refused(capsys, "predict", "runs/toy", 0, 0)


@posix
def test_a_full_disk_is_one_line_and_leaves_no_piece() -> None:
    program = (
        "import resource, sys; from scalargrad.cli import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000));"
        "sys.exit(main(['train', 'toy', '--epochs', '2', '--out', 'mine']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("scalargrad: error: ")
    assert "cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir("mine") == ["run.json"]


def without(*modules: str) -> str:
    """The start of a program in which these modules are not installed."""
    blocked = "".join(f"sys.modules[{module!r}] = None;" for module in modules)
    return f"import sys; {blocked} from scalargrad.cli import main;"


def test_without_matplotlib_it_trains_and_says_what_is_missing() -> None:
    program = without("matplotlib") + "sys.exit(main(['train', 'toy', '--epochs', '2']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no pictures: " in done.stdout
    assert "pip install 'scalargrad[plot]'" in done.stdout
    assert Path("runs/toy/model.safetensors").exists()
    assert not list(Path("runs/toy").glob("*.png"))


def test_without_scikit_learn_digits_say_what_is_missing() -> None:
    program = without("sklearn", "sklearn.datasets") + "sys.exit(main(['train', 'digits']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("scalargrad: error: ")
    assert "pip install 'scalargrad[sklearn]'" in done.stderr
    assert not Path("runs").exists()


@posix
def test_a_reader_that_leaves_early() -> None:
    command = f"'{sys.executable}' -m scalargrad doctor | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


# --- predict --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network that reads most digits."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert run("train", "digits", "--epochs", 4, "--hidden", 16, "--out", folder) == 0
    return folder


def test_predict_shows_an_image_held_out(digits: Path, capsys: Captured) -> None:
    test = data.split(*data.digits(), held_out=0.2, seed=0).test
    right = 0
    for index in range(10):
        out = told(capsys, "predict", digits, "--index", index)
        picture, answer = out.rstrip("\n").rsplit("\n", 1)
        assert picture == drawn(test.x[index].reshape(8, 8))
        assert f"true is {test.y[index]}" in answer
        guess = re.match(r"a (\d) \(", answer)
        assert guess is not None
        assert answer.endswith("right" if int(guess[1]) == test.y[index] else "wrong")
        right += answer.endswith("right")
    assert right >= 7


def test_predict_takes_pixels_as_numbers(digits: Path, capsys: Captured) -> None:
    test = data.split(*data.digits(), held_out=0.2, seed=0).test
    asked = told(capsys, "predict", digits, *test.x[3].tolist())
    shown = told(capsys, "predict", digits, "--index", 3)
    assert shown.startswith(asked.rstrip("\n"))


def test_predict_alone_lists_the_mistakes(digits: Path, capsys: Captured) -> None:
    out = told(capsys, "predict", digits)
    listed = re.findall(r"worst: ([\d, ]+)", out)[0]
    for index in listed.split(", ")[:3]:
        assert told(capsys, "predict", digits, "--index", index).rstrip().endswith("wrong")


def test_predict_reads_pictures(digits: Path, capsys: Captured) -> None:
    image = pytest.importorskip("PIL.Image")
    test = data.split(*data.digits(), held_out=0.2, seed=0).test
    photographs = [f"photograph{row}.jpg" for row in range(20)]
    for row, name in enumerate(photographs):
        # Larger, dark on light, with a rim, in colour.
        ink = np.kron(test.x[row].reshape(8, 8), np.ones((16, 16)))
        paper = np.full((200, 160), 245.0)
        paper[36:164, 16:144] -= 220 * ink
        image.fromarray(paper.astype(np.uint8)).convert("RGB").save(name)
    image.fromarray((255 * test.x[0].reshape(8, 8)).astype(np.uint8)).save("small.png")
    lines = told(capsys, "predict", digits, "--image", "small.png", *photographs).splitlines()
    assert [line for line in lines if line.endswith("g")] == ["small.png", *photographs]
    small, *guesses = (int(digit) for digit in re.findall(r"^a (\d) ", "\n".join(lines), re.M))
    shown = told(capsys, "predict", digits, "--index", 0)
    assert f"a {small} (" in shown
    assert np.mean(guesses == test.y[:20]) >= 0.7


def test_predict_refuses_what_it_cannot_use(digits: Path, capsys: Captured) -> None:
    assert "expected 0 to 358" in refused(capsys, "predict", digits, "--index", 359)
    assert "expected 0 to 358" in refused(capsys, "predict", digits, "--index", -1)
    assert "expected 64 numbers, got 2" in refused(capsys, "predict", digits, 1, 2)
    assert "expected finite numbers" in refused(capsys, "predict", digits, *["nan"] * 64)
    assert "invalid float value: 'x'" in refused(capsys, "predict", digits, "x")
    assert "not allowed with" in refused(capsys, "predict", digits, "--index", 1, "--image", "x")
    assert "none.png: No such file" in refused(capsys, "predict", digits, "--image", "none.png")


def test_predict_regression(capsys: Captured) -> None:
    told(capsys, "train", "toy", *QUICK["toy"])
    test = data.split(*data.toy_regression(300, seed=0), held_out=100, seed=0).test
    out = told(capsys, "predict", "runs/toy", "--index", 7)
    assert f"true is {test.y[7]:.4f}" in out
    worst = re.findall(r"worst: ([\d, ]+)", told(capsys, "predict", "runs/toy"))[0].split(", ")
    assert len(worst) == 5
    error = refused(capsys, "predict", "runs/toy", "--image", "x.png")
    assert "takes 2 numbers" in error


# --- images ---------------------------------------------------------------------------------------


def test_pictures_are_cut_out_centred_and_turned_round() -> None:
    image = pytest.importorskip("PIL.Image")
    white_on_black = np.zeros((50, 90), dtype=np.uint8)
    white_on_black[10:30, 60:70] = 200
    for name, pixels in (("dark.png", white_on_black), ("light.png", 255 - white_on_black)):
        image.fromarray(pixels).save(name)
        read = read_image(name, 28, 20 / 28)
        expected = np.zeros((28, 28))
        expected[4:24, 9:19] = 1.0
        assert read == pytest.approx(expected)
    transparent = np.zeros((40, 40, 4), dtype=np.uint8)
    transparent[5:35, 15:25, 3] = 255  # black ink where it is opaque
    image.fromarray(transparent).save("clear.png")
    assert read_image("clear.png", 8, 1.0).max() == 1.0
    assert read_image("clear.png", 8, 1.0)[:, 0].max() == 0.0


def test_pictures_that_are_none() -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("L", (30, 30), 255).save("blank.png")
    with pytest.raises(DataError, match=r"blank\.png: shows nothing"):
        read_image("blank.png", 8, 1.0)
    Path("text.png").write_text("not an image")
    with pytest.raises(DataError, match=r"text\.png: cannot be read as an image"):
        read_image("text.png", 8, 1.0)
    image.new("L", (300, 300), 255).save("cut.png")
    Path("cut.png").write_bytes(Path("cut.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"cut\.png: cannot be read"):
        read_image("cut.png", 8, 1.0)
    with pytest.raises(FileNotFoundError):
        read_image("none.png", 8, 1.0)


def test_drawn_in_letters() -> None:
    assert drawn(np.array([[0.0, 1.0], [4 / 9, 0.0]])) == "  @@\n=="
    assert drawn(np.array([[-1.0, 9.0]])) == "  @@"


# --- MNIST ----------------------------------------------------------------------------------------


def write_idx(path: Path, array: np.ndarray[Any, Any]) -> None:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    with gzip.open(path, "wb") as file:
        file.write(header + array.tobytes())


def few_images(folder: Path, mnist: Path, part: str, count: int) -> None:
    """A folder with the first images of the real ones, as if they were all."""
    folder.mkdir(exist_ok=True)
    x, y = data.mnist(mnist, part="test", dtype="uint8")
    write_idx(folder / f"{part}-images-idx3-ubyte.gz", x[:count].reshape(-1, 28, 28))
    write_idx(folder / f"{part}-labels-idx1-ubyte.gz", y[:count].astype(np.uint8))


def test_mnist_from_the_test_images_alone(mnist_directory: Path, capsys: Captured) -> None:
    options = ("--epochs", 1, "--hidden", 2, "--examples", 40)
    few_images(Path("few"), mnist_directory, "t10k", 1040)
    out = told(capsys, "train", "mnist", "--data", "few", *options)
    assert "40 images to learn from, 1,000 held out" in out
    for name in PICTURES["digits"]:
        require_picture(Path("runs/mnist", name))
    first = told(capsys, "predict", "runs/mnist", "--index", 0)
    assert len(first.splitlines()) == 29
    # The images may move, and --data says where to.
    shutil.move("few", "moved")
    assert "few: no file" in refused(capsys, "predict", "runs/mnist", "--index", 0)
    assert told(capsys, "predict", "runs/mnist", "--index", 0, "--data", "moved") == first


def test_mnist_holds_out_test_images_where_both_parts_are(
    mnist_directory: Path, capsys: Captured
) -> None:
    few_images(Path("both"), mnist_directory, "t10k", 1001)
    few_images(Path("both"), mnist_directory, "train", 60)
    settings = TASKS["mnist"].defaults.changed({"data": "both", "examples": 50})
    train, test = TASKS["mnist"].load(settings)
    x, _ = data.mnist("both", part="train")
    assert len(train.x) == 50
    rows = {row.tobytes() for row in x}
    assert all(row.tobytes() in rows for row in train.x)
    assert len(test.x) == 1000
    assert train.x.max() == test.x.max() == 1.0


# --- settings, doctor -----------------------------------------------------------------------------


def test_settings_survive_as_json() -> None:
    for task in TASKS.values():
        text = json.dumps(task.defaults.to_data())
        assert Settings.from_data(json.loads(text), "x") == task.defaults
    good = TASKS["toy"].defaults.to_data()
    for wrong in ({"epochs": "2"}, {"hidden": 3}, {"lr": None}, {"more": 1}):
        with pytest.raises(CheckpointError, match="x: not the settings of a run"):
            Settings.from_data({**good, **wrong}, "x")


def test_doctor_reports_and_succeeds(capsys: Captured) -> None:
    out = told(capsys, "doctor")
    lines = {line[2:].split("  ")[0].strip(): line for line in out.splitlines()}
    assert scalargrad.__version__ in lines["scalargrad"]
    assert ("compiled" if scalargrad.compiled else "plain Python") in lines["engine"]
    assert version("numpy", "numpy") in lines["numpy"]
    assert "right" in lines["self-check"]
    assert re.search(r"\d ns per operation", lines["speed"])
    assert not any(line.startswith("!") for line in lines.values())


@pytest.mark.parametrize(
    ("module", "code", "line"),
    [
        ("llvmlite", 1, r"! llvmlite +missing: pip install llvmlite"),
        ("matplotlib", 0, r"  matplotlib +not installed; pip install 'scalargrad\[plot\]' adds"),
    ],
)
def test_doctor_names_what_is_missing(module: str, code: int, line: str) -> None:
    program = (
        "import sys, importlib.util as u; find = u.find_spec;"
        f"u.find_spec = lambda name, *a: None if name == {module!r} else find(name, *a);"
        "from scalargrad.cli import main; sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code
    assert re.search(line, done.stdout)


def test_doctor_notices_wrong_arithmetic() -> None:
    assert not _check().fault
    wrong = _check(lambda: (104.0, -48.0, 61.0))
    assert wrong.fault
    assert "got (104.0, -48.0, 61.0)" in wrong.text


def test_doctor_says_that_the_engine_is_not_compiled() -> None:
    done = process("doctor", env={**os.environ, "SCALARGRAD_PURE": "1"})
    out, _ = done.communicate(timeout=60)
    assert done.returncode == 0
    assert "plain Python, because SCALARGRAD_PURE is set" in out


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_version_and_help(argument: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stop:
        run(argument)
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert scalargrad.__version__ in out or "train" in out


def test_help_of_train_lists_the_tasks(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        run("train", "--help")
    out = capsys.readouterr().out
    assert all(task.summary in out for task in TASKS.values())
    assert out.isascii()
