"""exp, pow, tanh, log, log1p, sin and cos on vectors against the C library's, bit for bit, and that a difference is noticed."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import mpmath
import numpy as np
import pytest

pytest.importorskip("llvmlite")

import scalargrad as sg
from processes import run_python
from scalargrad import ops, rules
from scalargrad.compiler import (
    answers,
    arithmetic,
    exactcircle,
    exactlog,
    exactmath,
    image,
    llvm,
    native,
)
from scalargrad.compiler.loops import Apply, Loop, Loops, Operand, Space
from scalargrad.compiler.marks import marks_of_trace

RNG = np.random.default_rng(0)
SPECIAL = np.array(
    [
        *(0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 5e-324, -5e-324, 2.0**-1022, 1e308),
        *(512.0, -512.0, 511.99999999999994, -511.99999999999994, 709.782712893384, 709.79),
        *(-708.3964185322641, -708.4, -745.1332191019411, -745.14, -746.0, 2.0**-54, -(2.0**-54)),
        *(0.9999999999999999, 1.0000000000000002, -2.0, 3.0, 2.0**-1023, 1.7976931348623157e308),
    ]
)


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")
    answers.answers.cache_clear()
    yield
    monkeypatch.undo()
    answers.answers.cache_clear()


@pytest.fixture
def _vectors(monkeypatch):
    """Code with the vector forms, whatever library this is."""
    if not llvm.vector_bits()[2]:
        pytest.skip("this CPU cannot fuse a product with an addition")
    monkeypatch.setattr(native, "vector_forms", lambda: frozenset(arithmetic.VECTOR_FORMS))


def loops_of(op: int, count: int, arity: int, const: float) -> Loops:
    lanes, places = (
        (Loop(count),),
        [Operand(Space.PARAMETER, k * count, (1,)) for k in range(arity)],
    )
    step = Apply(Operand(Space.OUTPUT, 0, (1,)), lanes, op, tuple(places), const)
    return Loops((step,), {Space.PARAMETER: arity * count, Space.OUTPUT: count})


def compiled(op: int, *operands: np.ndarray, const: float = 0.0) -> np.ndarray:
    """op(*operands) by native code in exact mode."""
    loops = loops_of(op, len(operands[0]), len(operands), const)
    program = native.build(loops, dtype=str(operands[0].dtype))
    return program.execute({Space.PARAMETER: np.concatenate(operands)})[Space.OUTPUT]


def eager(op: int, *operands: np.ndarray, const: float = 0.0) -> np.ndarray:
    """op(*operands) by the engine."""
    count = len(operands[0])
    a, b = (*(x.tolist() for x in operands), [0.0] * count)[:2]
    return np.array(list(map(rules.evaluate, [op] * count, a, b, [const] * count)))


def assert_same(got: np.ndarray, expected: np.ndarray, *operands: np.ndarray) -> None:
    """The same bits; one nan is as good as another."""
    whole = f"i{got.itemsize}"
    other = (got.view(whole) != expected.view(whole)) & ~(np.isnan(got) & np.isnan(expected))
    assert not other.any(), [x[other][:3].tolist() for x in (*operands, got, expected)]


def anything(count: int) -> np.ndarray:
    """Any bits: of all sizes, subnormal, infinite, not numbers."""
    return RNG.integers(0, 2**64, count, dtype=np.uint64).view(np.float64)


def sprinkled(numbers: np.ndarray) -> np.ndarray:
    """Numbers of which one in fifty is anything: most vectors are simple, and many are not."""
    chosen = RNG.random(len(numbers)) < 0.02
    return np.where(chosen, anything(len(numbers)), numbers)


def exponents(count: int) -> np.ndarray:
    return np.concatenate(
        (
            *(SPECIAL, RNG.uniform(-512, 512, count), RNG.normal(size=count) * 3),
            *(sprinkled(RNG.normal(size=count)), RNG.uniform(-760, 720, count // 4)),
            RNG.choice([-1.0, 1.0], count) * 2.0 ** RNG.uniform(-80, 9, count),
        )
    )


def signals(count: int) -> np.ndarray:
    return np.concatenate(
        (
            *(SPECIAL, RNG.uniform(-2, 2, count), sprinkled(RNG.normal(size=count))),
            *(RNG.uniform(-25, 25, count), anything(count // 4)),
            RNG.choice([-1.0, 1.0], count) * 2.0 ** RNG.uniform(-1074, 5, count),
        )
    )


def bases(count: int) -> np.ndarray:
    return np.concatenate(
        (
            *(SPECIAL, 2.0 ** RNG.uniform(-300, 300, count), RNG.uniform(0.5, 2.0, count)),
            *(sprinkled(np.exp(RNG.normal(size=count))), anything(count // 4)),
            1.0 + RNG.choice([-1.0, 1.0], count) * 2.0 ** RNG.uniform(-53, -1, count),
        )
    )


@pytest.mark.parametrize("op", [ops.EXP, ops.SIGMOID])
def test_exponentials_are_the_librarys(op):
    x = exponents(100_000)
    assert_same(compiled(op, x), eager(op, x), x)


def test_hyperbolic_tangents_are_the_librarys():
    x = signals(100_000)
    assert_same(compiled(ops.TANH, x), eager(ops.TANH, x), x)


def test_logarithms_are_the_librarys():
    ends = [np.nextafter(end, way) for end in exactlog.NEAR for way in (0.0, end, np.inf)]
    x = np.concatenate((bases(100_000), RNG.uniform(0.9, 1.1, 100_000), ends))
    assert_same(compiled(ops.LOG, x), eager(ops.LOG, x), x)


def test_softplus_is_the_librarys():
    ends = np.log([exactlog.LARGE, exactlog.TINY, exactlog.NEARLY])
    ends = (ends.view(np.int64)[:, None] + np.arange(-50, 50)).view(np.float64).ravel()
    x = np.concatenate((exponents(100_000), RNG.uniform(-3, 3, 100_000), ends))
    assert_same(compiled(ops.SOFTPLUS, x), eager(ops.SOFTPLUS, x), x)


def angles(count: int) -> np.ndarray:
    ends = np.array(
        [getattr(exactcircle, name) for name in ("TINY", "SERIES_END", "NEAR", "MIDDLE", "FAR")]
    )
    ends = (ends.view(np.int64)[:, None] + np.arange(-40, 40)).view(np.float64).ravel()
    return np.concatenate(
        (
            *(SPECIAL, ends, -ends, np.arange(-count // 10, count // 10) * (np.pi / 2)),
            *(RNG.uniform(-1, 1, count), RNG.uniform(-3, 3, count), RNG.uniform(-100, 100, count)),
            *(RNG.uniform(-1e8, 1e8, count), sprinkled(RNG.normal(size=count))),
            RNG.choice([-1.0, 1.0], count) * 10 ** RNG.uniform(-12, 12, count),
        )
    )


@pytest.mark.parametrize("op", [ops.SIN, ops.COS])
def test_sines_and_cosines_are_the_librarys(op):
    x = angles(50_000)
    assert_same(compiled(op, x), eager(op, x), x)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sines_and_cosines_of_the_same_angles_are_the_librarys(dtype):
    with np.errstate(over="ignore"):
        x = angles(5_000).astype(dtype)
    count, lanes = len(x), (Loop(len(x)),)
    sine, cosine = (
        Apply(
            Operand(Space.OUTPUT, k * count, (1,)), lanes, op, (Operand(Space.PARAMETER, 0, (1,)),)
        )
        for k, op in enumerate((ops.SIN, ops.COS))
    )
    loops = Loops((sine, cosine), {Space.PARAMETER: count, Space.OUTPUT: 2 * count})
    program = native.build(loops, dtype=dtype)
    assert "@circle." in program.llvm_ir
    got = program.execute({Space.PARAMETER: x})[Space.OUTPUT]
    for k, op in enumerate((ops.SIN, ops.COS)):
        expected = eager(op, x).astype(dtype)
        assert_same(got[k * count : (k + 1) * count], expected, x)


@pytest.mark.parametrize("n", [-0.5, -1.5, 0.5, 3.0, 0.1, 1e-300, -1e300, np.inf, 0.0])
def test_constant_powers_are_the_librarys(n):
    x = bases(20_000)
    assert_same(compiled(ops.POW, x, const=n), eager(ops.POW, x, const=n), x)


def test_powers_are_the_librarys():
    x = bases(50_000)
    y = RNG.permutation(exponents(50_000)[: len(x)])
    y[::2] /= 256.0
    assert_same(compiled(ops.POWER, x, y), eager(ops.POWER, x, y), x, y)
    a, b = map(np.ravel, np.meshgrid(SPECIAL, SPECIAL))
    assert_same(compiled(ops.POWER, a, b), eager(ops.POWER, a, b), a, b)


def test_single_precision_rounds_the_librarys():
    with np.errstate(over="ignore"):
        x = exponents(20_000).astype(np.float32)
        assert_same(compiled(ops.EXP, x), eager(ops.EXP, x).astype(np.float32), x)
        assert_same(compiled(ops.TANH, x), eager(ops.TANH, x).astype(np.float32), x)
        expected = eager(ops.POW, abs(x), const=-1.5).astype(np.float32)
    assert_same(compiled(ops.POW, abs(x), const=-1.5), expected, x)


@pytest.mark.usefixtures("_vectors")
@pytest.mark.parametrize("bits", [256, 128])
def test_narrower_vectors_do_the_same(monkeypatch, bits):
    name, features = llvm.host()
    without = ",".join(f.replace("+", "-") if "avx512" in f else f for f in features.split(","))
    monkeypatch.setattr(llvm, "host", lambda: (name, without))
    monkeypatch.setattr(llvm, "vector_bits", lambda: (bits, 16, True))
    for name in arithmetic.VECTOR_FORMS:
        x, y = answers.questions(name)
        assert answers.digest(form(name, x, y)) == answers.EXPECTED[name]


# --- whether the library is one that computes so --------------------------------------------------


OPS = {
    **{"exp": ops.EXP, "tanh": ops.TANH, "log": ops.LOG, "log1p": ops.SOFTPLUS},
    **{"sin": ops.SIN, "cos": ops.COS},
}


def form(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What a vector form answers."""
    if name == "pow":
        return compiled(ops.POWER, x, y)
    return compiled(OPS[name], x)


