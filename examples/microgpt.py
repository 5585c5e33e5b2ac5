"""microgpt, written out in single numbers, and then compiled.

    python examples/microgpt.py [--steps 1000]

Karpathy's microgpt goes on where micrograd's lecture ends: the same `Value`, and with it a whole
GPT that learns to invent names. Here it is once more, with nothing between you and the arithmetic:
`logits` reads a name letter by letter and says at each which letter it expects next. It is run on
Values, as in the lecture, and then by `sg.compile`, which makes machine code of the very same
functions: the same bits, hundreds of times as fast.

Three lines are written otherwise than in microgpt, so that what is traced once is right for every
name. They are marked:

 1. `sg.take(table, token)` instead of `table[token]`: which row it is depends on the name.
 2. The largest number of a softmax is an operation, `sg.maximum`, and not read with `.data`.
 3. The letter that came is taken with `sg.take`, too.

Write one of them as microgpt does, and the error message says where, and what to write instead.
The next step is `names_gpt.py`, the same model made of the library's parts.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable

from names_gpt import NAMES

import scalargrad as sg
from scalargrad import Value

Vector = list[Value]
Matrix = list[Vector]

WIDTH, HEADS, CONTEXT = 16, 4, 16
HEAD = WIDTH // HEADS

names = NAMES.split()
letters = sorted(set("".join(names)))
END = len(letters)  # stands before and after each name
tokens_of = {name: [END, *map(letters.index, name), END] for name in names}

# --- the parameters -------------------------------------------------------------------------------

rng = random.Random(42)


def matrix(rows: int, columns: int) -> Matrix:
    """Small random numbers."""
    return [[Value(rng.gauss(0.0, 0.08)) for _ in range(columns)] for _ in range(rows)]


letter_table, place_table = matrix(END + 1, WIDTH), matrix(CONTEXT, WIDTH)
query, key, value, mix = (matrix(WIDTH, WIDTH) for _ in range(4))
widen, narrow = matrix(4 * WIDTH, WIDTH), matrix(WIDTH, 4 * WIDTH)
head = matrix(END + 1, WIDTH)
matrices = (letter_table, place_table, query, key, value, mix, widen, narrow, head)
parameters = [number for each in matrices for row in each for number in row]

# --- the model ------------------------------------------------------------------------------------


def dot(a: Vector, b: Vector) -> Value:
    """The sum of the products."""
    return sum(x * y for x, y in zip(a, b))


def linear(w: Matrix, x: Vector) -> Vector:
    """A matrix times a vector."""
    return [dot(row, x) for row in w]


def plus(a: Vector, b: Vector) -> Vector:
    """The sums, number by number."""
    return [x + y for x, y in zip(a, b)]


def normed(x: Vector) -> Vector:
    """x, scaled so that the mean of its squares is 1."""
    scale = (dot(x, x) / len(x) + 1e-5) ** -0.5
    return [number * scale for number in x]


def softmax(x: Vector) -> Vector:
    """Probabilities: exp(x), divided by their sum."""
    largest = sg.maximum(*x).detach()  # (2) in microgpt: max(v.data for v in x)
    powers = [(number - largest).exp() for number in x]
    total = sum(powers)
    return [power / total for power in powers]


def logits(tokens: list[int]) -> list[Vector]:
    """At each position how likely every letter is to come next: the logarithms, but for a sum."""
    keys: list[Vector] = []
    values: list[Vector] = []
    answers = []
    for place, token in enumerate(tokens):
        x = plus(sg.take(letter_table, token), place_table[place])  # (1) letter_table[token]
        x = normed(x)

        # Attention: each head looks back at the places that its query matches.
        y = normed(x)
        q = linear(query, y)
        keys.append(linear(key, y))
        values.append(linear(value, y))
        seen = []
        for part in (slice(h, h + HEAD) for h in range(0, WIDTH, HEAD)):
            weights = softmax([dot(q[part], k[part]) / HEAD**0.5 for k in keys])
            seen += [dot(weights, list(column)) for column in zip(*(v[part] for v in values))]
        x = plus(x, linear(mix, seen))

        # Two layers with a ReLU between them think about what was seen.
        hidden = [number.relu() for number in linear(widen, normed(x))]
        x = plus(x, linear(narrow, hidden))
        answers.append(linear(head, x))
    return answers


def loss(tokens: list[int]) -> Value:
    """The mean over the letters of -log(how likely it was thought to be)."""
    each = [
        -sg.take(softmax(answer), following).log()  # (3) softmax(answer)[following]
        for answer, following in zip(logits(tokens[:-1]), tokens[1:])
    ]
    return sum(each) / len(each)


# --- learning -------------------------------------------------------------------------------------


def learn(backward: Callable[[list[int]], float], steps: int) -> list[float]:
    """Start from the same parameters and take some steps; the loss before each."""
    for parameter, number in zip(parameters, START):
        parameter.data = number
    optimizer = sg.optim.Adam(parameters, lr=sg.optim.linear(0.01, steps=steps), betas=(0.85, 0.99))
    drawn = random.Random(1)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        losses.append(backward(tokens_of[drawn.choice(names)]))
        optimizer.step()
    return losses


START = [parameter.data for parameter in parameters]


def eagerly(tokens: list[int]) -> float:
    """Every number a Value, as in the lecture: run forwards, run backwards, forget."""
    result = loss(tokens)
    result.backward()
    return result.data


def invented(next_letter: Callable[[list[int]], list[float]], rng: random.Random) -> str:
    """A name, one letter after the other, each drawn as likely as the model thinks it is."""
    tokens = [END]
    while len(tokens) < CONTEXT:
        (token,) = rng.choices(range(END + 1), next_letter(tokens))
        if token == END:
            break
        tokens.append(token)
    return "".join(letters[token] for token in tokens[1:])


def main() -> None:
    """Learn in both ways, compare, and invent names."""
    parser = argparse.ArgumentParser(description="microgpt, eager and compiled.")
    parser.add_argument("--steps", type=int, default=1000, help="names to learn from, compiled")
    steps = parser.parse_args().steps
    print(f"{len(names)} names, {len(parameters):,} parameters, each a Value")

    compiled = sg.compile(loss)
    few = 10
    started = time.perf_counter()
    expected = learn(eagerly, few)
    eager_seconds = (time.perf_counter() - started) / few
    same = learn(compiled.backward, few) == expected
    print(f"{few} steps, eager and compiled: {'the same' if same else 'NOT the same'} bits")

    started = time.perf_counter()
    losses = learn(compiled.backward, steps)
    seconds = time.perf_counter() - started
    recent = losses[-100:]
    print(f"loss {losses[0]:.2f} at the start, {sum(recent) / len(recent):.2f} at the end")
    print(f"{steps:,} names read in {seconds:.1f} s, compiling included")

    # Machine code is made in the background; for two seconds, as quick as it gets.
    name, seconds, end = "heinrich", math.inf, time.perf_counter() + 2.0
    while (started := time.perf_counter()) < end:
        compiled.backward(tokens_of[name])
        seconds = min(seconds, time.perf_counter() - started)
    print(
        f"forwards and backwards through {name!r}: {seconds * 1e6:.0f} µs; "
        f"an eager step took {eager_seconds * 1e3:.0f} ms"
    )

    # A program for each length, as there is for learning; here without gradients.
    next_letter = sg.compile(lambda tokens: softmax([x / 0.5 for x in logits(tokens)[-1]]))
    print("invented (* is a name it was shown):")
    for _ in range(10):
        name = invented(next_letter, rng)
        print(f"  {name}{' *' if name in names else ''}")


if __name__ == "__main__":
    main()
