"""Checkpoints: the same bits back, whole files at any moment, and no trust in what is read."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

import scalargrad as sg
from scalargrad import checkpoint, optim
from scalargrad.checkpoint import (
    atomic_write,
    load_arrays,
    load_checkpoint,
    load_model,
    save_arrays,
    save_checkpoint,
    save_model,
)
from scalargrad.errors import CheckpointError

pytestmark = pytest.mark.pure

posix_only = pytest.mark.skipif(os.name != "posix", reason="signals and devices of POSIX")
same_folder = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150
)


def frozen(x: Any) -> Any:
    """x with its types and bits spelled out, so that == compares every one of them."""
    if isinstance(x, dict):
        return "dict", [(key, frozen(item)) for key, item in x.items()]
    if isinstance(x, list | tuple):
        return type(x).__name__, [frozen(item) for item in x]
    if isinstance(x, float):
        return type(x).__name__, struct.pack("<d", x)
    if isinstance(x, np.ndarray):
        return "array", x.dtype.str, x.shape, x.tobytes()
    return type(x).__name__, x


def through_a_file(folder: Path, extra: dict[str, Any]) -> dict[str, Any]:
    path = folder / "round.safetensors"
    save_checkpoint(path, model={}, optimizer={}, extra=extra)
    return load_checkpoint(path).extra


# --- the same bits back ----------------------------------------------------------------------------

ARRAYS = hnp.arrays(
    dtype=st.sampled_from(checkpoint.DTYPES).map(np.dtype),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 2**2000)
    | st.floats()
    | st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", bits.to_bytes(8, "little"))[0])
    | st.text(max_size=5)
    | ARRAYS
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(
    ["$array", "$$array", "$tuple", "$", "a/b", "a~1b", "a", "b", "__metadata__", "0"]
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(extra=st.dictionaries(KEYS, TREES, max_size=4))
@example(extra={"a/b": np.zeros(1), "a": {"b": np.ones(1)}, "a~1b": np.full(1, 2.0)})
@example(extra={"$array": "model/w", "x": {"$tuple": [1]}, "y": {"$float": 3}})
@example(extra={"digits": 10**6000, "low": -(2**64), "edge": [2**53, 2**53 + 1, -(2**53) - 1]})
@same_folder
def test_anything_allowed_comes_back_with_its_types_and_bits(
    tmp_path: Path, extra: dict[str, Any]
) -> None:
    assert frozen(through_a_file(tmp_path, extra)) == frozen(extra)


def test_the_edges_of_float64_come_back() -> None:
    numbers = [0.0, -0.0, 5e-324, 0.1, 1.7976931348623157e308, math.inf, -math.inf, math.nan]
    payload = struct.unpack("<d", (0xFFF8_0000_DEAD_BEEF).to_bytes(8, "little"))[0]
    content, _ = checkpoint._encoded([*numbers, payload], "x")
    again = checkpoint._decode(json.loads(checkpoint._json(content)), {})
    assert frozen(again) == frozen([*numbers, payload])


def test_numpy_scalars_come_back_as_python_numbers(tmp_path: Path) -> None:
    extra = {"f": np.float32(0.1), "d": np.float64(0.1), "i": np.uint64(2**64 - 1), "b": np.True_}
    assert frozen(through_a_file(tmp_path, extra)) == frozen(
        {"f": float(np.float32(0.1)), "d": 0.1, "i": 2**64 - 1, "b": True}
    )


def test_arrays_in_any_order_of_axes_or_bytes_come_back_as_numbers(tmp_path: Path) -> None:
    table = np.arange(6.0).reshape(2, 3)
    extra = {"t": table.T, "big": table.astype(">f8"), "skip": table[:, ::2]}
    back = through_a_file(tmp_path, extra)
    np.testing.assert_equal(back, extra)
    back["t"][0, 0] = 9.0


def test_random_generators_go_on_where_they_were(tmp_path: Path) -> None:
    plain = random.Random(5)
    plain.gauss(0.0, 1.0)
    generators = [np.random.default_rng(5), np.random.Generator(np.random.MT19937(5))]
    for g in generators:
        g.integers(0, 10, size=3, dtype=np.uint32)
    states = {"python": plain.getstate(), "numpy": [g.bit_generator.state for g in generators]}
    back = through_a_file(tmp_path, states)

    other = random.Random()
    other.setstate(back["python"])
    assert [other.gauss(0, 1) for _ in range(5)] == [plain.gauss(0, 1) for _ in range(5)]
    for g, kind, state in zip(generators, (np.random.PCG64, np.random.MT19937), back["numpy"]):
        bit_generator = kind()
        bit_generator.state = state
        assert np.random.Generator(bit_generator).normal(size=9).tolist() == (
            g.normal(size=9).tolist()
        )


def test_a_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"

    def train(weights: list[sg.Value], optimizer: optim.Optimizer, rng: Any, steps: int) -> None:
        for _ in range(steps):
            x = rng.gauss(0.0, 1.0)
            optimizer.zero_grad()
            ((weights[0] * x + weights[1]).tanh() - math.sin(x)).abs().backward()
            optimizer.step()

    def start() -> tuple[list[sg.Value], optim.Optimizer]:
        weights = [sg.Value(0.3), sg.Value(-0.7)]
        return weights, optim.Adam(weights, lr=optim.cosine(0.1, steps=40))

    rng = random.Random(11)
    weights, optimizer = start()
    train(weights, optimizer, rng, 15)
    save_checkpoint(
        path,
        model={"weights": np.array([w.data for w in weights])},
        optimizer=optimizer.state_dict(),
        extra={"rng": rng.getstate(), "step": 15},
    )
    train(weights, optimizer, rng, 15)

    saved, again = load_checkpoint(path), random.Random()
    others, other = start()
    for w, number in zip(others, saved.model["weights"]):
        w.data = number
    other.load_state_dict(saved.optimizer)
    again.setstate(saved.extra["rng"])
    train(others, other, again, 15)
    assert frozen([w.data for w in others]) == frozen([w.data for w in weights])


def test_arrays_and_models_come_back_in_order(tmp_path: Path) -> None:
    arrays = {"z": np.arange(3.0), "a.b": np.array(2, np.int8), "m": np.zeros((0, 2))}
    fields = {"sizes": [2, 8, 1], "rate": 1e-3, "names": ("x", None), "limit": math.inf}
    save_arrays(tmp_path / "a.safetensors", arrays, fields)
    save_model(tmp_path / "m.safetensors", arrays, fields)
    assert frozen(load_arrays(tmp_path / "a.safetensors")) == frozen((arrays, fields))
    assert frozen(load_model(tmp_path / "m.safetensors")) == frozen((arrays, fields))
    save_arrays(tmp_path / "none.safetensors", {})
    assert load_arrays(tmp_path / "none.safetensors") == ({}, {})


def test_other_programs_read_the_arrays_and_people_the_json(tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", {"w": np.eye(2)}, {"hidden": 8})
    assert load_file(tmp_path / "model.safetensors")["w"].tolist() == [[1, 0], [0, 1]]
    copy = json.loads((tmp_path / "model.json").read_text())
    assert copy["config"] == {"hidden": 8}
    assert copy["arrays"] == {"w": [2, 2]}
    assert copy["sha256"].encode() in (tmp_path / "model.safetensors").read_bytes()


def test_the_json_is_a_copy_that_loading_never_reads(tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", {"w": np.eye(2)}, {"hidden": 8})
    (tmp_path / "model.json").write_text('{"config": {"hidden": 9}}')
    assert load_model(tmp_path / "model.safetensors")[1] == {"hidden": 8}


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    arrays = {f"w{k}": np.full(k, k / 7) for k in range(9)}
    save_arrays(tmp_path / "one", arrays, {"k": 1})
    save_arrays(tmp_path / "two", dict(arrays), {"k": 1})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def _itself() -> dict[str, Any]:
    x: dict[str, Any] = {}
    x["x"] = x
    return x


@pytest.mark.parametrize(
    ("extra", "error", "message"),
    [
        ({"f": {"g": [1, print]}}, TypeError, "extra/f/g/1: a builtin_function.* cannot be saved"),
        ({"v": sg.Value(1.0)}, TypeError, "extra/v: a Value cannot be saved"),
        ({"b": b"bytes"}, TypeError, "extra/b: a bytes cannot be saved"),
        ({"s": {1, 2}}, TypeError, "extra/s: a set cannot be saved"),
        ({"c": 1j}, TypeError, "extra/c: a complex cannot be saved"),
        ({"l": np.longdouble(1)}, TypeError, "extra/l: a longdouble cannot be saved exactly"),
        ({"o": np.array([None])}, TypeError, "extra/o: .* got an array of object"),
        ({"s": np.array(["x"])}, TypeError, "extra/s: .* got an array of <U1"),
        ({"z": np.zeros(1, complex)}, TypeError, "extra/z: .* got an array of complex128"),
        ({"k": {3: 1}}, TypeError, "extra/k: expected keys that are text, got 3"),
        ({"k": {"\ud800": 1}}, TypeError, "extra/k: expected keys that are text"),
        ({"x": _itself()}, ValueError, "extra: nested too deeply .*, or contains itself"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(
    tmp_path: Path, extra: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        save_checkpoint(tmp_path / "c", model={}, optimizer={}, extra=extra)
    assert os.listdir(tmp_path) == []


def test_models_refuse_what_would_not_come_back(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"w: expected a NumPy array of .* got a list"):
        save_model(tmp_path / "m", {"w": [1.0]}, {})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="config/mean: an array cannot be kept here"):
        save_model(tmp_path / "m", {}, {"mean": np.zeros(2)})
    with pytest.raises(ValueError, match="__metadata__"):
        save_arrays(tmp_path / "m", {"__metadata__": np.zeros(2)})
    with pytest.raises(TypeError, match="arrays: expected keys that are text, got 0"):
        save_arrays(tmp_path / "m", {0: np.zeros(2)})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"path: expected a name such as model\.safetensors"):
        save_model(tmp_path / "model.json", {}, {})
    assert os.listdir(tmp_path) == []


def test_a_document_beyond_the_format_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="put long lists into NumPy arrays"):
        save_arrays(tmp_path / "m", {}, {"text": "x" * 100_000_001})
    assert os.listdir(tmp_path) == []


# --- whole files -----------------------------------------------------------------------------------


def test_bytes_text_and_writers_are_written(tmp_path: Path) -> None:
    for content, expected in (
        (b"\x00\xff", b"\x00\xff"),
        ("né\n", b"n\xc3\xa9\n"),
        (lambda file: file.write(b"from a function"), b"from a function"),
    ):
        atomic_write(tmp_path / "file", content)  # type: ignore[arg-type]
        assert (tmp_path / "file").read_bytes() == expected
    assert os.listdir(tmp_path) == ["file"]


def test_a_writer_that_raises_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write(path, b"old")

    def interrupted(file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, interrupted)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_is_flushed_before_it_is_renamed_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def noted(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    noted("fsync")
    noted("replace")
    atomic_write(tmp_path / "file", b"content")
    assert calls == (["fsync", "replace", "fsync"] if os.name == "posix" else ["fsync", "replace"])


@posix_only
def test_permissions_of_an_existing_file_are_kept_and_a_new_one_follows_the_umask(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    before = os.umask(0o027)
    try:
        atomic_write(path, b"1")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o604)
    atomic_write(path, b"2")
    assert path.stat().st_mode & 0o777 == 0o604


@posix_only
def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store" / "file")
    atomic_write(tmp_path / "link", b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "store" / "file").read_bytes() == b"1"


def test_places_where_no_file_can_be_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"its folder does not exist: make it first.*none"):
        atomic_write(tmp_path / "none" / "file", b"")
    with pytest.raises(IsADirectoryError, match="is a folder: name a file inside it"):
        atomic_write(tmp_path, b"")


@posix_only
def test_a_device_is_not_replaced_by_a_file() -> None:
    with pytest.raises(OSError, match="is a device or pipe, which cannot be replaced: '/dev/null'"):
        atomic_write("/dev/null", b"")


def test_a_long_name_still_has_room_for_the_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)
    atomic_write(path, b"1")
    assert path.read_bytes() == b"1"


def test_what_killed_writers_left_is_swept_and_what_is_being_written_is_not(
    tmp_path: Path,
) -> None:
    old, new = tmp_path / ".run [1].dead.tmp", tmp_path / ".run [1].alive.tmp"
    others = tmp_path / ".other.dead.tmp"
    for path in (old, new, others):
        path.write_bytes(b"part")
    for path in (old, others):
        os.utime(path, (0, time.time() - checkpoint.ABANDONED - 60))
    atomic_write(tmp_path / "run [1]", b"1")
    assert sorted(os.listdir(tmp_path)) == sorted(["run [1]", new.name, others.name])


# --- a full disk -----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_old_file_and_says_how_much_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, {"w": np.zeros(3)}, {"epoch": 1})
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}

    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OSError, match=r"bytes are free in its folder\): make room.*model"
    ) as caught:
        save_model(path, {"w": np.ones(3)}, {"epoch": 2})
    assert caught.value.errno == code
    assert caught.value.filename == str(path)
    assert os.strerror(code) in str(caught.value)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_device_that_is_really_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.safetensors"
    save_checkpoint(path, model={}, optimizer={}, extra={"epoch": 1})

    def onto_full(name: Path, mode: str) -> Any:
        file = open(name, mode)  # noqa: SIM115
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, file.fileno())
        os.close(full)
        return file

    monkeypatch.setattr(checkpoint, "open", onto_full, raising=False)
    with pytest.raises(OSError, match=r"bytes are free in its folder.*what was there before") as e:
        save_checkpoint(path, model={}, optimizer={}, extra={"epoch": 2})
    assert e.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ["run.safetensors"]
    assert load_checkpoint(path).extra == {"epoch": 1}


def test_a_rename_that_fails_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    atomic_write(path, b"old")

    def refused(source: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(source), None, str(target))

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(PermissionError, match="cannot be written: Permission denied; what was"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


# --- killed at any moment --------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from scalargrad import checkpoint

def plain_write(path, content):
    with open(path, "wb") as file:
        content(file) if callable(content) else file.write(content)

write = {"atomic": checkpoint.atomic_write, "plain": plain_write}[sys.argv[1]]
folder = Path(sys.argv[2])
path = folder / "model.safetensors"

def killed_at(k, action):
    # In a child: the k-th call that touches the disk is its last.
    child = os.fork()
    if child == 0:
        calls = 0
        def deadly(function):
            def call(*arguments, **options):
                nonlocal calls
                calls += 1
                if calls == k:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)
            return call
        for name in ("fsync", "replace", "unlink"):
            setattr(os, name, deadly(getattr(os, name)))
        action()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])

def save(n):
    checkpoint.save_model(path, {"w": np.full(1000, float(n))}, {"n": n})

def save_and_look(n):
    k = 0
    while True:
        k += 1
        killed = killed_at(k, lambda: save(n))
        state, config = checkpoint.load_model(path)
        assert config["n"] in (n - 1, n) and (state["w"] == config["n"]).all(), (k, config)
        copy = path.with_suffix(".json")
        if copy.exists():
            import json
            assert json.loads(copy.read_text())["config"] == config, (k, config)
        if not killed:
            assert config["n"] == n
            return k - 1

save(0)
print("moments", save_and_look(1))

def halfway(file):
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

target = folder / "file"
write(target, b"whole and old")
child = os.fork()
if child == 0:
    write(target, halfway)
os.waitpid(child, 0)
print("content", target.read_bytes())
"""


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@posix_only
def test_killed_at_each_step_of_a_save_the_file_is_whole_and_the_json_agrees(
    tmp_path: Path,
) -> None:
    out = run(KILLED, "atomic", str(tmp_path))
    assert int(out.split()[1]) >= 6, "two syncs, one unlink, two renames and a folder at least"
    assert "content b'whole and old'" in out


