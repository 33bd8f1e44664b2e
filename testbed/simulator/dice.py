"""Delays that depend on nothing but the seed and the object's identity, so that a run can be repeated."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dice:
    """Draws seconds, uniform in [minimum, maximum] times scale."""

    seed: int
    minimum: float
    maximum: float
    scale: float

    def seconds(self, kind: str, namespace: str, name: str) -> float:
        draw = random.Random(f"{self.seed}/{kind}/{namespace}/{name}").uniform(self.minimum, self.maximum)
        return draw * self.scale
