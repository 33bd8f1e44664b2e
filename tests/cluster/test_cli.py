"""The command line against a real API server, with statuses as the operator writes them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from clusterstack.api.status import Phase
from clusterstack.cli import status as status_verb
from clusterstack.cli.main import main, parser
from clusterstack.core.gates import Blocker
from clusterstack.core.objects import ObjectRef
from clusterstack.core.ownership import Owner
from clusterstack.core.status import layer_status, stack_status
from clusterstack.core.views import Counts, LayerView, StackView
from testbed.api import Api, ApiError
from testbed.controlplane import ControlPlane

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
BASE = "/apis/clusterstack.dev/v1alpha1"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One for this file: it installs our CRDs."""
    with ControlPlane() as plane:
        plane.start(workdir=tmp_path_factory.mktemp("plane"), controllers=False)
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            crd = yaml.safe_load(path.read_text())
            plane.api.apply(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}", crd)
        for plural in ("clusterstacks", "stacklayers"):
            await_served(plane.api, f"{BASE}/{plural}")
        yield plane


def await_served(api: Api, path: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(ApiError):
            api.get(path)
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} is never served")


@pytest.fixture
def run(plane: ControlPlane, capsys: pytest.CaptureFixture[str]) -> Run:
    def invoke(verb: str, *argv: str) -> tuple[int, str, str]:
        code = main([verb, "--kubeconfig", str(plane.kubeconfig), *argv])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return invoke


@pytest.fixture
def stack(plane: ControlPlane) -> Iterator[str]:
    """A stack with three layers whose middle one does not get on, gone after the test."""
    write(plane.api, "home", layers())
    yield "home"
    for found in plane.api.get(f"{BASE}/stacklayers")["items"]:
        plane.api.delete(f"{BASE}/stacklayers/{found['metadata']['name']}")
    for found in plane.api.get(f"{BASE}/clusterstacks")["items"]:
        plane.api.delete(f"{BASE}/clusterstacks/{found['metadata']['name']}")


def layers(operators: Phase = Phase.PROGRESSING) -> tuple[LayerView, ...]:
    now = time.time()
    keda = Blocker(
        ref=ObjectRef("apps", "Deployment", "default", "keda-operator"),
        reason="ImagePullBackOff",
        message="0/1: ImagePullBackOff",
    )
    ready = operators is Phase.READY
    return (
        LayerView(name="base", phase=Phase.READY, since=now - 60, objects=Counts(2, 2), ready_at=now - 60),
        LayerView(
            name="operators",
            phase=operators,
            since=now - 41,
            objects=Counts(5, 5) if ready else Counts(4, 5),
            applied_at=now - 50,
            blocking=() if ready else (keda,),
            stalled=operators is Phase.FAILED,
        ),
        LayerView(
            name="routes",
            phase=Phase.READY if ready else Phase.WAITING,
            waiting_on=() if ready else (Blocker(layer="operators", message="is Progressing"),),
        ),
    )


def write(api: Api, name: str, views: tuple[LayerView, ...], *, handled: str = "") -> None:
    """The stack with these layers, and their statuses through the status subresource, as the operator does it."""
    manifests = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}]
    spec = {"layers": [{"name": view.name, "manifests": manifests} for view in views]}
    identity = {"apiVersion": "clusterstack.dev/v1alpha1", "kind": "ClusterStack", "metadata": {"name": name}}
    if api.find(f"{BASE}/clusterstacks/{name}") is None:
        api.apply(f"{BASE}/clusterstacks/{name}", {**identity, "spec": spec})
    view = StackView(generation=1, layers=views, revision="main@sha1:9f3c2ab12", handled=handled)
    status = stack_status(view, previous={}, now=time.time())
    api.apply(f"{BASE}/clusterstacks/{name}/status", {**identity, "status": status})
    for layer in views:
        path = f"{BASE}/stacklayers/{name}.{layer.name}"
        whose = {**identity, "kind": "StackLayer", "metadata": {"name": f"{name}.{layer.name}"}}
        if api.find(path) is None:
            api.apply(path, whose)
        api.apply(f"{path}/status", {**whose, "status": layer_status(layer, previous={}, now=time.time())})