def written_in(name: str) -> ModuleType:
    """The module of a form."""
    return next(m for m in (exactmath, exactlog, exactcircle) if name in m.FORMS)


def noticed(name: str) -> bool:
    """Whether a form's answers are other than they should be."""
    return answers.digest(form(name, *answers.questions(name))) != answers.EXPECTED[name]


def test_questions_are_about_all_rows_and_need_no_care():
    x, _ = answers.questions("exp")
    rows = np.rint(x * exactmath.PER_ROW).astype(np.int64) & 127
    assert np.bincount(rows, minlength=128).min() >= 5
    assert abs(x).max() < exactmath.LARGEST
    x, y = answers.questions("pow")
    rows = (x.view(np.int64) - exactmath.FIRST >> exactmath.BELOW) & 127
    assert np.bincount(rows, minlength=128).min() >= 5
    assert abs(y * np.log(x)).max() < exactmath.LARGEST
    x, _ = answers.questions("log")
    rows = (x.view(np.int64) - exactlog.FIRST >> exactmath.BELOW) & 127
    assert np.bincount(rows, minlength=128).min() >= 5
    assert x.min() >= exactmath.SMALLEST
    near = (x >= exactlog.NEAR[0]) & (x < exactlog.NEAR[1])
    assert 500 < near.sum() < len(x) - 500
    x, _ = answers.questions("sin")
    rows = np.rint(abs(x[abs(x) < exactcircle.NEAR]) * 128).astype(np.int64)
    assert np.bincount(rows)[16:].min() >= 5
    assert abs(x).max() < exactcircle.FAR


