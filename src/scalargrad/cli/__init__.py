"""The command `scalargrad`: train a network on one of four tasks, use it, look after the install.

scalargrad train toy|moons|digits|mnist    learn, and leave the model and pictures in a folder
scalargrad predict FOLDER                  ask the network that was trained there
scalargrad doctor                          what is installed, and what is missing
"""

from .command import main as main
