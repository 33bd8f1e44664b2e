"""Our CRDs on a real API server: accepted, strict, and readable through kubectl."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusterstack.api.common import API_VERSION
from clusterstack.api.spec import parse_stack
from clusterstack.api.status import Phase
from clusterstack.core.gates import Blocker
from clusterstack.core.objects import ObjectRef
from clusterstack.core.status import Counts, LayerView, StackView, layer_status, stack_status
from testbed import tools
from testbed.api import ApiError
from testbed.controlplane import Cluster, ControlPlane

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
STACKS = "/apis/clusterstack.dev/v1alpha1/clusterstacks"
LAYERS = "/apis/clusterstack.dev/v1alpha1/stacklayers"
GIT = {"url": "https://example.com/infra", "ref": {"branch": "main"}}
NOW = 1_800_000_000.0


def kubectl(cluster: Cluster, *arguments: str | Path, stdin: str = "") -> str:
    command: list[str | Path] = [tools.binary("kubectl"), "--kubeconfig", cluster.kubeconfig, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server with our CRDs, and nothing else running."""
    with ControlPlane() as started:
        started.start(
            workdir=tmp_path_factory.mktemp("crds"), webhooks=False, controllers=False, kwok=False, audit=False
        )
        kubectl(started, "apply", "--server-side", "-f", ROOT / "crds")
        kubectl(started, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield started


@pytest.fixture(scope="module")
def schemas(plane: Cluster) -> dict[str, Any]:
    """The OpenAPI v3 documents that kubectl explain reads, by kind."""
    document = plane.api.get("/openapi/v3/apis/clusterstack.dev/v1alpha1")["components"]["schemas"]
    return {name.rsplit(".", 1)[1]: schema for name, schema in document.items() if name.startswith("dev.clusterstack")}


def stack(name: str = "home", *, layers: Any = None, **spec: Any) -> dict[str, Any]:
    content = {"sources": [{"name": "infra", "git": GIT}], **spec}
    if "flux" not in spec or layers is not None:
        content["layers"] = [{"name": "base", "path": "base"}] if layers is None else layers
    return {"apiVersion": API_VERSION, "kind": "ClusterStack", "metadata": {"name": name}, "spec": content}


def layer(**fields: Any) -> dict[str, Any]:
    return stack(layers=[{"name": "base", "path": "base", **fields}])


def chart(**fields: Any) -> dict[str, Any]:
    entry = {"name": "c", "namespace": "c", "repo": "https://charts.example.com", "chart": "c", **fields}
    return layer(charts=[{key: value for key, value in entry.items() if value is not None}])


def source(**git: Any) -> dict[str, Any]:
    return stack(sources=[{"name": "infra", "git": {**GIT, **git}}])


def refused(plane: Cluster, manifest: dict[str, Any]) -> str:
    with pytest.raises(ApiError) as caught:
        plane.api.create(f"{STACKS}?dryRun=All&fieldValidation=Strict", manifest)
    return str(caught.value)


def accepted(plane: Cluster, manifest: dict[str, Any]) -> dict[str, Any]:
    created: dict[str, Any] = plane.api.create(f"{STACKS}?dryRun=All&fieldValidation=Strict", manifest)
    return created


def test_what_is_written_by_hand_is_accepted_and_read_back_as_it_was(plane: Cluster) -> None:
    manifest = stack(
        deletionPolicy="Delete",
        serviceAccount={"name": "deployer", "namespace": "clusterstack"},
        mirrors=[{"from": "https://charts.jetstack.io", "to": "http://mirror.lan/charts.jetstack.io"}],
        defaults={"timeout": "10m", "health": {"policy": "Strict"}, "drift": {"mode": "Correct"}},
        layers=[
            {"name": "namespaces", "path": "namespaces"},
            {
                "name": "base",
                "source": "infra",
                "dependsOn": ["namespaces"],
                "requires": [{"apiVersion": "v1", "kind": "Secret", "name": "auth", "namespace": "eso"}],
                "path": "base",
                "patches": [{"patch": "[{op: remove, path: /a}]", "target": {"kind": "Deployment"}}],
                "images": [{"name": "nginx", "newTag": "1.29"}],
                "postBuild": {"substitute": {"zone": "home.lan"}, "substituteFrom": [{"kind": "Secret", "name": "v"}]},
                "charts": [
                    {
                        "name": "cert-manager",
                        "namespace": "cert-manager",
                        "repo": "https://charts.jetstack.io",
                        "chart": "cert-manager",
                        "version": "v1.19.4",
                        "values": {"crds": {"enabled": True}, "list": [1, {"a": "b"}], "any_Key": 1.5},
                    }
                ],
                "manifests": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}],
                "health": {"expressions": [{"apiVersion": "a/v1", "kind": "A", "current": "has(status.x)"}]},
                "drift": {
                    "mode": "Report",
                    "ignore": [{"paths": ["/spec/replicas"], "target": {"kind": "Deployment"}}],
                },
                "prune": {"enabled": True, "maxObjects": 5, "maxPercent": 20},
                "timeout": "1h30m",
            },
        ],
    )
    created = accepted(plane, manifest)
    for key, value in manifest["spec"].items():
        if key != "sources":
            assert created["spec"][key] == value
    assert parse_stack(created).spec.layers == parse_stack(manifest).spec.layers


