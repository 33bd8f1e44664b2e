"""Flux's HelmRelease and its sources in a layer's manifests: interpreted, never applied, run as releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testbed.chartserver import chart
from testbed.gitrepo import GitRepository

from .bed import Bed, Manifest, config_map, secret

pytestmark = pytest.mark.e2e

PAGE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}"}
data: {text: "{{ .Values.text }}", version: "{{ .Chart.Version }}"}
"""


@pytest.fixture
def ns(bed: Bed) -> str:
    """A namespace; versions 1.0.0, 1.1.0 and 2.0.0 of the chart `leaf` are published."""
    files = {"templates/page.yaml": PAGE, "values.yaml": "text: hello\n"}
    bed.charts.publish(*(chart("leaf", version, files) for version in ("1.0.0", "1.1.0", "2.0.0")))
    return bed.namespace()


def source(kind: str, ns: str, name: str, **spec: Any) -> Manifest:
    metadata = {"name": name, "namespace": ns}
    return {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def helm_release(ns: str, name: str, **spec: Any) -> Manifest:
    metadata = {"name": name, "namespace": ns}
    return {"apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease", "metadata": metadata, "spec": spec}


def template(repository: str, version: str = "*", **reference: str) -> Manifest:
    ref = {"kind": "HelmRepository", "name": repository, **reference}
    return {"spec": {"chart": "leaf", "version": version, "sourceRef": ref}}


def data(bed: Bed, ns: str, name: str) -> dict[str, str]:
    return dict(bed.api.get(f"/api/v1/namespaces/{ns}/configmaps/{name}")["data"])


def test_charts_of_http_oci_and_git_repositories_and_by_reference(bed: Bed, ns: str, tmp_path: Path) -> None:
    git = GitRepository(tmp_path / "charts.git").create()
    meta = "apiVersion: v2\nname: page\nversion: 0.3.0\n"
    git.commit(
        "add", {"deploy/Chart.yaml": meta, "deploy/templates/page.yaml": PAGE, "deploy/values.yaml": "text: git"}
    )
    elsewhere = bed.namespace("sources")
    manifests = [
        source("HelmRepository", elsewhere, "web", url=bed.charts.url),
        source("HelmRepository", ns, "registry", url=bed.charts.oci, type="oci"),
        source("GitRepository", ns, "code", url=git.bare.as_uri(), ref={"branch": "main"}),
        source("OCIRepository", ns, "artifact", url=f"{bed.charts.oci}/leaf", ref={"semver": "1.x"}),
        source(
            "HelmChart",
            ns,
            "named",
            chart="leaf",
            version="~1.0",
            sourceRef={"kind": "HelmRepository", "name": "registry"},
        ),
        helm_release(ns, "http", chart=template("web", "1.x", namespace=elsewhere), values={"text": "http"}),
        helm_release(ns, "oci", chart=template("registry")),
        helm_release(
            ns, "git", chart={"spec": {"chart": "deploy", "sourceRef": {"kind": "GitRepository", "name": "code"}}}
        ),
        helm_release(ns, "by-chart", chartRef={"kind": "HelmChart", "name": "named"}),
        helm_release(ns, "by-artifact", chartRef={"kind": "OCIRepository", "name": "artifact"}),
    ]
    stack = bed.stack({"name": "app", "manifests": manifests})
    stack.ready()
    assert data(bed, ns, "http") == {"text": "http", "version": "1.1.0"}
    assert data(bed, ns, "oci") == {"text": "hello", "version": "2.0.0"}
    assert data(bed, ns, "git") == {"text": "git", "version": "0.3.0"}
    assert data(bed, ns, "by-chart") == {"text": "hello", "version": "1.0.0"}
    assert data(bed, ns, "by-artifact") == {"text": "hello", "version": "1.1.0"}
    labels = bed.api.get(f"/api/v1/namespaces/{ns}/configmaps/http")["metadata"]["labels"]
    assert labels["helm.toolkit.fluxcd.io/name"] == "http"
    assert stack.untouched(bed.plane.audit_offset()) == []


def test_a_new_version_within_the_constraint_is_an_upgrade(bed: Bed, ns: str) -> None:
    bed.charts.publish(chart("moving", "1.0.0", {"templates/page.yaml": PAGE, "values.yaml": "text: one\n"}))
    moving = {"spec": {"chart": "moving", "version": "1.x", "sourceRef": {"kind": "HelmRepository", "name": "web"}}}
    stack = bed.stack(
        {
            "name": "app",
            "manifests": [
                source("HelmRepository", ns, "web", url=bed.charts.url),
                helm_release(ns, "moving", chart=moving),
            ],
        }
    )
    stack.ready()
    for version in ("1.2.0", "2.0.0"):
        bed.charts.publish(chart("moving", version, {"templates/page.yaml": PAGE, "values.yaml": "text: two\n"}))
    stack.reconcile()
    bed.until(f"/api/v1/namespaces/{ns}/configmaps/moving", lambda found: found["data"]["version"] == "1.2.0")
    stack.ready()


def test_post_renderers_patch_what_the_chart_makes_and_common_metadata_marks_it(bed: Bed, ns: str) -> None:
    patch = "- {op: add, path: /data/patched, value: 'yes'}"
    renderers = [{"kustomize": {"patches": [{"target": {"kind": "ConfigMap"}, "patch": patch}]}}]
    stack = bed.stack(
        {
            "name": "app",
            "manifests": [
                source("HelmRepository", ns, "web", url=bed.charts.url),
                helm_release(
                    ns,
                    "page",
                    chart=template("web"),
                    postRenderers=renderers,
                    commonMetadata={"labels": {"team": "a"}, "annotations": {"example.com/note": "b"}},
                ),
            ],
        }
    )
    stack.ready()
    assert data(bed, ns, "page")["patched"] == "yes"
    metadata = bed.api.get(f"/api/v1/namespaces/{ns}/configmaps/page")["metadata"]
    assert metadata["labels"]["team"] == "a"
    assert metadata["annotations"]["example.com/note"] == "b"
    assert "patched: " in bed.helm("get", "manifest", "page", namespace=ns)


def test_values_from_secrets_by_key_and_path_and_a_release_in_a_namespace_of_its_own(bed: Bed, ns: str) -> None:
    target = f"{ns}-target"
    bed.api.create(f"/api/v1/namespaces/{ns}/secrets", secret("word", ns, word="hush"))
    stack = bed.stack(
        {
            "name": "app",
            "manifests": [
                source("HelmRepository", ns, "web", url=bed.charts.url),
                helm_release(
                    ns,
                    "page",
                    chart=template("web"),
                    releaseName="renamed",
                    targetNamespace=target,
                    install={"createNamespace": True},
                    valuesFrom=[{"kind": "Secret", "name": "word", "valuesKey": "word", "targetPath": "text"}],
                ),
            ],
        },
        deletionPolicy="Delete",
    )
    stack.ready()
    assert data(bed, target, "renamed")["text"] == "hush"
    assert bed.api.find(f"/api/v1/namespaces/{ns}/secrets/sh.helm.release.v1.renamed.v1") is not None
    stack.delete()
    assert bed.api.find(f"/api/v1/namespaces/{ns}/secrets/sh.helm.release.v1.renamed.v1") is None
    bed.until(f"/api/v1/namespaces/{target}", lambda found: found is None)


def test_releases_depend_on_releases_of_other_layers_and_health_checks_name_them(bed: Bed, ns: str) -> None:
    web = source("HelmRepository", ns, "web", url=bed.charts.url)
    waits = {"kind": "Secret", "name": "late", "valuesKey": "word", "targetPath": "text"}
    first = helm_release(ns, "first", chart=template("web"), valuesFrom=[waits])
    second = helm_release(ns, "second", chart=template("web"), dependsOn=[{"name": "first"}])
    reference = {"apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease", "name": "first", "namespace": ns}
    stack = bed.stack(
        {"name": "sources", "manifests": [web, config_map("sources", ns)]},
        {"name": "one", "manifests": [first]},
        {"name": "two", "manifests": [second]},
        {"name": "three", "requires": [reference], "manifests": [config_map("three", ns)]},
        {"name": "four", "health": {"checks": [reference]}, "manifests": [config_map("four", ns)]},
    )
    stack.phase("two", "Progressing", says=f"{ns}/first")
    stack.phase("three", "Waiting", says="first")
    stack.phase("four", "Progressing", says="first")
    assert bed.api.find(f"/api/v1/namespaces/{ns}/configmaps/three") is None
    assert bed.api.find(f"/api/v1/namespaces/{ns}/configmaps/four") is not None
    bed.api.create(f"/api/v1/namespaces/{ns}/secrets", secret("late", ns, word="now"))
    stack.ready()
    assert data(bed, ns, "first")["text"] == "now"


def test_a_release_whose_source_nobody_declares_fails_alone_and_keeps_what_it_had(bed: Bed, ns: str) -> None:
    web = source("HelmRepository", ns, "web", url=bed.charts.url)
    good = helm_release(ns, "good", chart=template("web"))
    stack = bed.stack({"name": "app", "manifests": [web, good, helm_release(ns, "page", chart=template("web"))]})
    stack.ready()
    stack.edit("app", manifests=[web, good, helm_release(ns, "page", chart=template("nowhere"))])
    status = stack.phase("app", "Failed", says="nowhere")
    assert "HelmRepository" in status["message"]
    stack.reconcile()
    assert data(bed, ns, "page")["text"] == "hello"
    stack.edit("app", manifests=[web, good, helm_release(ns, "page", chart=template("web"), values={"text": "again"})])
    stack.ready()
    assert data(bed, ns, "page")["text"] == "again"