@posix_only
def test_the_kill_test_catches_a_writer_that_is_not_atomic(tmp_path: Path) -> None:
    assert "content b'half'" in run(KILLED, "plain", str(tmp_path))


SAVING_FOREVER = """
import sys
import numpy as np
from scalargrad.checkpoint import save_checkpoint
n = int(sys.argv[2])
while True:
    n += 1
    save_checkpoint(sys.argv[1], model={"w": np.full(20_000, float(n))}, optimizer={}, extra={"n": n})
    print(n, flush=True)
"""


@posix_only
def test_killed_at_random_moments_the_last_finished_save_is_there(tmp_path: Path) -> None:
    path, rng, seen = tmp_path / "run.safetensors", random.Random(2), 0
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", SAVING_FOREVER, str(path), str(seen)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        with child.stdout:
            finished = int(child.stdout.readline())
            time.sleep(rng.uniform(0.0, 0.03))
            child.send_signal(signal.SIGKILL)
            child.wait()
            finished = max([finished, *map(int, child.stdout.read().split())])
        model, _, extra = load_checkpoint(path)
        assert extra["n"] in (finished, finished + 1)
        assert (model["w"] == extra["n"]).all()
        seen = extra["n"]


# --- files that cannot be trusted ------------------------------------------------------------------

