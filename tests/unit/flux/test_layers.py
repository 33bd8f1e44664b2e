"""Flux Kustomizations as layers."""

from __future__ import annotations

from typing import Any

from clusterstack.flux.layers import read_tree

REF = {"kind": "GitRepository", "name": "flux-system"}


def kustomization(name: str, *, namespace: str = "flux-system", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"interval": "10m", "prune": True, "path": f"./{name}", "sourceRef": REF, **spec},
    }


def repository(name: str, *, namespace: str = "flux-system", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"interval": "5m", "url": f"https://git.example.org/{name}", **spec},
    }


ROOT = kustomization("flux-system", path="./clusters/home")


def test_a_kustomization_becomes_a_layer_field_by_field() -> None:
    tree = read_tree(
        [
            ROOT,
            repository("flux-system"),
            kustomization(
                "apps",
                wait=True,
                timeout="5m",
                retryInterval="1m",
                suspend=True,
                force=True,
                targetNamespace="apps",
                components=["../common"],
                patches=[{"patch": "x", "target": {"kind": "Deployment"}}],
                images=[{"name": "a", "newTag": "b"}],
                commonMetadata={"labels": {"a": "b"}},
                postBuild={
                    "substitute": {"A": "b"},
                    "substituteFrom": [{"kind": "Secret", "name": "s", "optional": True}],
                },
                decryption={"provider": "sops", "secretRef": {"name": "age"}, "serviceAccountName": "x"},
                healthChecks=[{"apiVersion": "apps/v1", "kind": "Deployment", "name": "a", "namespace": "b"}],
                healthCheckExprs=[{"apiVersion": "a/v1", "kind": "B", "current": "true"}],
            ),
        ],
        source="infra",
        path="clusters/home",
    )
    assert tree.problems == ()
    assert tree.root == ROOT
    assert tree.layers == (
        {
            "name": "apps",
            "source": "infra",
            "path": "apps",
            "interval": "10m",
            "retryInterval": "1m",
            "timeout": "5m",
            "suspend": True,
            "force": True,
            "targetNamespace": "apps",
            "components": ["../common"],
            "patches": [{"patch": "x", "target": {"kind": "Deployment"}}],
            "images": [{"name": "a", "newTag": "b"}],
            "commonMetadata": {"labels": {"a": "b"}},
            "prune": {"enabled": True},
            "postBuild": {
                "substitute": {"A": "b"},
                "substituteFrom": [{"kind": "Secret", "name": "s", "optional": True, "namespace": "flux-system"}],
            },
            "decryption": {"provider": "sops", "secretRef": {"name": "age"}},
            "health": {
                "policy": "KStatus",
                "checks": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "a", "namespace": "b"}],
                "expressions": [{"apiVersion": "a/v1", "kind": "B", "current": "true"}],
            },
        },
    )


def test_nothing_waits_for_the_root_or_for_a_named_parent() -> None:
    child = kustomization("apps", dependsOn=[{"name": "flux-system"}, {"name": "parent"}, {"name": "crds"}])
    tree = read_tree([ROOT, child, kustomization("crds")], source="infra", path="./clusters/home/", drop={"parent"})
    assert [(layer["name"], layer.get("dependsOn")) for layer in tree.layers] == [("apps", ["crds"]), ("crds", None)]


def test_a_layer_is_named_with_its_namespace_where_its_name_is_not_unique() -> None:
    tree = read_tree(
        [
            kustomization("db", namespace="a"),
            kustomization("db", namespace="b"),
            kustomization("web", namespace="a", dependsOn=[{"name": "db"}, {"name": "db", "namespace": "b"}]),
        ],
        source="infra",
        path="clusters/home",
    )
    assert [layer["name"] for layer in tree.layers] == ["a-db", "b-db", "web"]
    assert tree.layers[2]["dependsOn"] == ["a-db", "b-db"]


def test_an_unknown_dependency_stays_for_the_stack_to_report() -> None:
    tree = read_tree([ROOT, kustomization("apps", dependsOn=[{"name": "nope"}])], source="i", path="clusters/home")
    assert tree.layers[0]["dependsOn"] == ["nope"]


def test_without_wait_only_the_checks_count_and_the_default_timeout_is_fluxs() -> None:
    tree = read_tree([kustomization("a"), kustomization("b", interval="30s")], source="i", path="clusters/home")
    assert [layer["health"] for layer in tree.layers] == [{"policy": "Exists"}] * 2
    assert [layer["timeout"] for layer in tree.layers] == ["570s", "30s"]


def test_another_repository_becomes_another_source() -> None:
    other = {"kind": "GitRepository", "name": "apps", "namespace": "team"}
    git = repository("apps", namespace="team", ref={"tag": "v1"}, secretRef={"name": "key"})
    tree = read_tree(
        [
            ROOT,
            repository("flux-system"),
            git,
            kustomization("x", sourceRef=other),
            kustomization("y", sourceRef=other),
        ],
        source="apps",
        path="clusters/home",
    )
    assert [layer["source"] for layer in tree.layers] == ["team-apps", "team-apps"]
    assert tree.sources == (
        {
            "name": "team-apps",
            "interval": "5m",
            "git": {"url": "https://git.example.org/apps", "ref": {"tag": "v1"}, "secretRef": {"name": "key"}},
        },
    )
    assert git in tree.shared


def test_what_a_layer_cannot_express_is_reported() -> None:
    tree = read_tree(
        [
            ROOT,
            kustomization("a", kubeConfig={"secretRef": {"name": "x"}}),
            kustomization("b", serviceAccountName="x", deletionPolicy="Orphan", novelty=1),
            kustomization("c", sourceRef={"kind": "GitRepository", "name": "gone"}),
            kustomization("d", dependsOn=[{"name": "a", "readyExpr": "true"}]),
        ],
        source="infra",
        path="clusters/home",
    )
    assert [(problem.layer, problem.field, problem.fatal) for problem in tree.problems] == [
        ("a", "kubeConfig", True),
        ("b", "serviceAccountName", False),
        ("b", "deletionPolicy", False),
        ("b", "novelty", False),
        ("c", "sourceRef", True),
        ("d", "dependsOn.readyExpr", False),
    ]
    assert "flux-system/gone" in tree.problems[4].message


def test_what_else_a_tree_applies_is_a_layer_that_others_may_depend_on() -> None:
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "flux-system"}}
    flux = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "source-controller", "labels": {"app.kubernetes.io/part-of": "flux"}},
    }
    tree = read_tree(
        [flux, settings, ROOT, kustomization("apps", dependsOn=[{"name": "flux-system"}])],
        source="infra",
        path="clusters/home",
    )
    assert tree.rest == (settings,)
    assert tree.layers[0]["name"] == "flux-system"
    assert tree.layers[0]["manifests"] == [settings]
    assert tree.layers[1]["dependsOn"] == ["flux-system"]


def test_layers_share_nothing_with_the_objects_they_come_from() -> None:
    source = kustomization("apps", patches=[{"patch": "x"}])
    tree = read_tree([source], source="infra", path="clusters/home")
    tree.layers[0]["patches"][0]["patch"] = "changed"
    assert source["spec"]["patches"] == [{"patch": "x"}]
