"""The real renderer, and the command lines of Helm and kustomize as its oracles."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from clusterstack.render.pool import RendererPool
from testbed import tools

REPOSITORY = Path(__file__).parents[3]

CommandLine = Callable[..., str]


@pytest.fixture(scope="session")
def renderer() -> Path:
    return tools.binary("clusterstack-renderer")


@pytest.fixture
async def pool(renderer: Path) -> AsyncIterator[RendererPool]:
    pool = RendererPool(renderer, size=1)
    yield pool
    await pool.close()


def _command_line(name: str) -> CommandLine:
    binary = tools.binary(name)

    def run(*arguments: str, text: str = "") -> str:
        done = subprocess.run([binary, *arguments], input=text, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def helm_command() -> CommandLine:
    return _command_line("helm")


@pytest.fixture(scope="session")
def kustomize_command() -> CommandLine:
    return _command_line("kustomize")


@pytest.fixture(scope="session")
def charts() -> Path:
    return REPOSITORY / "tests" / "charts"


@pytest.fixture(scope="session")
def homelab() -> Path:
    path = Path(os.environ.get("HOMELAB") or REPOSITORY.parent / "shared" / "homelab")
    if not (path / "repo").is_dir():
        pytest.skip(f"the homelab data set is not at {path} (HOMELAB=)")
    return path
