"""What is counted while a program is rolled."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Stats:
    """How a program was rolled: sizes of the stages, seconds each took."""

    nodes: int = 0
    flat: int = 0
    derived: int = 0
    live: int = 0
    packs: int = 0
    instructions: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