SMALL = {"w": np.array([1.5, -0.0]), "loss": [0.1, math.inf], "step": 2**70}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, model={"w": SMALL["w"]}, optimizer={}, extra=SMALL)
    return path


def right_or_refused(path: Path, right: Any) -> bool:
    """Whether the file was refused; anything but a refusal or the right content fails."""
    try:
        content = load_checkpoint(path)
    except CheckpointError as error:
        return str(path) in str(error) or pytest.fail(f"does not name the file: {error}")
    assert frozen(content) == frozen(right)
    return False


def test_cut_short_at_any_byte_a_file_is_refused(small: Path) -> None:
    data, right = small.read_bytes(), load_checkpoint(small)
    for length in range(len(data)):
        small.write_bytes(data[:length])
        assert right_or_refused(small, right), length
    small.write_bytes(data + b"\x00")
    assert right_or_refused(small, right)


def test_any_single_byte_changed_is_refused_or_makes_no_difference(small: Path) -> None:
    data, right = small.read_bytes(), load_checkpoint(small)
    refused = 0
    for place in range(len(data)):
        for flip in (0x01, 0x20, 0x80):
            damaged = bytearray(data)
            damaged[place] ^= flip
            small.write_bytes(damaged)
            refused += right_or_refused(small, right)
    assert refused >= 2.9 * len(data), "only blanks that pad the header may change unseen"


