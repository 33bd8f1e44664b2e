"""A layer's desired state out of one snapshot, and the mailbox in which its newest version waits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Generic, TypeVar

from clusterstack.api.spec import LayerSpec
from clusterstack.core.content import Claim, Desired, Problem
from clusterstack.helm.spec import ReleaseSpec
from clusterstack.sources.fetcher import ResolvedChart

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReleaseContent:
    """A release and its resolved chart, or why there is none; `digest` covers both."""

    spec: ReleaseSpec
    chart: ResolvedChart | None
    problem: Problem | None
    digest: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Content:
    """What one layer wants; `digest` covers all of it but the revision. `broken`: the layer's own build failed, so that
    what it wants is Unknown, and nothing of it may be applied or deleted."""

    spec: LayerSpec
    revision: str
    digest: str
    desired: tuple[Desired, ...] = ()
    releases: tuple[ReleaseContent, ...] = ()
    problems: tuple[Problem, ...] = ()
    claims: tuple[Claim, ...] = ()
    broken: Problem | None = None
    warnings: tuple[str, ...] = ()

    @property
    def unknown_units(self) -> frozenset[str]:
        """Units whose desired state is not known: nothing of theirs may be deleted."""
        declared = (problem.unit for problem in self.problems if problem.unit)
        return frozenset([*declared, *(release.spec.id for release in self.releases if release.problem is not None)])

    @property
    def suspended(self) -> bool:
        """Whether any release is to be left as it is: what it has is not looked at, and so is not known either."""
        return any(release.spec.suspend for release in self.releases)


class Latest(Generic[T]):
    """Holds the newest value; a reader that was away sees only that one."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._number = 0
        self._changed = asyncio.Event()

    @property
    def value(self) -> T | None:
        return self._value

    @property
    def number(self) -> int:
        return self._number

    def put(self, value: T) -> None:
        """Replace the value and wake whoever waits for a newer one."""
        self._value, self._number = value, self._number + 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def newer(self, than: int) -> tuple[T, int]:
        """The value and its number, as soon as the number is greater."""
        while self._number <= than or self._value is None:
            await self._changed.wait()
        return self._value, self._number
