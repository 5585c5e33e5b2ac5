"""The way to the modules for other libraries: found by name, loaded when used."""

from __future__ import annotations

import pytest

import scalargrad as sg
from processes import run_python

MODULES = dir(sg.interop)


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match="no attribute 'keras': it has"):
        _ = sg.interop.keras
    assert not hasattr(sg.interop, "__wrapped__")


@pytest.mark.parametrize("name", MODULES)
def test_without_its_library_a_module_says_what_to_install(name: str) -> None:
    script = f"""
import sys
sys.modules[{name!r}] = None
import scalargrad as sg
assert {name!r} in dir(sg.interop)
for way in ("sg.interop.{name}", "__import__('scalargrad.interop.{name}')"):
    try:
        eval(way)
    except sg.MissingExtraError as error:
        print(error)
"""
    lines = run_python("-c", script).splitlines()
    assert len(lines) == 2
    assert all(line.endswith(f"pip install 'scalargrad[{name}]' adds it") for line in lines)
