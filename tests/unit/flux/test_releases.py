"""HelmReleases and charts as releases."""

from __future__ import annotations

from typing import Any

import pytest

from clusterstack.core.content import Problem
from clusterstack.core.objects import ObjectRef
from clusterstack.flux.releases import Releases, native_release, origins, releases
from clusterstack.helm.spec import CrdsPolicy, GitChart, OciArtifact, ReleaseSpec, RepoChart, SecretRef, ValuesReference

SOURCE = "source.toolkit.fluxcd.io/v1"


def flux(api_version: str, kind: str, name: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def repository(name: str = "repo", namespace: str = "apps", **spec: Any) -> dict[str, Any]:
    return flux(SOURCE, "HelmRepository", name, namespace, {"url": "https://charts.example.org", **spec})


def template(kind: str = "HelmRepository", name: str = "repo", **extra: Any) -> dict[str, Any]:
    reference = {"kind": kind, "name": name, **extra.pop("ref", {})}
    return {"chart": {"spec": {"chart": "web", "version": "1.0.0", "sourceRef": reference, **extra}}}


def helmrelease(name: str = "web", namespace: str = "apps", *, version: str = "v2", **spec: Any) -> dict[str, Any]:
    spec = spec if "chart" in spec or "chartRef" in spec else {**template(), **spec}
    return flux(f"helm.toolkit.fluxcd.io/{version}", "HelmRelease", name, namespace, spec)


def one(*objects: dict[str, Any], shared: tuple[dict[str, Any], ...] = ()) -> ReleaseSpec:
    found = releases({"base": objects}, shared=shared)
    assert found.problems == {"base": ()}
    (spec,) = found.specs["base"]
    return spec


def problem(*objects: dict[str, Any]) -> Problem:
    found = releases({"base": objects})
    assert found.specs == {"base": ()}
    (only,) = found.problems["base"]
    return only


def test_a_plain_helmrelease_has_helm_controllers_defaults() -> None:
    spec = one(repository(), helmrelease(values={"a": 1}))
    assert spec.id == "apps/web"
    assert spec.origin == ObjectRef("helm.toolkit.fluxcd.io", "HelmRelease", "apps", "web")
    assert (spec.release_name, spec.namespace, spec.storage_namespace) == ("web", "apps", "apps")
    assert spec.chart == RepoChart("https://charts.example.org", "web", "1.0.0")
    assert spec.values == {"a": 1}
    assert (spec.timeout, spec.install.timeout, spec.max_history) == (300, 300, 5)
    assert (spec.install.crds, spec.upgrade.crds) == (CrdsPolicy.CREATE, CrdsPolicy.CREATE)
    assert (spec.install.retries, spec.install.take_ownership, spec.drift, spec.create_namespace) == (
        0,
        True,
        "",
        False,
    )
    assert spec.common_labels == {"helm.toolkit.fluxcd.io/name": "web", "helm.toolkit.fluxcd.io/namespace": "apps"}


def test_every_field_that_steers_a_release_is_read() -> None:
    full = helmrelease(
        version="v2beta2",
        **template(valuesFiles=["values.yaml", "prod.yaml"], ignoreMissingValuesFiles=True),
        releaseName="other",
        targetNamespace="target",
        storageNamespace="store",
        timeout="15m",
        maxHistory=0,
        suspend=True,
        serviceAccountName="deployer",
        dependsOn=[{"name": "db"}, {"name": "db", "namespace": "pg"}],
        install={"createNamespace": True, "crds": "CreateReplace", "disableWait": True, "timeout": "1m"},
        upgrade={
            "crds": "Skip",
            "disableSchemaValidation": True,
            "remediation": {"retries": -1, "strategy": "uninstall"},
        },
        uninstall={"keepHistory": True, "deletionPropagation": "foreground"},
        test={"enable": True, "filters": [{"name": "t", "exclude": True}]},
        postRenderers=[{"kustomize": {"patches": [{"patch": "x"}]}}, {"other": 1}],
        postRenderStrategy="nohooks",
        commonMetadata={"labels": {"a": "b", "helm.toolkit.fluxcd.io/name": "z"}, "annotations": {"c": "d"}},
        driftDetection={"mode": "warn", "ignore": [{"paths": ["/spec/replicas"], "target": {"kind": "Deployment"}}]},
        healthCheckExprs=[{"apiVersion": "a/v1", "kind": "B", "current": "true"}],
    )
    elsewhere = helmrelease("db", "pg", **template(ref={"namespace": "apps"}))
    found = releases({"base": [repository(), full, helmrelease("db"), elsewhere]})
    spec = found.specs["base"][0]
    assert (spec.id, spec.release_name, spec.namespace, spec.storage_namespace) == (
        "apps/web",
        "other",
        "target",
        "store",
    )
    assert (spec.values_files, spec.ignore_missing_values_files) == (("values.yaml", "prod.yaml"), True)
    assert (spec.timeout, spec.install.timeout, spec.upgrade.timeout, spec.uninstall.timeout) == (900, 60, 900, 900)
    assert (spec.max_history, spec.suspend, spec.service_account) == (0, True, "deployer")
    assert spec.depends_on == ("apps/db", "pg/db")
    assert (spec.create_namespace, spec.install.crds, spec.install.disable_wait) == (
        True,
        CrdsPolicy.CREATE_REPLACE,
        True,
    )
    assert (spec.upgrade.crds, spec.upgrade.disable_schema_validation) == (CrdsPolicy.SKIP, True)
    assert (spec.upgrade.retries, spec.upgrade.remediation) == (-1, "uninstall")
    assert (spec.uninstall.keep_history, spec.uninstall.propagation) == (True, "Foreground")
    assert (spec.test.enable, spec.test.timeout, spec.test.filters) == (True, 900, (("t", True),))
    assert spec.post_renderers == ({"patches": [{"patch": "x"}]},)
    assert spec.post_render_strategy == "nohooks"
    assert spec.common_labels["a"] == "b"
    assert spec.common_labels["helm.toolkit.fluxcd.io/name"] == "web", "origin labels win"
    assert spec.common_annotations == {"c": "d"}
    assert spec.drift == "Report"
    assert spec.drift_ignore == ({"paths": ["/spec/replicas"], "target": {"kind": "Deployment"}},)
    assert spec.health_expressions == ({"apiVersion": "a/v1", "kind": "B", "current": "true"},)
    assert [other.id for other in found.specs["base"]] == ["apps/web", "apps/db", "pg/db"]


def test_a_release_is_named_with_its_target_namespace_and_within_helms_length() -> None:
    assert one(repository(), helmrelease(targetNamespace="t")).release_name == "t-web"
    long = one(repository(), helmrelease(targetNamespace="t" * 60)).release_name
    assert len(long) == 53
    assert one(repository(), helmrelease(install={"createNamespace": True})).create_namespace is False


@pytest.mark.parametrize(
    ("install", "crds", "remediation"),
    [
        ({"skipCRDs": True}, CrdsPolicy.SKIP, ""),
        ({"skipCRDs": True, "crds": "Create"}, CrdsPolicy.CREATE, ""),
        ({"remediation": {"retries": 3}}, CrdsPolicy.CREATE, "uninstall"),
    ],
)
def test_the_peculiarities_of_install_are_read(install: dict[str, Any], crds: CrdsPolicy, remediation: str) -> None:
    spec = one(repository(), helmrelease(install=install))
    assert (spec.install.crds, spec.install.remediation) == (crds, remediation)


def test_values_references_are_read_in_order() -> None:
    spec = one(
        repository(),
        helmrelease(
            targetNamespace="t",
            valuesFrom=[
                {"kind": "ConfigMap", "name": "c"},
                {
                    "kind": "Secret",
                    "name": "s",
                    "valuesKey": "k",
                    "targetPath": "a.b",
                    "optional": True,
                    "literal": True,
                },
            ],
        ),
    )
    assert spec.values_from == (
        ValuesReference("ConfigMap", "apps", "c"),
        ValuesReference("Secret", "apps", "s", "k", "a.b", optional=True, literal=True),
    )


def test_a_repository_may_live_in_another_namespace_and_another_layer() -> None:
    found = releases(
        {
            "late": [helmrelease(**template(ref={"namespace": "flux-system"}))],
            "early": [repository(namespace="flux-system", secretRef={"name": "auth"}, passCredentials=True)],
        }
    )
    (spec,) = found.specs["late"]
    assert spec.chart == RepoChart(
        "https://charts.example.org", "web", "1.0.0", secret=SecretRef("flux-system", "auth"), pass_credentials=True
    )
    assert found.specs["early"] == ()


@pytest.mark.parametrize(
    "spec", [{"type": "oci", "url": "oci://ghcr.io/org/charts"}, {"url": "oci://ghcr.io/org/charts/"}]
)
def test_an_oci_repository_is_a_prefix(spec: dict[str, Any]) -> None:
    chart = one(repository(**spec), helmrelease()).chart
    assert isinstance(chart, RepoChart)
    assert chart.oci
    assert chart.reference == "oci://ghcr.io/org/charts/web"


def test_a_chart_reference_follows_the_helmchart_to_its_repository() -> None:
    chart = flux(
        SOURCE, "HelmChart", "c", "other", {"chart": "x", "sourceRef": {"kind": "HelmRepository", "name": "repo"}}
    )
    release = helmrelease(chartRef={"kind": "HelmChart", "name": "c", "namespace": "other"})
    assert one(repository(namespace="other"), chart, release).chart == RepoChart("https://charts.example.org", "x", "*")


def test_a_chart_may_be_an_oci_artifact() -> None:
    artifact = flux(
        "source.toolkit.fluxcd.io/v1beta2",
        "OCIRepository",
        "app",
        "apps",
        {
            "url": "oci://ghcr.io/org/app",
            "ref": {"semver": ">=1.0.0"},
            "layerSelector": {"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "operation": "copy"},
        },
    )
    chart = one(artifact, helmrelease(chartRef={"kind": "OCIRepository", "name": "app"})).chart
    assert isinstance(chart, OciArtifact)
    assert (chart.url, chart.semver, chart.operation) == ("oci://ghcr.io/org/app", ">=1.0.0", "copy")
    assert chart.where == "oci://ghcr.io/org/app >=1.0.0"


def test_a_chart_may_be_a_directory_of_a_git_repository_of_the_tree_itself() -> None:
    git = flux(
        SOURCE, "GitRepository", "flux-system", "flux-system",
        {"url": "https://git.example.org/infra", "ref": {"branch": "main"}, "secretRef": {"name": "git"}},
    )  # fmt: skip
    release = helmrelease(
        **template("GitRepository", "flux-system", ref={"namespace": "flux-system"}, reconcileStrategy="Revision")
    )
    chart = one(release, shared=(git,)).chart
    assert chart == GitChart(
        "https://git.example.org/infra", "web", branch="main", secret=SecretRef("flux-system", "git"),
        reconcile="Revision",
        repository=ObjectRef("source.toolkit.fluxcd.io", "GitRepository", "flux-system", "flux-system"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("objects", "reason", "words"),
    [
        (
            [helmrelease()],
            "SourceMissing",
            ["HelmRelease apps/web", "spec.chart.spec.sourceRef", "HelmRepository apps/repo"],
        ),
        (
            [helmrelease(chartRef={"kind": "HelmChart", "name": "c"})],
            "SourceMissing",
            ["HelmRelease apps/web", "spec.chartRef", "HelmChart apps/c"],
        ),
        (
            [
                flux(
                    SOURCE,
                    "HelmChart",
                    "c",
                    "apps",
                    {"chart": "x", "sourceRef": {"kind": "HelmRepository", "name": "r"}},
                ),
                helmrelease(chartRef={"kind": "HelmChart", "name": "c"}),
            ],
            "SourceMissing",
            ["HelmChart apps/c", "spec.sourceRef", "HelmRepository apps/r"],
        ),
        ([helmrelease(**template("Bucket"))], "Unsupported", ["Bucket", "sourceRef"]),
        ([helmrelease(chartRef={"kind": "ExternalArtifact", "name": "x"})], "Unsupported", ["ExternalArtifact"]),
        ([repository(), helmrelease(kubeConfig={"secretRef": {"name": "x"}})], "Unsupported", ["spec.kubeConfig"]),
        ([helmrelease(chart=None, chartRef=None)], "InvalidRelease", ["exactly one of chart and chartRef"]),
        ([repository(), helmrelease(timeout="5 minutes")], "InvalidRelease", ["spec.timeout", "5 minutes"]),
        ([repository(), helmrelease(values="x")], "InvalidRelease", ["spec.values", "is not a map"]),
        (
            [repository(), helmrelease(install={"crds": "Never"})],
            "InvalidRelease",
            ["spec.install.crds", "Never", "Skip"],
        ),
        ([repository(), helmrelease(suspend="yes")], "InvalidRelease", ["spec.suspend", "true or false"]),
        ([repository(), helmrelease(maxHistory=True)], "InvalidRelease", ["spec.maxHistory"]),
        ([repository(), helmrelease(valuesFrom=["x"])], "InvalidRelease", ["spec.valuesFrom[0]"]),
        ([repository(url=""), helmrelease()], "InvalidRelease", ["HelmRepository apps/repo", "spec.url"]),
        ([repository(), helmrelease(dependsOn=[{"name": "gone"}])], "UnknownDependency", ["apps/gone"]),
        ([repository(), helmrelease(dependsOn=[{"name": "web"}])], "DependencyCycle", ["apps/web → apps/web"]),
    ],
)
def test_what_is_wrong_is_a_problem_of_that_release_alone(
    objects: list[dict[str, Any]], reason: str, words: list[str]
) -> None:
    found = problem(*objects)
    assert (found.reason, found.unit) == (reason, "apps/web")
    for word in words:
        assert word in found.message


def test_a_problem_does_not_touch_its_neighbours() -> None:
    found = releases(
        {"base": [repository(), helmrelease("good"), helmrelease("bad", **template(name="gone"))], "empty": []}
    )
    assert [spec.id for spec in found.specs["base"]] == ["apps/good"]
    assert [item.unit for item in found.problems["base"]] == ["apps/bad"]
    assert found.specs["empty"] == ()


def test_a_release_may_depend_on_one_that_has_a_problem() -> None:
    found = releases(
        {"base": [repository(), helmrelease(dependsOn=[{"name": "bad"}]), helmrelease("bad", **template(name="gone"))]}
    )
    assert [spec.id for spec in found.specs["base"]] == ["apps/web"]


def test_a_circle_of_releases_is_named_in_order() -> None:
    found = releases(
        {
            "one": [repository(), helmrelease("a", dependsOn=[{"name": "b"}]), helmrelease("free")],
            "two": [helmrelease("b", dependsOn=[{"name": "c"}]), helmrelease("c", dependsOn=[{"name": "a"}])],
        }
    )
    assert [item.reason for item in (*found.problems["one"], *found.problems["two"])] == ["DependencyCycle"] * 3
    assert "apps/a → apps/b → apps/c → apps/a" in found.problems["one"][0].message
    assert [spec.id for spec in found.specs["one"]] == ["apps/free"]


def test_the_first_layer_keeps_a_release_that_two_declare() -> None:
    found = releases(
        {"one": [repository(), helmrelease()], "two": [helmrelease(), helmrelease("x", releaseName="web")]}
    )
    assert [spec.id for spec in found.specs["one"]] == ["apps/web"]
    assert [(item.reason, item.unit) for item in found.problems["two"]] == [
        ("DuplicateRelease", "apps/web"),
        ("DuplicateRelease", "apps/x"),
    ]
    assert "layer one" in found.problems["two"][0].message


CHART = {
    "name": "cert-manager",
    "namespace": "cert-manager",
    "repo": "https://charts.jetstack.io",
    "chart": "cert-manager",
    "version": "v1.19.4",
}


def native(**extra: Any) -> ReleaseSpec:
    spec = native_release("base", {**CHART, **extra})
    assert isinstance(spec, ReleaseSpec), spec
    return spec


def test_a_chart_of_a_layer_is_a_release_too() -> None:
    spec = native(
        values={"a": 1},
        valuesFrom=[{"kind": "Secret", "name": "s"}],
        dependsOn=[{"name": "x"}],
        timeout="1m",
        crds="Skip",
        createNamespace=True,
        secretRef={"name": "auth"},
        postRenderers=[{"kustomize": {"images": [{"name": "a"}]}}],
    )
    assert (spec.id, spec.layer, spec.release_name) == ("cert-manager/cert-manager", "base", "cert-manager")
    assert spec.chart == RepoChart(
        "https://charts.jetstack.io", "cert-manager", "v1.19.4", secret=SecretRef("", "auth")
    )
    assert spec.values_from == (ValuesReference("Secret", "cert-manager", "s"),)
    assert spec.depends_on == ("cert-manager/x",)
    assert (spec.timeout, spec.install.timeout, spec.upgrade.crds) == (60, 60, CrdsPolicy.SKIP)
    assert (spec.create_namespace, spec.post_renderers) == (True, ({"images": [{"name": "a"}]},))
    assert spec.common_labels == {}, "Flux's origin labels are for HelmReleases"
    assert native(repo="oci://ghcr.io/x").chart == RepoChart("oci://ghcr.io/x", "cert-manager", "v1.19.4", oci=True)


def test_a_chart_with_a_mistake_is_a_problem_that_names_it() -> None:
    answer = native_release("base", {**CHART, "timeout": "soon"})
    assert isinstance(answer, Problem)
    assert answer.unit == "cert-manager/cert-manager"
    assert "layer base: charts[cert-manager].timeout" in answer.message


def test_charts_and_helmreleases_depend_on_one_another() -> None:
    found: Releases = releases(
        {"base": [repository(), helmrelease()]},
        native={"base": [{**CHART, "dependsOn": [{"name": "web", "namespace": "apps"}]}]},
    )
    assert [spec.id for spec in found.specs["base"]] == ["apps/web", "cert-manager/cert-manager"]
    assert (
        origins(found.specs["base"])[ObjectRef("helm.toolkit.fluxcd.io", "HelmRelease", "apps", "web")].id == "apps/web"
    )
