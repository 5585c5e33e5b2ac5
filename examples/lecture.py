"""The network of micrograd's lecture: four examples, 41 parameters, and every step in the open.

    python examples/lecture.py

A network with three inputs, two layers of four neurons and one output learns to answer 1 or -1
to four points. Nothing is hidden in a trainer: the loss is an expression of Values, `backward()`
is the chain rule, and Adam moves the parameters downhill.
"""

import random

from scalargrad import data, functional, losses, nn, optim

EPOCHS = 200

xs, ys = data.four_samples()

model = nn.MLP(3, [4, 4, 1], activation="leaky_relu", rng=random.Random(1))
print(model)
print(f"{len(model.parameters())} parameters: (3 + 1) * 4 + (4 + 1) * 4 + (4 + 1) * 1")

optimizer = optim.Adam(model.parameters(), lr=0.05)
for epoch in range(1, EPOCHS + 1):
    # Forward: what the network says to each point, and how far that is from the truth.
    loss = functional.mean([losses.mse(model(x), y) for x, y in zip(xs, ys)])

    # Backward: the derivative of the loss with respect to every parameter.
    optimizer.zero_grad()
    loss.backward()

    # A step downhill.
    optimizer.step()

    if epoch == 1 or epoch % 20 == 0:
        print(f"epoch {epoch:3}: mean squared error {loss.data:.2e}")

print()
for x, y in zip(xs, ys):
    print(f"{x} -> {model(x).data:+.4f}, should be {y:+.0f}")

# Looking inside: what each of the four points has to say about the last bias.
bias = model.layers[-1].neurons[0].b
loss = functional.mean([losses.mse(model(x), y) for x, y in zip(xs, ys)])
print()
print(bias.explain(loss, names={"loss": loss, "bias": bias}))