def test_a_flux_tree_takes_the_place_of_layers(plane: Cluster) -> None:
    accepted(plane, stack(flux={"source": "infra", "path": "clusters/home"}))


def test_the_api_server_fills_in_only_what_the_operator_does_not_merge(plane: Cluster) -> None:
    created = accepted(plane, layer(health={"policy": "Exists"}))
    assert created["spec"]["interval"] == "10m"
    assert created["spec"]["deletionPolicy"] == "Orphan"
    assert created["spec"]["sources"][0]["interval"] == "1m"
    assert created["spec"]["layers"] == [{"name": "base", "path": "base", "health": {"policy": "Exists"}}]
    assert "defaults" not in created["spec"]


def test_a_new_object_says_that_nobody_has_looked_at_it(plane: Cluster) -> None:
    assert accepted(plane, stack())["status"] == {"observedGeneration": -1}
    manifest = {"apiVersion": API_VERSION, "kind": "StackLayer", "metadata": {"name": "home.base"}}
    assert plane.api.create(f"{LAYERS}?dryRun=All", manifest)["status"] == {"observedGeneration": -1}


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (stack(flux={"path": "clusters/home"}, layers=[]), "exactly one of layers and flux"),
        ({**stack(), "spec": {"sources": []}}, "exactly one of layers and flux"),
        (layer(dependsOn=["base"]), "a layer cannot depend on itself"),
        (layer(after=["base"]), "a layer cannot come after itself"),
        (stack(interval="1s"), "interval must be at least 10s"),
        (stack(sources=[{"name": "i", "interval": "1ms", "git": GIT}]), "interval must be at least 1s"),
        (source(ref={"tag": "v1", "semver": "1.x"}), "at most one of tag, semver, name and commit"),
        (source(url="https://user:secret@example.com/infra"), "a URL must not hold credentials"),
        (chart(timeout="0s"), "timeout must be longer than zero"),
        (stack("with.dot"), "the name must be at most 40 characters long and hold no dot"),
        (stack("x" * 41), "the name must be at most 40 characters long and hold no dot"),
    ],
)
def test_rules_refuse_what_cannot_be_meant_and_say_so(plane: Cluster, manifest: dict[str, Any], message: str) -> None:
    assert message in refused(plane, manifest)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (layer(dependson=["x"]), 'unknown field \\"spec.layers[0].dependson\\"'),
        (layer(timeout="10 minutes"), "spec.layers[0].timeout"),
        (layer(health={"policy": "Loose"}), "spec.layers[0].health.policy"),
        (layer(prune={"maxPercent": 101}), "spec.layers[0].prune.maxPercent"),
        (layer(requires=[{"kind": "Secret", "name": "a"}]), "spec.layers[0].requires[0].apiVersion"),
        (layer(manifests=[{"kind": "ConfigMap"}]), "spec.layers[0].manifests[0].apiVersion"),
        (layer(dependsOn=["a", "a"]), "spec.layers[0].dependsOn[1]"),
        (chart(repo="ftp://x"), "spec.layers[0].charts[0].repo"),
        (chart(chart=None), "spec.layers[0].charts[0].chart"),
        (stack(layers=[{"name": "a", "path": "a"}, {"name": "a", "path": "b"}]), "spec.layers[1]"),
        (stack(layers=[{"name": "Upper", "path": "a"}]), "spec.layers[0].name"),
        (source(url="ext::sh -c date"), "spec.sources[0].git.url"),
        (stack(layers=[{"name": f"l{n}", "path": "p"} for n in range(257)]), "Too many: 257: must have at most 256"),
        (layer(path="x" * 1025), "spec.layers[0].path"),
    ],
)
def test_the_schema_refuses_mistakes_with_their_place(plane: Cluster, manifest: dict[str, Any], message: str) -> None:
    assert message in refused(plane, manifest)


def test_the_largest_stack_that_the_schema_allows_is_within_the_budget_of_its_rules(plane: Cluster) -> None:
    names = [f"layer-{number:03}-{'x' * 53}" for number in range(256)]
    layers = [
        {"name": name, "path": "p", "dependsOn": names[:64] if rank >= 64 else []} for rank, name in enumerate(names)
    ]
    accepted(plane, stack(layers=layers))


