"""The cache of machine code: what it keeps, what it ignores, and that it stays within bounds."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from scalargrad import ops
from scalargrad.compiler import cache, native
from scalargrad.compiler.cache import MAGIC, SUFFIX, Cache, key
from scalargrad.compiler.loops import Apply, Loop, Loops, Operand, Space

NAME = key(("some", "code"))


def test_what_was_put_is_there_for_another_process(tmp_path):
    Cache(tmp_path / "deep").put(NAME, b"machine code")
    assert Cache(tmp_path / "deep").get(NAME) == b"machine code"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [NAME + SUFFIX]


def test_what_is_not_there_is_not_there(tmp_path):
    assert Cache(tmp_path).get(NAME) is None
    assert Cache(tmp_path / "missing").get(NAME) is None


def test_keys_depend_on_every_part_and_on_where_it_ends():
    keys = {key(("ab", "c")), key(("a", "bc")), key(("abc",)), key(("ab", "d")), key(("c", "ab"))}
    assert len(keys) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:10],
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: b"foreign" + content,
        lambda content: content[:-3] + b"XYZ",
        lambda content: content.replace(MAGIC, MAGIC[:-2] + b"9\n"),
        lambda content: content[: len(MAGIC) + 32],
    ],
)
def test_damaged_and_foreign_entries_are_ignored_and_rebuilt(tmp_path, damage):
    kept = Cache(tmp_path)
    kept.put(NAME, b"machine code")
    path = tmp_path / (NAME + SUFFIX)
    path.write_bytes(damage(path.read_bytes()))
    assert kept.get(NAME) is None
    kept.put(NAME, b"machine code")
    assert kept.get(NAME) == b"machine code"


def test_an_entry_under_another_name_is_foreign(tmp_path):
    kept, other = Cache(tmp_path), key(("other",))
    kept.put(NAME, b"machine code")
    os.rename(tmp_path / (NAME + SUFFIX), tmp_path / (other + SUFFIX))
    assert kept.get(other) is None


def test_the_least_recently_used_go_first(tmp_path):
    kept = Cache(tmp_path, limit=3000)
    names = [key((str(k),)) for k in range(4)]
    for k, name in enumerate(names[:3]):
        kept.put(name, bytes(900))
        os.utime(tmp_path / (name + SUFFIX), (1000 + k, 1000 + k))
    assert kept.get(names[0]) is not None  # used now, so no longer the oldest
    kept.put(names[3], bytes(900))
    assert [kept.get(name) is not None for name in names] == [True, False, True, True]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3000


def test_code_larger_than_the_limit_is_not_kept(tmp_path):
    kept = Cache(tmp_path, limit=100)
    kept.put(NAME, bytes(200))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    kept = Cache(blocked)
    kept.put(NAME, b"machine code")
    assert kept.get(NAME) is None


def test_threads_that_write_the_same_entry_leave_it_whole(tmp_path):
    kept, code = Cache(tmp_path), bytes(range(256)) * 400
    seen = []

    def work() -> None:
        for _ in range(20):
            kept.put(NAME, code)
            seen.append(kept.get(NAME))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {code}
    assert [path.suffix for path in tmp_path.iterdir()] == [SUFFIX]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the custom of other systems")
def test_the_folder_follows_the_users_settings(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.directory() == Path("/somewhere/scalargrad")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification says: ignore it
    assert cache.directory() == Path.home() / ".cache" / "scalargrad"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.directory() == Path.home() / ".cache" / "scalargrad"


# --- with real code -------------------------------------------------------------------------------


def doubled() -> Loops:
    lanes, x = (Loop(5),), Operand(Space.PARAMETER, 0, (1,))
    step = Apply(Operand(Space.OUTPUT, 0, (1,)), lanes, ops.ADD, (x, x))
    return Loops((step,), {Space.PARAMETER: 5, Space.OUTPUT: 5})


def answer(program: native.NativeProgram) -> list[float]:
    numbers = {Space.PARAMETER: np.arange(5.0)}
    return program.execute(numbers)[Space.OUTPUT].tolist()


def test_a_program_is_compiled_once(tmp_path, monkeypatch):
    pytest.importorskip("llvmlite")
    monkeypatch.delenv("SCALARGRAD_CACHE", raising=False)
    kept = Cache(tmp_path)
    first, second = (native.build(doubled(), cache=kept) for _ in range(2))
    assert (first.cached, second.cached) == (False, True)
    assert answer(first) == answer(second) == [0.0, 2.0, 4.0, 6.0, 8.0]
    fast = native.build(doubled(), mode="exact", dtype="float32", cache=kept)
    assert not fast.cached


def test_the_cache_can_be_turned_off(tmp_path, monkeypatch):
    pytest.importorskip("llvmlite")
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")
    kept = Cache(tmp_path)
    for _ in range(2):
        program = native.build(doubled(), cache=kept)
        assert not program.cached
        assert answer(program) == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert list(tmp_path.iterdir()) == []
