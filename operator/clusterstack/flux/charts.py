"""Where a HelmRelease's chart comes from: its sources, looked up across the namespaces and layers of a stack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.flux.fields import Fields
from clusterstack.flux.kinds import (
    GIT_REPOSITORY,
    HELM_CHART,
    HELM_REPOSITORY,
    OCI_REPOSITORY,
    SOURCE_GROUP,
    identity,
)
from clusterstack.helm.spec import ChartSource, GitChart, OciArtifact, RepoChart, SecretRef

Identity = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every Flux source of a stack by kind, namespace and name; the first of two with one identity counts."""

    sources: Mapping[Identity, Manifest]

    @classmethod
    def of(cls, manifests: Iterable[Manifest]) -> Catalogue:
        found: dict[Identity, Manifest] = {}
        for manifest in manifests:
            found.setdefault(identity(manifest), manifest)
        return cls(found)

    def chart_of(self, spec: Fields, namespace: str) -> ChartSource:
        """The chart of a HelmRelease's spec. Raises SpecError: SourceMissing, Unsupported, InvalidRelease."""
        if spec.has("chart") == spec.has("chartRef"):
            raise spec.error("chart", "exactly one of chart and chartRef must be set")
        if spec.has("chart"):
            chart = spec.map("chart").map("spec")
            reference = chart.map("sourceRef")
            return self._template(chart, reference, reference.text("namespace") or namespace)
        reference = spec.map("chartRef")
        return self._referenced(reference, reference.text("namespace") or namespace)

    def _referenced(self, reference: Fields, namespace: str) -> ChartSource:
        match reference.required("kind"):
            case "HelmChart":
                chart = self._find(reference, HELM_CHART, namespace)
                return self._template(chart, chart.map("sourceRef"), namespace)
            case "OCIRepository":
                return _oci_artifact(self._find(reference, OCI_REPOSITORY, namespace), namespace)
            case kind:
                raise reference.error("kind", f"{kind} is not supported as a chart's source", reason="Unsupported")

    def _template(self, chart: Fields, reference: Fields, namespace: str) -> ChartSource:
        """The chart that a HelmChart's spec, or a HelmRelease's template of one, describes."""
        match reference.required("kind"):
            case "HelmRepository":
                repository = self._find(reference, HELM_REPOSITORY, namespace)
                return _repo_chart(chart, repository, namespace)
            case "GitRepository":
                repository = self._find(reference, GIT_REPOSITORY, namespace)
                return _git_chart(chart, repository, namespace, reference.text("name"))
            case kind:
                raise reference.error("kind", f"{kind} is not supported as a chart's source", reason="Unsupported")

    def _find(self, reference: Fields, kind: str, namespace: str) -> Fields:
        """The spec of the source that a reference names."""
        name = reference.required("name")
        manifest = self.sources.get((kind, namespace, name))
        if manifest is None:
            problem = f"names {kind} {namespace}/{name}, which no layer of this stack contains"
            raise reference.error("name", problem, reason="SourceMissing")
        return Fields(f"{kind} {namespace}/{name}", "spec", manifest.get("spec") or {})


def _repo_chart(chart: Fields, repository: Fields, namespace: str) -> RepoChart:
    url = repository.required("url")
    return RepoChart(
        url=url,
        chart=chart.required("chart"),
        version=chart.text("version") or "*",
        oci=repository.text("type") == "oci" or url.startswith("oci://"),
        secret=_secret(repository, "secretRef", namespace),
        cert_secret=_secret(repository, "certSecretRef", namespace),
        insecure=repository.flag("insecure"),
        pass_credentials=repository.flag("passCredentials"),
        provider=repository.text("provider") or "generic",
    )


def _git_chart(chart: Fields, repository: Fields, namespace: str, name: str) -> GitChart:
    ref = repository.map("ref")
    return GitChart(
        url=repository.required("url"),
        path=chart.required("chart"),
        branch=ref.text("branch"),
        tag=ref.text("tag"),
        semver=ref.text("semver"),
        name=ref.text("name"),
        commit=ref.text("commit"),
        secret=_secret(repository, "secretRef", namespace),
        reconcile="Revision" if chart.text("reconcileStrategy") == "Revision" else "ChartVersion",
        repository=ObjectRef(SOURCE_GROUP, GIT_REPOSITORY, namespace, name),
    )


def _oci_artifact(repository: Fields, namespace: str) -> OciArtifact:
    ref = repository.map("ref")
    layer = repository.map("layerSelector")
    return OciArtifact(
        url=repository.required("url"),
        tag=ref.text("tag"),
        semver=ref.text("semver"),
        semver_filter=ref.text("semverFilter"),
        digest=ref.text("digest"),
        secret=_secret(repository, "secretRef", namespace),
        cert_secret=_secret(repository, "certSecretRef", namespace),
        insecure=repository.flag("insecure"),
        provider=repository.text("provider") or "generic",
        media_type=layer.text("mediaType"),
        operation=layer.text("operation") or "extract",
    )


def _secret(source: Fields, key: str, namespace: str) -> SecretRef | None:
    return SecretRef(namespace, source.map(key).required("name")) if source.has(key) else None