def test_statuses_as_the_operator_builds_them_are_stored_unchanged_and_shown_by_kubectl(plane: Cluster) -> None:
    blocker = Blocker(ObjectRef("apps", "Deployment", "keda", "keda-operator"), message="0/1: ImagePullBackOff")
    view = LayerView(
        name="base",
        phase=Phase.PROGRESSING,
        since=NOW - 41,
        revision="main@sha1:9f3c2ab" + "0" * 33,
        objects=Counts(12, 14),
        blocking=(blocker,),
        started_at=NOW - 60,
        applied_at=NOW - 41,
    )
    status = layer_status(view, previous={}, now=NOW)
    stack_view = StackView(generation=1, layers=(view,), revision=view.revision)
    whole = stack_status(stack_view, previous={}, now=NOW)
    plane.api.create(STACKS, stack("shown"))
    plane.api.create(LAYERS, {"apiVersion": API_VERSION, "kind": "StackLayer", "metadata": {"name": "shown.base"}})
    for kind, path, wanted in (
        ("ClusterStack", f"{STACKS}/shown", whole),
        ("StackLayer", f"{LAYERS}/shown.base", status),
    ):
        manifest = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": path.rsplit("/", 1)[1]}}
        stored = plane.api.apply(f"{path}/status", {**manifest, "status": wanted})
        assert stored["status"] == wanted

    header, row = kubectl(plane, "get", "cst", "shown").splitlines()
    assert header.split() == ["NAME", "READY", "STATUS", "LAYERS", "CURRENT", "REVISION", "AGE"]
    assert row.startswith("shown   False   base: waiting for Deployment keda/keda-operator 0/1: ImagePullBackOff (41s)")
    assert row.split()[-4:-1] == ["0/1", "base", "main@9f3c2ab"]
    header, row = kubectl(plane, "get", "csl", "shown.base").splitlines()
    assert header.split() == ["NAME", "READY", "STATUS", "PHASE", "OBJECTS", "REVISION", "AGE"]
    assert row.split()[-4:-2] == ["Progressing", "12/14"]
    assert kubectl(plane, "get", "clusterstack", "shown", "-o", "name") == "clusterstack.clusterstack.dev/shown\n"
    both = kubectl(plane, "get", "clusterstack-all", "-o", "name").split()
    assert {"clusterstack.clusterstack.dev/shown", "stacklayer.clusterstack.dev/shown.base"} <= set(both)


def test_a_removed_part_of_a_status_is_gone_after_the_next_apply(plane: Cluster) -> None:
    plane.api.create(LAYERS, {"apiVersion": API_VERSION, "kind": "StackLayer", "metadata": {"name": "gone.base"}})
    base = {"apiVersion": API_VERSION, "kind": "StackLayer", "metadata": {"name": "gone.base"}}
    waiting = LayerView(name="base", phase=Phase.WAITING, waiting_on=(Blocker(layer="crds", reason="R"),))
    first = layer_status(waiting, previous={}, now=NOW)
    plane.api.apply(f"{LAYERS}/gone.base/status", {**base, "status": first})
    ready = layer_status(LayerView(name="base", phase=Phase.READY), previous=first, now=NOW)
    assert plane.api.apply(f"{LAYERS}/gone.base/status", {**base, "status": ready})["status"] == ready


def test_kubectl_explain_describes_every_field(plane: Cluster, schemas: dict[str, Any]) -> None:
    def undescribed(node: dict[str, Any], path: str) -> Iterator[str]:
        for name, child in node.get("properties", {}).items():
            if not child.get("description", "").strip():
                yield f"{path}.{name}"
            yield from undescribed(child.get("items", child), f"{path}.{name}")

    for kind in ("ClusterStack", "StackLayer"):
        missing = [
            path
            for part in ("spec", "status")
            if part in schemas[kind]["properties"]
            for path in undescribed(schemas[kind]["properties"][part], f"{kind}.{part}")
        ]
        assert missing == []
    listed = kubectl(plane, "explain", "clusterstack.spec.layers", "--recursive")
    for field in ("dependsOn", "requires", "maxPercent", "substituteFrom"):
        assert field in listed
    explained = kubectl(plane, "explain", "clusterstack.spec.layers.prune.maxObjects")
    assert "deleted only after approval" in " ".join(explained.split())


def test_the_crds_stay_when_their_helm_release_is_uninstalled() -> None:
    for path in (ROOT / "crds").glob("*.yaml"):
        assert yaml.safe_load(path.read_text())["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