@pytest.mark.usefixtures("_vectors")
@pytest.mark.parametrize("name", arithmetic.VECTOR_FORMS)
def test_forms_answer_as_expected(name):
    assert not noticed(name)


def unfused(m: Any, a: str, b: str | float, c: str | float) -> str:
    b, c = (m.constant(x) if isinstance(x, float) else x for x in (b, c))
    return m.add(m.multiply(a, b), c)


# Which of the sums, in the order they are written, can be seen to be fused: elsewhere the product
# is exact, or its last bits are too far behind the result's.
@pytest.mark.usefixtures("_vectors")
@pytest.mark.parametrize(
    ("name", "place"),
    [
        *(("exp", k) for k in (0, 5, 7)),
        *(("pow", k) for k in (0, 3, 10, 12, 17, 19)),
        *(("tanh", k) for k in (1, 6, 7, 8, 9)),
        *(("log", k) for k in (0, 7, 8, 11, 16, 22)),
        *(("log1p", k) for k in (0, 3)),
        *(("sin", k) for k in (13, 14, 18, 19, 20, 26, 27)),
        *(("cos", k) for k in (14, 19, 20, 26, 27)),
    ],
)
def test_one_sum_that_is_not_fused_is_noticed(monkeypatch, name, place):
    module = written_in(name)
    right, seen = module.fused, []

    def planted(m, a, b, c):
        seen.append(None)
        return (unfused if len(seen) == place + 1 else right)(m, a, b, c)

    monkeypatch.setattr(module, "fused", planted)
    assert noticed(name)
    assert len(seen) > place


