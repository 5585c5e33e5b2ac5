"""The cache of machine code: what it keeps, what it ignores, and that it stays within bounds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from scalargrad.compiler import cache
from scalargrad.compiler.cache import MAGIC, SUFFIX, Cache, key
from threads import in_threads

NAME = key((b"some", b"code"))


def test_what_was_put_is_there_for_another_process(tmp_path):
    Cache(tmp_path / "deep").put(NAME, b"machine code")
    assert Cache(tmp_path / "deep").get(NAME) == b"machine code"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [NAME + SUFFIX]


def test_what_is_not_there_is_not_there(tmp_path):
    assert Cache(tmp_path).get(NAME) is None
    assert Cache(tmp_path / "missing").get(NAME) is None


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    Cache().put(NAME, b"machine code")
    assert Cache().get(NAME) is None


def test_keys_depend_on_every_part_and_on_where_it_ends():
    parts = ((b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"ab", b"d"), (b"c", b"ab"))
    keys = {key(each) for each in parts}
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
    kept, other = Cache(tmp_path), key((b"other",))
    kept.put(NAME, b"machine code")
    os.rename(tmp_path / (NAME + SUFFIX), tmp_path / (other + SUFFIX))
    assert kept.get(other) is None


def test_the_least_recently_used_go_first(tmp_path):
    kept = Cache(tmp_path, limit=3000)
    names = [key((str(k).encode(),)) for k in range(4)]
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

    in_threads(*[work] * 4)
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
