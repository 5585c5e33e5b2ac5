"""A network of rectifiers learns y = |x1| + |x2| from points in a square.

    python examples/toy_regression.py

It has two inputs, eight hidden neurons and one output, and a rectifier, max(0, x), on every
neuron, the output too. As |x| = max(0, x) + max(0, -x), four of the eight would do: what is
learned is where to bend.
"""

import random

from scalargrad import data, losses, nn, optim
from scalargrad.train import Trainer

train, test = data.split(*data.toy_regression(300), held_out=100)

model = nn.MLP(2, [8, 1], activation="relu", output="relu", init="he", rng=random.Random(0))

# A rectifier whose input is below 0 at every point has no gradient and would never learn, so the
# output starts where the targets are on average.
model.layers[-1].neurons[0].b.data = train.y.mean()

epochs, batch_size = 100, 10
steps = epochs * len(train.x) // batch_size
trainer = Trainer(model, losses.mse, optim.SGD(lr=optim.cosine(0.05, steps=steps), momentum=0.9))
history = trainer.fit(*train, epochs, batch_size, validation=test)

for epoch in (1, 2, 5, 10, 20, 50, 100):
    print(
        f"epoch {epoch:3}: mean squared error {history.loss[epoch - 1]:.2e}, "
        f"on points held out {history.validation_loss[epoch - 1]:.2e}"
    )

print()
for x, y in zip(test.x[:5], trainer.predict(test.x[:5])):
    print(f"|{x[0]:+.3f}| + |{x[1]:+.3f}| = {abs(x).sum():.3f}, the network says {y:.3f}")
