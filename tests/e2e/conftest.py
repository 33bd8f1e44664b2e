"""Fixtures of the end-to-end tests: one control plane and one operator for each worker, stacks under unique names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.controlplane import ControlPlane
from testbed.gitrepo import GitRepository
from testbed.pytest_plugin import control_plane, own_control_plane, unique

from .bed import Bed, a_bed

__all__ = ["control_plane", "own_control_plane", "unique"]


@pytest.fixture(scope="session")
def running_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A control plane and an operator for all tests of this worker."""
    workdir: Path = tmp_path_factory.mktemp("bed")
    with ControlPlane() as plane:
        plane.start(workdir=workdir / "plane")
        with a_bed(plane, workdir) as bed:
            yield bed


@pytest.fixture
def bed(running_bed: Bed) -> Iterator[Bed]:
    """The worker's cluster and operator; stacks that a test makes are let go when it ends."""
    yield running_bed
    running_bed.close()


@pytest.fixture
def git(tmp_path: Path) -> GitRepository:
    """An empty Git repository."""
    return GitRepository(tmp_path / "repo.git").create()
