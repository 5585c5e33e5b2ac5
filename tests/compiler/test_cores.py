"""How many threads are used by default."""

from __future__ import annotations

import os

import pytest

from processes import run_python
from scalargrad.compiler import cores

ASK = "import scalargrad as sg; print(sg.get_num_threads())"


@pytest.fixture(autouse=True)
def _fresh():
    cores.threads_by_default.cache_clear()
    yield
    cores.threads_by_default.cache_clear()


def test_the_cores_of_this_process_are_the_default(monkeypatch, tmp_path):
    monkeypatch.delenv(cores.VARIABLE, raising=False)
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 5}, raising=False)
    assert cores.threads_by_default() == 3


@pytest.mark.parametrize(
    ("quota", "count"), [("150000 100000", 2), ("max 100000", 4), ("1000 100000", 1), ("", 4)]
)
def test_a_container_may_have_fewer(quota, count, monkeypatch, tmp_path):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    assert cores.cores() == count


@pytest.mark.pure
def test_the_environment_says_how_many():
    assert run_python("-c", ASK, SCALARGRAD_NUM_THREADS="3").strip() == "3"


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5"])
def test_nonsense_in_the_environment_is_named(given, monkeypatch):
    monkeypatch.setenv(cores.VARIABLE, given)
    with pytest.raises(ValueError, match=f"SCALARGRAD_NUM_THREADS.*at least 1.*{given}"):
        cores.threads_by_default()
