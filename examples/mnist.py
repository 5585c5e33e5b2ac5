"""Learn to read handwritten digits from MNIST's files, one number at a time.

    python examples/mnist.py --data DIR [--epochs 2] [--hidden 32] [--examples 9000]

DIR holds MNIST's test images, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, gzipped or not:
10,000 real images, of which 1,000 are held out. The training images are not needed (with
`scalargrad train mnist` they are used). Every pixel, weight, product and sum is a Value, some
51,700 of them for each image at the default size; the trainer traces them once and runs the
program that they are.
"""

import argparse
import random
import sys

from scalargrad import data, losses, nn, optim
from scalargrad.errors import DataError
from scalargrad.train import Trainer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--data", required=True, metavar="DIR", help="folder with the IDX files")
parser.add_argument("--epochs", type=int, default=2, help="how often to go through the images")
parser.add_argument("--hidden", type=int, default=32, help="neurons in the hidden layer")
parser.add_argument("--examples", type=int, default=9000, help="images to learn from")
parser.add_argument("--batch-size", type=int, default=16, help="images in a mini-batch")
parser.add_argument("--lr", type=float, default=0.01, help="learning rate at the start")
parser.add_argument("--seed", type=int, default=0, help="of the weights and the order of images")
options = parser.parse_args()

# 28 x 28 pixels from 0 to 1 in a row, and the digit they show.
try:
    images = data.mnist(options.data, part="test")
except DataError as error:
    sys.exit(
        f"{error}\nPass the folder with --data, or with make: make example_mnist DATA=FOLDER. "
        f"`scalargrad train mnist --data FOLDER --download` fetches the files."
    )
train, test = data.split(*images, held_out=1000)
x, y = train.x[: options.examples], train.y[: options.examples]

model = nn.MLP(784, [options.hidden, 10], init="he", rng=random.Random(options.seed))
print(f"{len(x):,} images to learn from, {len(model.parameters()):,} parameters")

# The learning rate falls to 0 along half a cosine; decay keeps weights that nothing needs small.
steps = options.epochs * -(-len(x) // options.batch_size)
optimizer = optim.AdamW(lr=optim.cosine(options.lr, steps=steps), weight_decay=0.1)

trainer = Trainer(model, losses.cross_entropy, optimizer, seed=options.seed)
history = trainer.fit(x, y, options.epochs, options.batch_size)
for epoch, (loss, accuracy) in enumerate(zip(history.loss, history.metrics["accuracy"]), start=1):
    print(f"epoch {epoch}: loss {loss:.3f}, accuracy {accuracy:.1%}")

held_out = trainer.evaluate(*test)
print(f"accuracy on {len(test.y):,} images held out: {held_out['accuracy']:.1%}")
