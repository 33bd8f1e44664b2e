"""A Flux repository, run as it is: its Kustomizations are the layers, its Helm objects the releases."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.chartserver import chart
from testbed.gitrepo import GitRepository

from .bed import Bed, Manifest, Stack, condition, config_map, unique
from .objects import deployment, namespace, source, text
from .test_stack_git import at_commit

pytestmark = pytest.mark.e2e

PAGE = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "{{ .Release.Name }}"}\ndata: {size: "{{ .Values.size }}"}\n'


def kustomization(name: str, path: str, *after: str, **spec: Any) -> Manifest:
    metadata = {"name": name, "namespace": "flux-system"}
    common = {"interval": "10m", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "flux-system"}}
    needs = {"dependsOn": [{"name": other} for other in after]} if after else {}
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": metadata,
        "spec": {**common, "path": path, **needs, **spec},
    }


def repository(git: GitRepository) -> Manifest:
    spec = {"interval": "1m", "url": git.bare.as_uri(), "ref": {"branch": git.branch}}
    metadata = {"name": "flux-system", "namespace": "flux-system"}
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": metadata,
        "spec": spec,
    }


def helm(bed: Bed, place: str, chart_name: str) -> list[Manifest]:
    repo = {"name": "charts", "namespace": place}
    ref = {"kind": "HelmRepository", "name": "charts"}
    wanted = {"spec": {"chart": chart_name, "version": "1.x", "sourceRef": ref}}
    return [
        {
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "HelmRepository",
            "metadata": repo,
            "spec": {"url": bed.charts.url, "interval": "1h"},
        },
        {
            "apiVersion": "helm.toolkit.fluxcd.io/v2",
            "kind": "HelmRelease",
            "metadata": {"name": "page", "namespace": place},
            "spec": {"interval": "1h", "chart": wanted, "values": {"size": "7"}},
        },
    ]


class Tree:
    """A small Flux repository and its stack."""

    def __init__(self, bed: Bed, git: GitRepository, **files: str) -> None:
        self.bed, self.git, self.place = bed, git, unique("flux")
        place, chart_name = self.place, unique("page")
        bed.charts.publish(chart(chart_name, "1.0.0", {"templates/page.yaml": PAGE}))
        patch = {
            "patch": "- op: add\n  path: /metadata/labels\n  value: {patched: 'yes'}\n",
            "target": {"kind": "ConfigMap"},
        }
        self.infra = kustomization(
            "infra",
            "./infra",
            "flux-system",
            wait=True,
            postBuild={"substitute": {"place": place, "size": "large"}},
        )
        self.apps = kustomization(
            "apps",
            "./apps",
            "infra",
            targetNamespace=place,
            patches=[patch],
            healthChecks=[{"apiVersion": "apps/v1", "kind": "Deployment", "name": "engine", "namespace": place}],
        )
        self.helm = kustomization("helm", "./helm", "apps")
        sync = text(repository(git), kustomization("flux-system", "./clusters/home"))
        self.commit = git.commit(
            "Bootstrap",
            {
                "clusters/home/flux-system/gotk-sync.yaml": sync,
                "clusters/home/flux-system/kustomization.yaml": "resources: [gotk-sync.yaml]\n",
                "clusters/home/infra.yaml": text(self.infra),
                "clusters/home/apps.yaml": text(self.apps, self.helm),
                "infra/namespace.yaml": text(namespace("${place}")),
                "infra/settings.yaml": text(config_map("settings", "${place}", size="${size:=small}", kept="$${size}")),
                "apps/app.yaml": text(config_map("app", "")),
                "apps/engine.yaml": text(deployment("engine", "")),
                "helm/page.yaml": text(*helm(bed, place, chart_name)),
                **files,
            },
        )
        flux = {"path": "clusters/home"}
        self.stack = Stack(bed, unique("s"), {"flux": flux, "sources": source(git)})
        self.stack.apply()
        bed.stacks.append(self.stack)

    def map(self, name: str) -> Manifest:
        return dict(self.bed.api.get(f"/api/v1/namespaces/{self.place}/configmaps/{name}"))


def test_a_flux_tree_comes_up_layer_by_layer(bed: Bed, git: GitRepository) -> None:
    tree = Tree(bed, git)
    at_commit(tree.stack, tree.commit)
    found = bed.api.get(tree.stack.path)["status"]
    assert [layer["name"] for layer in found["layers"]] == ["infra", "apps", "helm"]
    assert tree.stack.layer("apps")["dependsOn"] == ["infra"]
    assert tree.stack.layer("infra").get("dependsOn") is None, "its own root waits for it, not the other way round"
    assert tree.map("settings")["data"] == {"size": "large", "kept": "${size}"}
    assert tree.map("app")["metadata"]["labels"]["patched"] == "yes"
    assert tree.map("page")["data"] == {"size": "7"}
    assert [unit["name"] for unit in tree.stack.layer("helm")["units"]] == [f"{tree.place}/page"]
    assert "deployed" in bed.helm("ls", namespace=tree.place)


def test_a_commit_to_a_flux_tree_changes_what_it_says_and_a_new_kustomization_is_a_new_layer(
    bed: Bed, git: GitRepository
) -> None:
    tree = Tree(bed, git)
    at_commit(tree.stack, tree.commit)
    tree.infra["spec"]["postBuild"]["substitute"]["size"] = "huge"
    more = kustomization("more", "./more", "infra")
    changes = {
        "clusters/home/infra.yaml": text(tree.infra, more),
        "more/more.yaml": text(config_map("more", tree.place)),
    }
    at_commit(tree.stack, git.commit("More", dict(changes)))
    assert tree.map("settings")["data"]["size"] == "huge"
    assert tree.stack.layer("more")["phase"] == "Ready"
    at_commit(tree.stack, git.commit("Less", {"clusters/home/infra.yaml": text(tree.infra), "more/more.yaml": None}))
    bed.until(f"/api/v1/namespaces/{tree.place}/configmaps/more", lambda found: found is None)
    bed.until(tree.stack.layer_path("more"), lambda found: found is None)


def test_a_kustomization_that_cannot_be_run_is_named_and_the_others_run(bed: Bed, git: GitRepository) -> None:
    far = kustomization("far", "./far", kubeConfig={"secretRef": {"name": "elsewhere"}})
    tree = Tree(bed, git, **{"clusters/home/far.yaml": text(far), "far/far.yaml": text(config_map("far", "default"))})
    assert "kubeConfig" in tree.stack.phase("far", "Failed")["message"]
    for name in ("infra", "apps", "helm"):
        tree.stack.phase(name, "Ready")


def test_a_field_without_effect_is_a_warning(bed: Bed, git: GitRepository) -> None:
    odd = kustomization("odd", "./odd", serviceAccountName="deployer")
    tree = Tree(bed, git, **{"clusters/home/odd.yaml": text(odd), "odd/odd.yaml": text(config_map("odd", "default"))})
    at_commit(tree.stack, tree.commit)
    assert "serviceAccountName" in tree.stack.layer("odd")["warnings"][0]


def test_a_flux_tree_that_does_not_parse_leaves_what_runs_and_says_where(bed: Bed, git: GitRepository) -> None:
    tree = Tree(bed, git)
    at_commit(tree.stack, tree.commit)
    good = git.read("clusters/home/infra.yaml")
    git.commit("Break the tree", {"clusters/home/infra.yaml": "kind: [\n"})
    found = bed.until(tree.stack.path, lambda found: condition(found, "Stalled")["status"] == "True")
    assert "infra.yaml" in condition(found, "Stalled")["message"]
    bed.api.delete(f"/api/v1/namespaces/{tree.place}/configmaps/settings")
    bed.until(f"/api/v1/namespaces/{tree.place}/configmaps/settings", lambda found: found is not None)
    at_commit(tree.stack, git.commit("Mend the tree", {"clusters/home/infra.yaml": good}))


def test_variables_from_a_config_map_that_is_missing_hold_their_layer_back(bed: Bed, git: GitRepository) -> None:
    reference = {"kind": "ConfigMap", "name": unique("vars")}
    late = kustomization("late", "./late", postBuild={"substituteFrom": [reference]})
    files = {
        "clusters/home/late.yaml": text(late),
        "late/late.yaml": text(config_map("late-${word}", "default", word="${word}")),
    }
    tree = Tree(bed, git, **files)
    tree.stack.phase("infra", "Ready")
    status = tree.stack.phase("late", "Waiting", says=f"ConfigMap flux-system/{reference['name']}")
    assert condition({"status": status}, "Stalled")["status"] == "False"
    if bed.api.find("/api/v1/namespaces/flux-system") is None:
        bed.api.create("/api/v1/namespaces", namespace("flux-system"))
    word = unique("w")
    bed.api.create("/api/v1/namespaces/flux-system/configmaps", config_map(reference["name"], "flux-system", word=word))
    bed.until(f"/api/v1/namespaces/default/configmaps/late-{word}", lambda found: found is not None)
    at_commit(tree.stack, tree.commit)
    variables = f"/api/v1/namespaces/flux-system/configmaps/{reference['name']}"
    bed.api.request("PATCH", variables, {"data": {"word": f"{word}-2"}}, content_type="application/merge-patch+json")
    bed.until(f"/api/v1/namespaces/default/configmaps/late-{word}-2", lambda found: found is not None)
    bed.until(f"/api/v1/namespaces/default/configmaps/late-{word}", lambda found: found is None)