@given(
    cuts=st.lists(
        st.tuples(st.integers(0, 2000), st.integers(0, 40), st.binary(max_size=40)),
        min_size=1,
        max_size=4,
    )
)
@same_folder
def test_pieces_replaced_at_random_are_refused_or_make_no_difference(
    small: Path, cuts: list[tuple[int, int, bytes]]
) -> None:
    save_checkpoint(small, model={"w": SMALL["w"]}, optimizer={}, extra=SMALL)
    data, right = bytearray(small.read_bytes()), load_checkpoint(small)
    for start, length, piece in cuts:
        start %= len(data)
        data[start : start + length] = piece
    small.write_bytes(bytes(data))
    right_or_refused(small, right)


@given(data=st.binary(max_size=200))
@same_folder
def test_bytes_that_are_no_checkpoint_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert right_or_refused(path, None)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["$array", "$tuple", "$float", "$int", "$new", "$$x", "names", "config", "model"]
            )
            | st.sampled_from(["optimizer", "extra"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(content=JSON)
@example(content={"model": {}, "optimizer": {}})
@example(content={"model": {"$array": "none"}, "optimizer": {}, "extra": {}})
@example(content={"names": ["none"], "config": {}})
@example(content={"names": [{}], "config": {}})
@same_folder
def test_a_file_made_to_deceive_is_read_or_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "file"
    content = json.loads(json.dumps(content).replace("Infinity", "0"))
    for kind, load in (("checkpoint", load_checkpoint), ("model", load_model)):
        path.write_bytes(checkpoint._packed(kind, content, {"w": np.zeros(2)})[0])
        try:
            load(path)
        except CheckpointError as error:
            if str(path) not in str(error):
                pytest.fail(f"does not name the file: {error}")


def deep(levels: int) -> str:
    return '{"version":1,"kind":"checkpoint","content":' + "[" * levels + "]" * levels + "}"


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "{null}",
        "{}",
        '{"version": []}',
        '{"version": NaN}',
        '{"version": 1, "kind": "checkpoint"}',
        '{"version": 1, "kind": ["model"], "content": 1}',
        '{"version": 1, "kind": "checkpoint", "content": ' + "9" * 5000 + "}",
        deep(100_000),
    ],
    ids=lambda document: document[:50],
)
def test_a_document_that_is_none_is_refused_though_its_sum_is_right(
    tmp_path: Path, document: str
) -> None:
    path = tmp_path / "file"
    digest = checkpoint._digest(document, {})
    save_file({}, path, metadata={"scalargrad": checkpoint._sealed(document, digest)})
    assert right_or_refused(path, None)


