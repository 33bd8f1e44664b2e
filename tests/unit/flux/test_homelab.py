"""The homelab repository, unmodified: its Flux tree as layers, its HelmReleases as releases."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from clusterstack.api.spec import parse_layer
from clusterstack.core.yaml import load_all
from clusterstack.flux.kinds import split
from clusterstack.flux.layers import FluxTree, read_tree
from clusterstack.flux.releases import Releases, releases
from clusterstack.helm.spec import ReleaseSpec, RepoChart, ValuesReference
from clusterstack.helm.values import Composed, Missing, compose, sources

pytestmark = pytest.mark.homelab

TREE = "clusters/willingham-k8s"
DEPENDS_ON = {
    "namespaces": [],
    "crds": ["namespaces"],
    "base": ["crds"],
    "routes": ["crds"],
    "operators": ["base"],
    "network": ["operators"],
    "messaging": ["operators"],
    "dev-platform": ["operators"],
    "observability": ["operators"],
    "security": ["operators"],
    "argo": ["operators"],
    "serverless": ["operators"],
    "vpa": ["observability"],
}


@pytest.fixture(scope="module")
def repository() -> Path:
    project = Path(__file__).resolve().parents[3]
    homelab = Path(os.environ.get("HOMELAB") or project.parent / "shared" / "homelab")
    if not (homelab / "repo" / TREE).is_dir():
        pytest.skip(f"no homelab data at {homelab} (set HOMELAB to its directory)")
    return homelab / "repo"


def objects_below(directory: Path) -> list[dict[str, Any]]:
    """Every object in the YAML files of a directory, kustomization files left out."""
    files = sorted(file for file in directory.rglob("*.yaml") if file.name != "kustomization.yaml")
    return [item for file in files for item in load_all(file.read_bytes(), source=str(file))]


@pytest.fixture(scope="module")
def tree(repository: Path) -> FluxTree:
    return read_tree(objects_below(repository / TREE), source="infra", path=TREE)


@pytest.fixture(scope="module")
def found(repository: Path, tree: FluxTree) -> Releases:
    flux = {layer["name"]: split(objects_below(repository / layer["path"])).flux for layer in tree.layers}
    return releases(flux, shared=tree.shared)


@pytest.fixture(scope="module")
def by_id(found: Releases) -> dict[str, ReleaseSpec]:
    return {spec.id: spec for specs in found.specs.values() for spec in specs}


def test_the_tree_is_13_layers_with_their_dependencies_and_nothing_else(tree: FluxTree) -> None:
    assert {layer["name"]: layer.get("dependsOn", []) for layer in tree.layers} == DEPENDS_ON
    assert tree.problems == ()
    assert tree.rest == ()
    assert tree.sources == ()
    assert tree.root is not None
    assert [manifest["metadata"]["name"] for manifest in tree.shared] == ["flux-system"]


def test_each_layer_is_valid_and_keeps_what_its_kustomization_says(tree: FluxTree) -> None:
    layers = {layer["name"]: parse_layer(layer) for layer in tree.layers}
    assert {layer.path for layer in layers.values()} == set(DEPENDS_ON)
    assert {layer.source for layer in layers.values()} == {"infra"}
    assert {layer.timeout.seconds for layer in layers.values()} == {300}
    assert {layer.retry_interval.seconds for layer in layers.values()} == {60}
    assert {name for name, layer in layers.items() if layer.health.policy == "Exists"} == {"base", "operators"}
    assert {name: len(layer.health.checks) for name, layer in layers.items() if layer.health.checks} == {
        "base": 9,
        "operators": 13,
        "observability": 4,
    }
    assert all(layer.prune.enabled for layer in layers.values())


def test_36_releases_are_found_in_their_layers(found: Releases) -> None:
    assert {layer: problems for layer, problems in found.problems.items() if problems} == {}
    assert Counter(spec.layer for specs in found.specs.values() for spec in specs) == {
        "base": 6,
        "crds": 1,
        "operators": 13,
        "dev-platform": 7,
        "messaging": 2,
        "observability": 3,
        "security": 1,
        "argo": 3,
    }


def test_every_chart_has_a_url_and_an_exact_version(by_id: dict[str, ReleaseSpec]) -> None:
    charts = {name: spec.chart for name, spec in by_id.items()}
    assert len(charts) == 36
    for name, chart in charts.items():
        assert isinstance(chart, RepoChart), name
        assert chart.url.startswith("oci://" if chart.oci else "https://"), name
        assert chart.version[:1].isdigit() or chart.version[:1] == "v", name
    assert charts["cert-manager/cert-manager"] == RepoChart("https://charts.jetstack.io/", "cert-manager", "v1.19.4")
    kgateway = charts["kgateway-system/kgateway"]
    assert isinstance(kgateway, RepoChart)
    assert (kgateway.reference, kgateway.version) == ("oci://cr.kgateway.dev/kgateway-dev/charts/kgateway", "v2.2.1")


def test_charts_come_from_repositories_of_other_namespaces_and_layers(by_id: dict[str, ReleaseSpec]) -> None:
    percona = by_id["postgres/pg-operator"].chart
    assert isinstance(percona, RepoChart)
    for name in ("temporal/temporal-db", "keycloak/keycloak-db", "coder/coder-db"):
        database = by_id[name].chart
        assert isinstance(database, RepoChart)
        assert database.url == percona.url
        assert by_id[name].layer != by_id["postgres/pg-operator"].layer


def test_three_releases_read_values_from_secrets(by_id: dict[str, ReleaseSpec]) -> None:
    references = {name: spec.values_from for name, spec in by_id.items() if spec.values_from}
    path = r"grafana.grafana\.ini.auth\.generic_oauth.client_secret"
    assert references == {
        "argo/argo-cd": (
            ValuesReference(
                "Secret", "argo", "argocd-oidc", "oidc.clientSecret", r"configs.secret.extra.oidc\.clientSecret"
            ),
        ),
        "kafka/kafbat-ui": (
            ValuesReference(
                "Secret", "kafka", "kafbat-ui-oidc", "clientSecret",
                "yamlApplicationConfig.auth.oauth2.client.keycloak.clientSecret",
            ),
        ),
        "vmks/vmks": (ValuesReference("Secret", "vmks", "grafana-oidc", "client-secret", path),),
    }  # fmt: skip


def test_their_values_wait_for_the_secret_and_then_hold_it(by_id: dict[str, ReleaseSpec]) -> None:
    argo = by_id["argo/argo-cd"]
    (source,) = sources(argo)
    assert compose(argo, {}) == Missing(*source, "", "Secret argo/argocd-oidc does not exist yet")
    answer = compose(argo, {source: {"oidc.clientSecret": b"abc"}})
    assert isinstance(answer, Composed)
    assert answer.values["configs"]["secret"]["extra"] == {"oidc.clientSecret": "abc"}
    assert answer.values["configs"]["cm"]["url"] == "https://argo-cd.wcloud.sh"
    grafana = compose(by_id["vmks/vmks"], {("Secret", "vmks", "grafana-oidc"): {"client-secret": b"s3"}})
    assert isinstance(grafana, Composed)
    assert grafana.values["grafana"]["grafana.ini"]["auth.generic_oauth"]["client_secret"] == "s3"
    assert grafana.values["grafana"]["grafana.ini"]["server"]["domain"] == "grafana.wcloud.sh"


def test_dependencies_timeouts_and_post_renderers_are_kept(by_id: dict[str, ReleaseSpec]) -> None:
    assert {name: spec.depends_on for name, spec in by_id.items() if spec.depends_on} == {
        "temporal/temporal": ("temporal/temporal-db",),
        "coder/coder": ("coder/coder-db",),
    }
    temporal = by_id["temporal/temporal"]
    assert {spec.timeout for spec in by_id.values()} == {300, 900}
    assert (temporal.timeout, temporal.suspend) == (900, False)
    (kustomization,) = temporal.post_renderers
    assert [patch["target"]["name"] for patch in kustomization["patches"]] == [
        "temporal-frontend", "temporal-history", "temporal-matching"
    ]  # fmt: skip
