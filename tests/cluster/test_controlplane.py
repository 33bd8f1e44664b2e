"""The test bed itself: what every other cluster test relies on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from testbed import slots, tools
from testbed.controlplane import Cluster, ControlPlane
from testbed.processes import ProcessError
from testbed.pytest_plugin import StartControlPlane

pytestmark = pytest.mark.cluster

Unique = Callable[[str], str]
ROOT = Path(__file__).resolve().parents[2]


def kubectl(cluster: Cluster, *arguments: str, stdin: str = "") -> str:
    command: list[str | Path] = [tools.binary("kubectl"), "--kubeconfig", cluster.kubeconfig, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=60).stdout


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def namespace(cluster: Cluster, name: str) -> str:
    cluster.api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster.api.wait(f"/api/v1/namespaces/{name}/serviceaccounts/default", lambda found: found is not None)
    return name


def config_map(name: str, **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_kubectl_apply_creates_an_object(control_plane: Cluster, unique: Unique) -> None:
    name = unique("applied")
    printed = kubectl(control_plane, "apply", "-f", "-", stdin=yaml.safe_dump(config_map(name, colour="green")))
    assert printed == f"configmap/{name} created\n"
    assert control_plane.api.get(f"/api/v1/namespaces/default/configmaps/{name}")["data"] == {"colour": "green"}


def test_kubectl_reports_the_pinned_server_version(control_plane: Cluster) -> None:
    assert control_plane.api.get("/version")["gitVersion"] == tools.KUBERNETES_VERSION


def test_a_deployment_becomes_available(control_plane: Cluster, unique: Unique) -> None:
    where = namespace(control_plane, unique("kwok"))
    kubectl(control_plane, "-n", where, "create", "deployment", "web", "--image=example.org/web", "--replicas=2")
    kubectl(control_plane, "-n", where, "wait", "deployment/web", "--for=condition=Available", "--timeout=30s")
    kubectl(control_plane, "-n", where, "create", "job", "once", "--image=example.org/once")
    kubectl(control_plane, "-n", where, "wait", "job/once", "--for=condition=Complete", "--timeout=30s")


def test_a_deleted_namespace_goes_away(control_plane: Cluster, unique: Unique) -> None:
    where = namespace(control_plane, unique("gone"))
    control_plane.api.delete(f"/api/v1/namespaces/{where}")
    control_plane.api.wait(f"/api/v1/namespaces/{where}", lambda found: found is None)


def test_the_audit_log_shows_a_write_and_who_made_it(control_plane: Cluster, unique: Unique) -> None:
    name, agent = unique("audited"), unique("agent")
    before = control_plane.audit_offset()
    api = control_plane.access.api(user_agent=agent)
    path = f"/api/v1/namespaces/default/configmaps/{name}"
    api.apply(path, config_map(name))
    api.get(path)
    writes = control_plane.writes(before, user_agent=agent)
    assert [(e["verb"], e["objectRef"]["resource"], e["objectRef"]["name"]) for e in writes] == [
        ("patch", "configmaps", name)
    ]
    assert writes[0]["user"]["username"] == "admin"
    assert writes[0]["responseStatus"]["code"] == 201
    assert "responseObject" not in writes[0]


def test_the_audit_log_leaves_out_what_the_control_plane_reads(control_plane: Cluster) -> None:
    events = list(control_plane.audit())
    assert events
    noise = [e for e in events if e["user"]["username"] == "system:kube-scheduler" and e["verb"] in ("list", "watch")]
    assert noise == []


def test_a_service_gets_an_address_on_loopback(control_plane: Cluster, unique: Unique) -> None:
    name = unique("svc")
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 443}]}}
    made = control_plane.api.create("/api/v1/namespaces/default/services", body)
    assert made["spec"]["clusterIP"].startswith(control_plane.service_range.removesuffix("0.0/16"))


def test_a_restored_snapshot_brings_a_deleted_object_back(own_control_plane: StartControlPlane) -> None:
    plane = own_control_plane()
    path = "/api/v1/namespaces/default/configmaps/kept"
    plane.api.apply(path, config_map("kept", colour="blue"))
    snapshot = plane.snapshot()
    plane.api.delete(path)
    plane.api.apply("/api/v1/namespaces/default/configmaps/later", config_map("later"))

    plane.restore(snapshot)

    assert plane.api.get(path)["data"] == {"colour": "blue"}
    assert plane.api.find("/api/v1/namespaces/default/configmaps/later") is None
    kubectl(plane, "create", "deployment", "web", "--image=example.org/web")
    kubectl(plane, "wait", "deployment/web", "--for=condition=Available", "--timeout=30s")


def test_the_body_of_a_write_to_our_own_group_is_audited(own_control_plane: StartControlPlane) -> None:
    plane = own_control_plane(controllers=False)
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    spec = {
        "group": "clusterstack.dev",
        "scope": "Cluster",
        "names": {"plural": "probes", "kind": "Probe"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
    }
    name = "probes.clusterstack.dev"
    kind = "CustomResourceDefinition"
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    plane.api.apply(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}", crd)
    plane.api.wait("/apis/clusterstack.dev/v1/probes", lambda found: found is not None)
    probe = {"apiVersion": "clusterstack.dev/v1", "kind": "Probe", "metadata": {"name": "one"}, "phase": "Ready"}
    before = plane.audit_offset()
    plane.api.apply("/apis/clusterstack.dev/v1/probes/one", probe)
    [event] = plane.writes(before)
    assert event["responseObject"]["phase"] == "Ready"
    assert event["responseObject"]["metadata"]["resourceVersion"]


def test_control_planes_side_by_side_share_nothing(own_control_plane: StartControlPlane) -> None:
    one, two = own_control_plane(controllers=False), own_control_plane(controllers=False)
    assert one.url != two.url
    assert one.service_range != two.service_range
    one.api.apply("/api/v1/namespaces/default/configmaps/mine", config_map("mine"))
    assert two.api.find("/api/v1/namespaces/default/configmaps/mine") is None


def test_stop_leaves_no_process_and_frees_the_slot(tmp_path: Path) -> None:
    with ControlPlane() as plane:
        plane.start(workdir=tmp_path)
        pids = plane.pids()
        assert set(pids) == {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"}
        assert all(is_running(pid) for pid in pids.values())
        taken = plane.service_range
    assert [name for name, pid in pids.items() if is_running(pid)] == []
    slot = slots.take()
    try:
        assert slot.service_range <= taken
    finally:
        slot.release()


def test_a_failed_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    plane = ControlPlane()
    with pytest.raises(ProcessError, match=r"(?s)kube-apiserver ended with code 1.*unknown flag: --no-such-flag"):
        plane.start(workdir=tmp_path, api_server_flags=("--no-such-flag",))
    with pytest.raises(RuntimeError, match="not running"):
        plane.pids()


def test_a_killed_parent_takes_its_control_plane_along(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from testbed.controlplane import ControlPlane\n"
        "plane = ControlPlane().start(workdir=Path(sys.argv[1]), controllers=False)\n"
        "print(*plane.pids().values(), flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_running(pid) for pid in pids)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, "the guard did not end the control plane"
        os.sched_yield()


def test_up_status_and_down(tmp_path: Path) -> None:
    def testbed(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "testbed", *arguments, "--name", name]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    name = f"test-{os.getpid()}"
    try:
        up = testbed("up")
        assert up.returncode == 0, up.stderr
        kubeconfig = testbed("kubeconfig").stdout.strip()
        assert f"export KUBECONFIG={kubeconfig}" in up.stdout
        assert yaml.safe_load(Path(kubeconfig).read_text())["current-context"] == "testbed"
        assert "kube-apiserver" in testbed("status").stdout
        assert testbed("up").stderr.count("was up already") == 1
    finally:
        down = testbed("down")
    assert "is down" in down.stderr
    assert testbed("status").returncode == 1
