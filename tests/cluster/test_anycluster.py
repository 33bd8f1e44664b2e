"""kind's clusters, with a `kind` that hands out the test bed's control plane: no Docker is needed to test our part."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed import anycluster
from testbed.controlplane import Cluster
from testbed.demo import stage

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
KIND = """#!/bin/sh
echo "$@" >> "{log}"
while [ $# -gt 0 ]; do
    if [ "$1" = --kubeconfig ]; then cp "{kubeconfig}" "$2"; fi
    shift
done
"""


@pytest.fixture
def calls(control_plane: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What `kind` was asked to do; it is first in PATH from now on."""
    log, program = tmp_path / "calls", tmp_path / "bin" / "kind"
    program.parent.mkdir()
    program.write_text(KIND.format(log=log, kubeconfig=control_plane.kubeconfig))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return lambda: log.read_text().splitlines()


def test_a_cluster_of_kinds_is_reached_with_all_rights_and_deleted_in_the_end(
    calls: Callable[[], list[str]], tmp_path: Path
) -> None:
    with anycluster.kind(tmp_path / "kind") as access:
        names = [namespace["metadata"]["name"] for namespace in access.api().get("/api/v1/namespaces")["items"]]
        assert "kube-system" in names
    create, delete = calls()
    assert create.startswith("create cluster --config ")
    assert delete == "delete cluster --name clusterstack"


def test_without_kind_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(anycluster.ClusterError, match="needs kind and Docker"), anycluster.kind(tmp_path / "kind"):
        pass


def test_the_demo_runs_on_a_cluster_of_kinds(calls: Callable[[], list[str]], unique: Callable[[str], str]) -> None:
    name = unique("demo-kind")
    command = [sys.executable, "-m", "testbed.demo", "once", "--cluster", "kind", "--name", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert calls()[-1] == "delete cluster --name clusterstack"
    assert not stage.named(name).folder.exists()
