"""`distinct`: the answers of `np.unique`, without what that imports."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalargrad.compiler.distinct import distinct


@given(st.lists(st.integers(-5, 5)), st.sampled_from((np.int8, np.int32, np.int64)))
def test_distinct_numbers_are_those_of_numpy(numbers: list[int], kind: type[np.signedinteger]):
    array = np.array(numbers, kind)
    before = array.copy()
    found = distinct(array)
    assert found.dtype == kind
    assert np.array_equal(found, np.unique(array))
    assert np.array_equal(array, before)


def test_compiling_does_not_import_masked_arrays():
    pytest.importorskip("llvmlite")
    program = (
        "import sys, scalargrad as sg\n"
        "model = sg.nn.MLP(3, [4, 1])\n"
        "f = sg.compile(lambda x: model(x).exp(), batch='mean')\n"
        "f.backward([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])\n"
        "f.native()\n"
        "sys.exit('numpy.ma' in sys.modules)"
    )
    environment = {**os.environ, "SCALARGRAD_CACHE": "0", "SCALARGRAD_VERIFY": "0"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
