"""Training: mini-batch gradient descent, and what a person wants around it.

    trainer = Trainer(model, losses.cross_entropy, optim.Adam(lr=1e-2))
    history = trainer.fit(x, y, epochs=20, batch_size=32, validation=(xv, yv))
    history.plot(), trainer.evaluate(xv, yv), trainer.predict(xv)

The mathematics is `EagerStep`: the gradients of one mini-batch. The rest decides which examples
come next, measures how well it goes, and sees to it that a run can be stopped at any moment, by
Ctrl-C or by a power cut, and go on later to the same bits.
"""

from .early_stopping import EarlyStopping as EarlyStopping
from .examples import Batch as Batch
from .examples import Example as Example
from .examples import Examples as Examples
from .examples import plain_numbers as plain_numbers
from .history import History as History
from .metrics import accuracy as accuracy
from .step import EagerStep as EagerStep
from .step import Fault as Fault
from .step import Outcome as Outcome
from .step import Step as Step
from .trainer import Trainer as Trainer
