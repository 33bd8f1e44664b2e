"""Every sequence that is played, and the definitions that are the tests' own."""

from __future__ import annotations

from .sequence import Sequence
from .sequences_cluster import HAND_MADE, cluster
from .sequences_services import services

__all__ = ["HAND_MADE", "sequences"]


def sequences() -> tuple[Sequence, ...]:
    """All of them."""
    return (*services(), *cluster())