def header(fields: str, data: bytes = b"") -> bytes:
    return len(fields).to_bytes(8, "little") + fields.encode() + data


ONE = '{"w":{"dtype":"%s","shape":%s,"data_offsets":[0,%d]}}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95",
        b"PK\x03\x04 a zip file of some other library",
        (2**63).to_bytes(8, "little") + b"{}",
        (99_000_000).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{",
        header("{}"),
        header("[]"),
        header(ONE % ("F64", "[NaN]", 8), b"\x00" * 8),
        header(ONE % ("F64", "[-1]", 8), b"\x00" * 8),
        header(ONE % ("F64", "[1.5]", 8), b"\x00" * 8),
        header(ONE % ("F64", "[1099511627776,1099511627776]", 0)),
        header(ONE % ("F64", "[1152921504606846976]", 8), b"\x00" * 8),
        header(ONE % ("F64", "[2]", 8), b"\x00" * 8),
        header(ONE % ("F64", "[125000000000]", 10**12), b"\x00" * 8),
        header(ONE % ("BF16", "[4]", 8), b"\x00" * 8),
        header(ONE % ("F128", "[1]", 16), b"\x00" * 16),
        header("[" * 100_000),
    ],
    ids=lambda data: repr(data[:60]),
)
def test_hostile_headers_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert right_or_refused(path, None)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_a_header_that_claims_a_terabyte_takes_no_memory(tmp_path: Path) -> None:
    script = """
        import resource, sys
        from pathlib import Path
        from scalargrad.checkpoint import load_checkpoint
        from scalargrad.errors import CheckpointError
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 64 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for path in sys.argv[1:]:
            try:
                load_checkpoint(path)
            except CheckpointError as error:
                assert "MemoryError" not in str(error), error
                print("refused")
    """
    claims = [
        header(ONE % ("F64", "[125000000000]", 10**12), b"\x00" * 8),
        (2**40).to_bytes(8, "little") + b"{}",
        (99_000_000).to_bytes(8, "little") + b"{}",
    ]
    paths = [tmp_path / str(k) for k in range(len(claims))]
    for path, claim in zip(paths, claims):
        path.write_bytes(claim)
    assert run(script, *map(str, paths)).split() == ["refused"] * len(claims)