class Operator:
    """Answers `reconcileAt` as the operator would, and then lets a layer come to an end."""

    def __init__(self, api: Api, end: Phase) -> None:
        self._api, self._end = api, end
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            found = self._api.get(f"{BASE}/clusterstacks/home")
            asked = (found["metadata"].get("annotations") or {}).get("clusterstack.dev/reconcileAt")
            if asked:
                write(self._api, "home", layers(), handled=asked)
                write(self._api, "home", layers(self._end), handled=asked)
                return


def test_status_is_a_table_of_layers(run: Run, stack: str) -> None:
    code, out, _ = run("status")
    assert code == 0
    head, message, columns, base, operators, routes = out.splitlines()
    assert head.split() == ["home", "Progressing", "1/3", "layers", "main@9f3c2ab"]
    assert message.startswith("operators: waiting for Deployment default/keda-operator 0/1: ImagePullBackOff")
    assert columns.split() == ["LAYER", "STATUS", "OBJECTS", "SINCE", "TOOK", "MESSAGE"]
    assert base.split()[:3] == ["base", "Ready", "2/2"]
    assert operators.split()[:3] == ["operators", "Progressing", "4/5"]
    assert routes.endswith("waiting for layer operators")


def test_status_speaks_to_scripts(run: Run, stack: str) -> None:
    found = json.loads(run("status", "home", "-o", "json")[1])
    assert [layer["phase"] for layer in found[0]["layers"]] == ["Ready", "Progressing", "Waiting"]
    assert yaml.safe_load(run("status", "-o", "yaml")[1]) == found
    assert run("status", "-o", "name")[1].splitlines()[:2] == [
        "clusterstack.clusterstack.dev/home",
        "stacklayer.clusterstack.dev/home.base",
    ]


def test_a_missing_stack_has_an_exit_code_of_its_own(run: Run) -> None:
    for verb in ("status", "why", "reconcile"):
        code, out, err = run(verb, "nowhere")
        assert (code, out) == (4, "")
        assert "nowhere" in err
        assert "next:" in err


async def test_a_pipe_gets_one_line_a_change(
    plane: ControlPlane, stack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = parser().parse_args(["status", "-w", "--kubeconfig", str(plane.kubeconfig)])
    watch = asyncio.create_task(status_verb._watch(args))
    seen = ""
    try:
        async with asyncio.timeout(20):
            while "home.routes Waiting" not in seen:
                await asyncio.sleep(0.05)
                seen += capsys.readouterr().out
            assert len(seen.splitlines()) == 3
            await asyncio.to_thread(write, plane.api, "home", layers(Phase.READY))
            while "home.routes Ready" not in seen:
                await asyncio.sleep(0.05)
                seen += capsys.readouterr().out
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
    assert sum("home.base" in line for line in seen.splitlines()) == 1


def test_why_names_the_object_its_event_and_the_next_command(plane: ControlPlane, run: Run, stack: str) -> None:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "keda-operator.1", "namespace": "default"},
        "involvedObject": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": "keda-operator",
            "namespace": "default",
        },
        "type": "Warning",
        "reason": "FailedCreate",
        "message": "quota\nexceeded",
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }
    plane.api.create("/api/v1/namespaces/default/events", event)
    code, out, _ = run("why", "routes")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("layer routes Waiting")
    assert lines[1].startswith("└─ layer operators Progressing")
    assert lines[2] == "   └─ Deployment default/keda-operator 0/1: ImagePullBackOff"
    assert lines[3].strip().startswith("event FailedCreate: quota exceeded (")
    assert lines[-1] == "  kubectl -n default describe deployment keda-operator"
    assert run("why")[1].startswith("home is not Ready: 1 of 3 layers are\n")
    assert "in the way of layer home.operators" in run("why", "deployment/default/keda-operator")[1]


def test_why_judges_an_object_that_holds_nobody_up(plane: ControlPlane, run: Run, stack: str) -> None:
    manifest: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lonely"}}
    plane.api.apply("/api/v1/namespaces/default/configmaps/lonely", manifest)
    code, out, _ = run("why", "configmap/default/lonely")
    assert code == 0
    assert "ConfigMap default/lonely is in no layer's way" in out
    assert "Current" in out
    assert "no ClusterStack has applied it" in out
    assert run("why", "configmap/default/absent")[0] == 4
    assert run("why", "gizmo/default/absent")[0] == 4