@pytest.mark.usefixtures("_vectors")
@pytest.mark.parametrize("name", arithmetic.VECTOR_FORMS)
def test_a_library_that_fuses_nothing_is_noticed(monkeypatch, name):
    monkeypatch.setattr(written_in(name), "fused", unfused)
    assert noticed(name)


@pytest.mark.usefixtures("_vectors")
@pytest.mark.parametrize("name", ["exp", "pow"])
def test_rounding_to_a_row_by_another_rule_is_noticed(monkeypatch, name):
    right = exactmath.fused

    def away(m, a, b, c):
        if b == exactmath.PER_ROW:
            product = m.multiply(a, m.constant(b))
            return m.add(m.intrinsic("round", product), m.constant(c))
        return right(m, a, b, c)

    monkeypatch.setattr(exactmath, "fused", away)
    assert noticed(name)


@pytest.mark.usefixtures("_vectors")
@pytest.mark.parametrize(
    ("name", "constants", "count"),
    [
        *(("exp", "ROW", 2), ("exp", "EXPONENTIAL", 4), ("pow", "LN2", 2), ("pow", "LOGARITHM", 4)),
        *(("tanh", "SHORT_LN2", 2), ("tanh", "QUOTIENT", 4)),
        *(("log", "LN2", 2), ("log", "SERIES", 4), ("log", "NEAR_SERIES", 11)),
        *(("log1p", "HALVED_LN2", 2), ("log1p", "ODD_SERIES", 7)),
        *((name, "HALF_PI", 2) for name in ("sin", "cos")),
        *((name, "PARTS", 3) for name in ("sin", "cos")),
        *((name, "SERIES", 4) for name in ("sin", "cos")),
        *((name, "SINE", 2) for name in ("sin", "cos")),
        *((name, "COSINE", 2) for name in ("sin", "cos")),
    ],
)
def test_another_constant_is_noticed(monkeypatch, name, constants, count):
    module = written_in(name)
    right = getattr(module, constants)
    for k in range(count):
        wrong = (*right[:k], right[k] * (1.0 + 2.0**-8), *right[k + 1 :])
        monkeypatch.setattr(module, constants, wrong)
        assert noticed(name), k


@pytest.mark.usefixtures("_vectors")
@pytest.mark.parametrize("way", [-1.0, 1.0])
@pytest.mark.parametrize(
    ("name", "end", "far"),
    [
        *[("tanh", "NEAREST", 2.0**-48), ("log1p", "LARGE", 2.0**-48)],
        *[(name, "NEAR", 2.0**-40) for name in ("sin", "cos")],
        *[(name, "MIDDLE", 2.0**-40) for name in ("sin", "cos")],
        ("sin", "SERIES_END", 2.0**-44),
    ],
)
def test_another_end_of_a_range_is_noticed(monkeypatch, name, end, far, way):
    module = written_in(name)
    monkeypatch.setattr(module, end, getattr(module, end) * (1.0 + way * far))
    assert noticed(name)


@pytest.mark.usefixtures("_vectors")
@pytest.mark.parametrize(
    ("name", "table", "column"),
    [
        *[("exp", "powers", 1), ("pow", "logarithms", 0), ("log", "intervals", 0)],
        *[("sin", "circle", 0), ("cos", "circle", 2)],
    ],
)
def test_another_row_is_noticed(monkeypatch, name, table, column):
    module = written_in(name)
    right = getattr(module, table)()
    # Angles are below 110 / 128, and the sines of small ones are a series.
    for row in range(18, 109, 9) if table == "circle" else range(0, 128, 9):
        wrong = [list(numbers) for numbers in right]
        wrong[row][column] += 1

        def planted(wrong=wrong):
            return wrong

        planted.__name__ = table
        monkeypatch.setattr(module, table, planted)
        assert noticed(name), row