def test_what_is_not_a_file_of_ours_is_named_with_the_remedy(tmp_path: Path, small: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no saved checkpoint is there.*none") as missing:
        load_checkpoint(tmp_path / "none")
    assert missing.value.filename == str(tmp_path / "none")
    with pytest.raises(CheckpointError, match="got a folder: name a file inside it"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="got a saved checkpoint: read it with load_check"):
        load_model(small)
    save_model(tmp_path / "model", {}, {})
    with pytest.raises(CheckpointError, match="got a saved model: read it with load_model"):
        load_checkpoint(tmp_path / "model")
    save_file({"w": np.zeros(1)}, tmp_path / "theirs")
    with pytest.raises(CheckpointError, match=r"use safetensors\.numpy\.load_file"):
        load_arrays(tmp_path / "theirs")


def test_a_file_of_a_later_version_says_so(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    save_checkpoint(small, model={}, optimizer={}, extra={})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 2, and this scalargrad reads format 1"):
        load_checkpoint(small)


@posix_only
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="got a device or pipe"):
        load_checkpoint(tmp_path / "pipe")


def test_a_file_that_may_not_be_read(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any, **options: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoint, "safe_open", refused)
    with pytest.raises(CheckpointError, match=r"small\.safetensors: may not be read: change its"):
        load_checkpoint(small)
