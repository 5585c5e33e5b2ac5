"""A GPT that learns to invent names, every number of it a Value.

    python examples/names_gpt.py                    # the names below
    python examples/names_gpt.py --data names.txt   # your own: any text file with one name a line

The model and its training are those of Karpathy's microgpt: it reads a name letter by letter, says
at every position which letter it expects next, and Adam makes the letters that came likelier.
"""

from __future__ import annotations

import argparse
import random
import time

import scalargrad as sg

NAMES = """
ada adele agnes alan albert alice alma amelie anna anton arthur astrid august bella benno bertha
bruno carla cecilia clara conrad dora edgar edith elena elias elisa emil emilia emma erik ernst
felix flora frida fritz georg greta gustav hanna hannah harald hedwig heinrich helena henri hilda
hugo ida ines irma iris isabella jakob jana johanna jonas josef julia julian karl karla klara
konrad lara laura lea leander lena leo leon leonie liam lina linda linus lisa lorena louis luca
lucia ludwig luisa magda magnus maja manuel mara marcel maria marie marina mario marlene martha
martin mathilda max melina mia mila mina mira moritz nadia nathan nela nina nora olga oliver
oskar otto paul paula pauline peter philine rafael robert romy rosa rosalie rudolf ruth samuel
sara selma simon sofia sophie stella theo theresa thomas tilda tim ursula valentin vera viktor
viola walter wilma
"""


def train(names: list[str], steps: int, rng: random.Random) -> tuple[sg.nn.GPT, list[float]]:
    """A model that has seen `steps` names, and its loss on each before it learned from it."""
    vocabulary = sg.data.Vocabulary.of(names)
    context = min(max(map(len, names)) + 1, 16)
    model = sg.nn.GPT(len(vocabulary), context, width=16, heads=4, layers=1, rng=rng)
    optimizer = sg.optim.Adam(model.parameters(), lr=0.01, betas=(0.85, 0.99))

    # The letters are an argument: one program serves all names of one length.
    @sg.compile
    def loss(tokens: list[sg.Value]) -> sg.Value:
        return sg.losses.cross_entropy(model(tokens[:-1]), tokens[1:])

    losses = []
    for step in range(steps):
        optimizer.lr = 0.01 * (1 - step / steps)
        tokens = vocabulary.encode(rng.choice(names))[: context + 1]
        optimizer.zero_grad()
        losses.append(loss.backward(tokens))
        optimizer.step()
    return model, losses


def main() -> None:
    """Train, and let the model invent names."""
    parser = argparse.ArgumentParser(description="A GPT that learns to invent names.")
    parser.add_argument("--data", help="a text file with one name a line")
    parser.add_argument("--steps", type=int, default=1000, help="names to learn from")
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()

    rng = random.Random(options.seed)
    names = sg.data.names(options.data) if options.data else NAMES.split()
    started = time.perf_counter()
    model, losses = train(names, options.steps, rng)
    seconds = time.perf_counter() - started
    print(f"{len(names):,} names, {len(model.parameters()):,} parameters, each a Value")
    recent = losses[-100:]
    print(f"loss {losses[0]:.2f} at the start, {sum(recent) / len(recent):.2f} at the end", end="")
    print(f"; {options.steps:,} names read in {seconds:.1f} s")

    vocabulary, known = sg.data.Vocabulary.of(names), set(names)
    print("invented (* is a name it was shown):")
    for _ in range(20):
        tokens = model.generate([vocabulary.bos], stop=vocabulary.bos, temperature=0.5, rng=rng)
        name = vocabulary.decode(tokens)
        print(f"  {name}{' *' if name in known else ''}")


if __name__ == "__main__":
    main()