def test_why_judges_by_the_users_own_rules(plane: ControlPlane, run: Run, stack: str) -> None:
    def rule(word: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Secret", "current": "false", "message": f"'{word}'"}

    def why() -> str:
        return run("why", "secret/default/judged")[1]

    ref = ObjectRef("", "Secret", "default", "judged")
    marks = {"clusterstack.dev/owner": Owner("i", stack, "operators").mark(ref)}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "judged", "annotations": marks}}
    plane.api.apply("/api/v1/namespaces/default/secrets/judged", manifest)
    assert "Current" in why()
    book = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "clusterstack-health"}}
    path = "/api/v1/namespaces/default/configmaps/clusterstack-health"
    plane.api.apply(path, {**book, "data": {"rules": json.dumps([rule("of the cluster")])}})
    assert "InProgress: of the cluster" in why()
    spec: dict[str, Any] = {"defaults": {"health": {"expressions": [rule("of the stack")]}}}
    change(plane.api, stack, spec)
    assert "InProgress: of the stack" in why()
    spec["layers"] = plane.api.get(f"{BASE}/clusterstacks/{stack}")["spec"]["layers"]
    for layer in spec["layers"]:
        layer["health"] = {"expressions": [rule(f"of {layer['name']}")]}
    change(plane.api, stack, spec)
    assert "InProgress: of operators" in why()
    plane.api.delete(path)


def change(api: Api, stack: str, spec: dict[str, Any]) -> None:
    """Somebody edits the stack."""
    path = f"{BASE}/clusterstacks/{stack}"
    api.request("PATCH", path, {"spec": spec}, content_type="application/merge-patch+json")


def test_reconcile_waits_until_ready(plane: ControlPlane, run: Run, stack: str) -> None:
    with Operator(plane.api, Phase.READY):
        code, out, err = run("reconcile", "--wait", "--timeout", "20s")
    assert code == 0
    assert out.startswith("home: Ready 3/3 layers")
    assert "waiting for the operator to look" in err


def test_reconcile_tells_failure_and_time_running_out_apart(plane: ControlPlane, run: Run, stack: str) -> None:
    with Operator(plane.api, Phase.FAILED):
        assert run("reconcile", "operators", "--wait", "--timeout", "20s")[0] == 1
    code, _, err = run("reconcile", "home", "--wait", "--timeout", "1")
    assert code == 124
    assert "is it running?" in err


def test_reconcile_without_waiting_only_asks(plane: ControlPlane, run: Run, stack: str) -> None:
    assert run("reconcile", "home.operators")[0] == 0
    found = plane.api.get(f"{BASE}/clusterstacks/home")
    assert found["metadata"]["annotations"]["clusterstack.dev/reconcileAt"].endswith("Z")


def test_suspend_and_resume_write_the_spec(plane: ControlPlane, run: Run, stack: str) -> None:
    def spec() -> dict[str, Any]:
        found: dict[str, Any] = plane.api.get(f"{BASE}/clusterstacks/home")["spec"]
        return found

    assert run("suspend")[:2] == (0, "home suspended\n")
    assert spec()["suspend"] is True
    assert run("resume", "home")[:2] == (0, "home resumed\n")
    assert spec()["suspend"] is False
    assert run("suspend", "operators")[:2] == (0, "home.operators suspended\n")
    assert [layer.get("suspend") for layer in spec()["layers"]] == [None, True, None]


def test_what_the_cli_writes_is_not_taken_for_the_operator_s(plane: ControlPlane, run: Run, stack: str) -> None:
    before = plane.audit_offset()
    run("reconcile")
    assert len(plane.writes(before, user_agent="kubectl-clusterstack")) == 1
    assert plane.writes(before, user_agent="clusterstack") == []


def test_without_the_crds_it_says_how_to_install_them(plane: ControlPlane, run: Run) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusterstacks.clusterstack.dev"
    crd = plane.api.get(path)
    plane.api.delete(path)
    plane.api.wait(path, lambda found: found is None)
    try:
        code, _, err = run("status")
        assert code == 3
        assert "clusterstack crds | kubectl apply" in err
    finally:
        plane.api.apply(
            path,
            {key: crd[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": crd["metadata"]["name"]}},
        )
        await_served(plane.api, f"{BASE}/clusterstacks")
