"""Finding dead neurons, and a page to look at them.

    python examples/dead_neurons.py graph.html

A network of 2-16-16-1 ReLU neurons starts with biases so low that some neurons give 0 for every
point. Then their gradients are 0, too, and they stay as they are. The page opens the network layer
by layer, lists such neurons in its panel, and steps through `backward()` to show that nothing
arrives there.
"""

import random
import sys

import scalargrad as sg

rng = random.Random(3)
model = sg.nn.MLP(2, [16, 16, 1], rng=rng)
for neuron in model.layers[0].neurons:
    neuron.b.data = -0.8

xs, ys = sg.data.moons(n=20, noise=0.1, labels=(-1, 1))
loss = sg.mean([sg.losses.hinge(model(x), y) for x, y in zip(xs.tolist(), ys.tolist())])
loss.backward()

for k, layer in enumerate(model.layers):
    dead = [
        j
        for j, neuron in enumerate(layer.neurons)
        if all(parameter.grad == 0.0 for parameter in neuron.parameters())
    ]
    print(f"layers[{k}]: {len(dead)} of {len(layer.neurons)} neurons get no gradient: {dead}")

page = sg.explore(loss, names={"model": model, "loss": loss})
path = page.save(sys.argv[1] if len(sys.argv) > 1 else "graph.html")
print(f"{page.nodes:,} numbers in {path}: open it in a browser, then model, layers[0]")
