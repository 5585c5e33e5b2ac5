"""Training steps against every peer: a classifier of points, one of images, a language model."""

from __future__ import annotations

from benchmarks import tasks
from benchmarks.bars import Bar
from benchmarks.steps import Times, measure

EXACT, FAST, SINGLE = ("exact", "float64"), ("fast", "float64"), ("fast", "float32")
PEERS = ("NumPy", "PyTorch", "JAX jit", "JAX scan")
DOUBLE = [(name, "float64") for name in PEERS]
BOTH = [(name, dtype) for name in PEERS for dtype in ("float64", "float32")]


def times_as_fast(
    times: Times, peer: tuple[str, str], ours: tuple[str, str], bar: float, text: str = ""
) -> Bar:
    """A bar on how many times as long a peer's step takes as the machine code of ours.

    What a call from Python adds has a bar of its own; the step with it is printed beside.
    """
    name = peer[0] if ours[1] == peer[1] == "float64" else " ".join(peer)
    wanted = f"≥ {bar:,g} × {name}, {' '.join(ours)}"
    step = times.ratio(peer, (*ours, "step"))
    code = times.ratio(peer, (*ours, "code"))
    if step is None or code is None:
        return Bar(times.task.name, text or wanted, times.missing[peer[0]], None)
    form = ",.0f" if step >= 1000 else ",.3g"
    reached = f"{code:{form}} × ({step:{form}} × from Python)"
    return Bar(times.task.name, text or wanted, reached, code >= bar)


def moons(compiled: bool) -> list[Bar]:
    """A batch of 100 points through 2-16-16-1."""
    peers = [*DOUBLE, ("C", "float64"), *_more(compiled)]
    times = measure(tasks.moons(), peers, [EXACT, FAST, SINGLE], fit=True)
    print(times.table(), "\n")
    return [
        times_as_fast(times, ("NumPy", "float64"), EXACT, 12),
        times_as_fast(times, ("NumPy", "float64"), FAST, 15),
    ]


def images(compiled: bool) -> list[Bar]:
    """A batch of 64 images through 784-128-10, by SGD."""
    times = measure(tasks.images("SGD"), [*BOTH, *_more(compiled)], [EXACT, FAST, SINGLE])
    print(times.table(), "\n")
    code, step = (
        times.seconds[(*FAST, part)] / times.seconds[(*SINGLE, part)] for part in ("code", "step")
    )
    reached = f"{code:.2f} × ({step:.2f} × from Python)"
    bar = Bar(times.task.name, "float32 ≥ 1.7 × our float64, fast", reached, code >= 1.7)
    return [
        times_as_fast(times, ("NumPy", "float64"), EXACT, 1.5),
        times_as_fast(times, ("NumPy", "float64"), FAST, 1.5),
        bar,
    ]


def images_adam(compiled: bool) -> list[Bar]:
    """The same by Adam."""
    times = measure(tasks.images("Adam"), [*BOTH, *_more(compiled)], [EXACT, FAST, SINGLE])
    print(times.table(), "\n")
    return [
        times_as_fast(
            times, ("JAX jit", kind[1]), kind, 1, f"faster than JAX jit, {' '.join(kind)}"
        )
        for kind in (EXACT, FAST, SINGLE)
    ]


def document(compiled: bool) -> list[Bar]:
    """A document of 8 letters through a small GPT, by Adam."""
    others = [("NumPy plain", "float64"), ("plain Python", "float64"), ("C", "float32")]
    peers = [*DOUBLE, *others, *_more(compiled)]
    times = measure(tasks.documents(), peers, [EXACT, FAST, SINGLE], fit=True)
    print(times.table(), "\n")
    return [
        *(
            times_as_fast(times, (peer, "float64"), ours, bar)
            for peer in ("NumPy plain", "NumPy")
            for ours, bar in ((EXACT, 20), (FAST, 30))
        ),
        times_as_fast(times, ("plain Python", "float64"), EXACT, 8000),
    ]


def documents(compiled: bool) -> list[Bar]:
    """Sixteen such documents in one step."""
    peers = [*BOTH, ("C", "float32"), *_more(compiled)]
    times = measure(tasks.documents(16), peers, [EXACT, FAST, SINGLE], fit=True)
    print(times.table(), "\n")
    text = "faster than hand-tuned C, fast float32"
    bar = times_as_fast(times, ("C", "float32"), SINGLE, 1, text)
    if bar.met is None:
        return [bar]
    each = [times.seconds[k] / 16e-6 for k in ((*SINGLE, "step"), ("C", "float32"))]
    reached = f"{bar.reached}; {each[0]:.1f} µs a document, C {each[1]:.1f}"
    return [Bar(bar.work, bar.bar, reached, bar.met)]


def _more(compiled: bool) -> list[tuple[str, str]]:
    return [("torch.compile", "float64")] if compiled else []
