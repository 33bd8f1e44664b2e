"""Fixtures of the end-to-end tests: one control plane and one operator for each worker, stacks under unique names.

With `CLUSTER=kind` the cluster is one of kind's, and tests that count requests are skipped: it has no audit log for us.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed import anycluster
from testbed.audit import Events
from testbed.controlplane import Cluster, ControlPlane
from testbed.gitrepo import GitRepository
from testbed.pytest_plugin import control_plane, own_control_plane, unique

from .bed import Bed, a_bed

__all__ = ["control_plane", "own_control_plane", "unique"]


@pytest.fixture(scope="session")
def running_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A control plane and an operator for all tests of this worker."""
    workdir: Path = tmp_path_factory.mktemp("bed")
    with a_cluster(workdir / "plane") as plane, a_bed(plane, workdir) as bed:
        yield bed


@contextlib.contextmanager
def a_cluster(workdir: Path) -> Iterator[Cluster]:
    """The test bed's control plane, or the cluster that CLUSTER asks for."""
    if os.environ.get("CLUSTER") == "kind":
        with anycluster.kind(workdir) as access:
            yield Auditless(access)
    else:
        with ControlPlane() as plane:
            yield plane.start(workdir=workdir)


class Auditless(Cluster):
    """A cluster whose requests nobody wrote down."""

    def audit_offset(self) -> int:
        pytest.skip("this cluster has no audit log")

    def audit(self, since: int = 0) -> Events:
        pytest.skip("this cluster has no audit log")

    def writes(self, since: int = 0, *, user_agent: str = "", username: str = "") -> list[dict[str, Any]]:
        pytest.skip("this cluster has no audit log")


@pytest.fixture
def bed(running_bed: Bed) -> Iterator[Bed]:
    """The worker's cluster and operator; stacks that a test makes are let go when it ends."""
    yield running_bed
    running_bed.close()


@pytest.fixture
def git(tmp_path: Path) -> GitRepository:
    """An empty Git repository."""
    return GitRepository(tmp_path / "repo.git").create()


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Bed]:
    """A control plane and an operator of this test's own, for what would disturb its neighbours."""
    with ControlPlane() as plane:
        plane.start(workdir=tmp_path / "plane")
        with a_bed(plane, tmp_path) as bed:
            yield bed