def libraries() -> list[Path]:
    """The files of glibc's mathematics library in this process."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    return [Path(p) for p in {line.split()[-1] for line in lines} if "/libm.so.6" in p]


@pytest.mark.skipif(not libraries(), reason="not the GNU C library, or no way to find its file")
def test_tables_are_the_librarys():
    (path,) = libraries()
    content = path.read_bytes()
    for table in (exactmath.powers(), exactmath.logarithms(), exactlog.intervals()):
        assert np.array(table, "<i8").tobytes() in content


def called(op: int = ops.EXP) -> str:
    """The code of an op on many numbers."""
    return native.build(loops_of(op, 1000, 1, -0.5)).llvm_ir


@pytest.mark.usefixtures("_vectors")
def test_code_uses_the_forms():
    for op in (ops.EXP, ops.POW, ops.SIGMOID, ops.TANH, ops.LOG, ops.SOFTPLUS, ops.SIN, ops.COS):
        assert "@all." in called(op)


def test_a_library_with_one_other_answer_is_called_lane_by_lane(monkeypatch):
    right, (x, _) = rules.evaluate_all, answers.questions("exp")

    def other(op: int, a: memoryview, b: memoryview, found: memoryview) -> None:
        right(op, a, b, found)
        if op == ops.EXP:
            found[17] = math.nextafter(found[17], math.inf)

    before = dict(answers.answers())
    monkeypatch.setattr(rules, "evaluate_all", other)
    answers.answers.cache_clear()
    assert {k for k, v in answers.answers().items() if v != before[k]} == {"exp"}
    assert "exp" not in answers.vector_forms()
    assert "@all." not in called()
    monkeypatch.undo()
    assert_same(compiled(ops.EXP, x), eager(ops.EXP, x), x)


WITHOUT = """
import numpy as np
import scalargrad as sg
from scalargrad import ops, rules
from scalargrad.compiler import answers

f = sg.compile(lambda x: [v.exp() for v in x] + [v**-0.5 for v in x])
x = [0.37 * k + 0.1 for k in range(100)]
f(x)
f.native()
expected = [rules.evaluate(ops.EXP, v, 0.0, 0.0) for v in x]
expected += [rules.evaluate(ops.POW, v, 0.0, -0.5) for v in x]
print(np.array_equal(f(x), expected), answers.answers()["exp"], len(answers.vector_forms()))
"""


@pytest.mark.skipif(not libraries(), reason="what glibc may use of the CPU cannot be set")
def test_a_library_that_may_not_fuse_is_called_lane_by_lane():
    plain = run_python("-c", WITHOUT).split()
    other = run_python("-c", WITHOUT, GLIBC_TUNABLES="glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2").split()
    assert plain[0] == other[0] == "True"
    assert plain[1:] != other[1:] or plain[2] == "0"
    assert other[2] == "0"


def test_code_made_with_another_library_has_another_name(monkeypatch):
    trace = sg.compile(lambda x: x.exp(), backend="interpreter").trace(0.5)
    marks = marks_of_trace(trace)
    name = image.name_of(trace.tape, marks)
    assert image.name_of(trace.tape, marks) == name
    monkeypatch.setattr(image, "answers", lambda: {**answers.answers(), "tanh": "other"})
    assert image.name_of(trace.tape, marks) != name


def test_tables_are_rounded_from_the_numbers_themselves():
    def floats(*bits: int) -> list[float]:
        return np.array(bits, np.int64).view(np.float64).tolist()

    with localcontext() as context:
        context.prec = 60
        for i, (t, h) in enumerate(exactmath.powers()):
            low, high = floats(t, h + (i << exactmath.BELOW))
            power = Decimal(2) ** (Decimal(i) / exactmath.ROWS)
            assert high == float(power)
            assert low == float(power / Decimal(high) - 1)
        for row in exactmath.logarithms():
            inverse, nothing, short, rest = floats(*row)
            log = -Decimal(inverse).ln()
            assert nothing == 0.0
            assert short == round(log * 2**exactmath.POINT) / 2**exactmath.POINT
            assert rest == float(log - Decimal(short))
    with mpmath.workdps(50):
        for i, row in enumerate(exactcircle.circle()):
            for total, (first, rest) in zip(
                (mpmath.sin(mpmath.mpf(i) / 128), mpmath.cos(mpmath.mpf(i) / 128)),
                (floats(*row[:2]), floats(*row[2:])),
            ):
                assert first == float(total)
                assert rest == float(total - mpmath.mpf(first))
