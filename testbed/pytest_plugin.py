"""Fixtures for tests against a real control plane. A conftest.py takes them by importing their names."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from testbed import keeper
from testbed.controlplane import Cluster, ControlPlane


class StartControlPlane(Protocol):
    """Starts a control plane for one test; the arguments are those of ControlPlane.start, beside workdir."""

    def __call__(
        self,
        *,
        webhooks: bool = True,
        controllers: bool = True,
        kwok: bool = True,
        audit: bool = True,
        nodes: int = 1,
        api_server_flags: tuple[str, ...] = (),
        kwok_config: Path | None = None,
    ) -> ControlPlane: ...


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane that all tests of a run share, in every worker: put what you make under `unique` names.

    Tests that touch CRDs, webhooks, APIServices or discovery take `own_control_plane`.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    with keeper.shared(base / "control-plane", keeper.Options()) as cluster:
        yield cluster


@pytest.fixture
def own_control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartControlPlane]:
    """A factory of control planes that end with the test; each starts empty."""
    planes: list[ControlPlane] = []

    def start(**arguments: object) -> ControlPlane:
        plane = ControlPlane()
        planes.append(plane)
        return plane.start(workdir=tmp_path_factory.mktemp("plane"), **arguments)  # type: ignore[arg-type]

    yield start
    for plane in planes:
        plane.stop()
        for data in ("etcd", "snapshots"):
            shutil.rmtree(plane.workdir / data, ignore_errors=True)


@pytest.fixture(scope="session")
def unique() -> Callable[[str], str]:
    """Makes names that no other test uses: `unique("web")` is `web-` and eight random hex digits."""
    return lambda prefix: f"{prefix}-{secrets.token_hex(4)}"
