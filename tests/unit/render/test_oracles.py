"""The renderer against the real command lines: our charts, and the homelab's charts and layers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from clusterstack.core.objects import Manifest, canonical
from clusterstack.render.kustomization import build
from clusterstack.render.pool import RendererPool
from clusterstack.render.protocol import HelmRendered, HelmRequest, HookSource, LookupAnswer

CommandLine = Callable[..., str]


class Loader(yaml.CSafeLoader):
    """YAML without dates and `=`: close enough to Kubernetes to compare two texts read alike."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":value"))]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def documents(text: str) -> Iterator[Any]:
    return (document for document in yaml.load_all(text, Loader) if document)


def assert_same_manifest(ours: list[str], helm: Callable[[], list[str]]) -> list[str]:
    """Compares line by line and returns what Helm prints after the manifest: the hooks.

    Lines may differ only where two runs of Helm itself differ: random values, certificates.
    """
    first = helm()
    different = [i for i, line in enumerate(ours) if line != first[i]]
    if different:
        second = helm()
        assert [(ours[i], first[i]) for i in different if first[i] == second[i]] == []
    return first[len(ours) :]


def assert_same_hooks(hooks: tuple[HookSource, ...], lines: list[str]) -> None:
    theirs = [(d["kind"], d["metadata"]["name"]) for d in documents("\n".join(lines))]
    assert sorted((hook.kind, hook.name) for hook in hooks) == sorted(theirs)
    for hook in hooks:
        assert hook.object["metadata"]["annotations"]["helm.sh/hook"]
        assert [hook.object] == list(documents(hook.manifest))


class Oracle:
    """`helm template`, and the comparison of what we render with it."""

    def __init__(self, helm: CommandLine, folder: Path) -> None:
        self.helm = helm
        self._values = folder / "values.json"

    def template(self, request: HelmRequest, *flags: str) -> str:
        self._values.write_text(json.dumps(request.values))
        base = ["template", request.release, str(request.chart), "--namespace", request.namespace]
        return self.helm(*base, "--values", str(self._values), "--kube-version", request.kube_version, *flags)

    async def compare(self, pool: RendererPool, request: HelmRequest) -> HelmRendered:
        rendered = await pool.helm(request, lookup=nothing_there)
        ours = rendered.manifest.strip().splitlines()
        rest = assert_same_manifest(ours, lambda: self.template(request).strip().splitlines())
        assert_same_hooks(rendered.hooks, rest)
        return rendered


@pytest.fixture
def oracle(helm_command: CommandLine, tmp_path: Path) -> Oracle:
    return Oracle(helm_command, tmp_path)


async def nothing_there(*key: str) -> LookupAnswer:
    return LookupAnswer()


@pytest.mark.parametrize(
    ("chart", "values"),
    [
        ("templated", {}),
        ("templated", {"cache": {"enabled": True}, "port": 8081, "replicas": 3, "image": {"tag": None}}),
        ("hooks", {"failPreInstall": True}),
        ("crd-and-cr", {"size": 12}),
    ],
)
async def test_our_charts_render_as_helm_does(
    pool: RendererPool, charts: Path, oracle: Oracle, chart: str, values: dict[str, Any]
) -> None:
    request = HelmRequest(charts / chart, "demo", "space", values, kube_version="v1.36.3", lookup=False)
    rendered = await oracle.compare(pool, request)
    with_crds = list(documents(oracle.template(request, "--include-crds", "--no-hooks")))
    crds = with_crds[: len(with_crds) - len(rendered.objects)]
    assert [canonical(crd) for crd in rendered.crds] == [canonical(crd) for crd in crds]


def releases(homelab: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Every HelmRelease of the homelab: name, chart archive, inline values."""
    archives = {path.name: path for path in (homelab / "site").rglob("*.tgz")}
    for file in sorted((homelab / "repo").rglob("*.y*ml")):
        for document in documents(file.read_text()):
            if not isinstance(document, dict) or document.get("kind") != "HelmRelease":
                continue
            spec = document["spec"].get("chart", {}).get("spec", {})
            chart = f"{spec.get('chart')}-{spec.get('version')}.tgz"
            if chart in archives:
                yield document["metadata"]["name"], archives[chart], document["spec"].get("values") or {}


@pytest.mark.homelab
async def test_every_homelab_chart_renders_as_helm_does(pool: RendererPool, homelab: Path, oracle: Oracle) -> None:
    archives = set((homelab / "site").rglob("*.tgz"))
    todo = list(releases(homelab))
    used = {chart for _, chart, _ in todo}
    todo += [("unused", chart, {}) for chart in archives - used]
    for name, chart, values in todo:
        request = HelmRequest(chart, name, "space", values, kube_version="v1.36.3", lookup=False)
        rendered = await oracle.compare(pool, request)
        shown = set(re.findall(r"^  name: (\S+)$", oracle.helm("show", "crds", str(chart)), re.MULTILINE))
        assert {crd["metadata"]["name"] for crd in rendered.crds} <= shown
    assert len(used) >= 30


def localised(repository: Path, site: Path, copy: Path) -> Path:
    """A copy of a repository whose remote resources are local files, for a command line without network."""
    shutil.copytree(repository, copy)
    for file in [*copy.rglob("kustomization.yaml"), *copy.rglob("kustomization.yml")]:
        content = yaml.safe_load(file.read_text()) or {}
        for number, resource in enumerate(content.get("resources") or []):
            if resource.startswith("https://"):
                local = f"remote-{number}.yaml"
                shutil.copy(site_file(site, resource), file.parent / local)
                content["resources"][number] = local
        file.write_text(yaml.safe_dump(content))
    return copy


def site_file(site: Path, url: str) -> Path:
    parts = urlsplit(url)
    return site / (parts.hostname or "") / parts.path.lstrip("/")


def normal(manifests: Iterator[Manifest] | tuple[Manifest, ...]) -> list[bytes]:
    return sorted(canonical(manifest) for manifest in manifests)


@pytest.mark.homelab
async def test_every_homelab_layer_builds_as_kustomize_does(
    pool: RendererPool, homelab: Path, kustomize_command: CommandLine, tmp_path: Path
) -> None:
    repository, site = homelab / "repo", homelab / "site"
    local = localised(repository, site, tmp_path / "repo")
    layers = sorted(path.parent for path in repository.glob("*/kustomization.y*ml"))
    assert len(layers) >= 13

    async def fetch(url: str) -> Path:
        return site_file(site, url)

    for layer in layers:
        path = str(layer.relative_to(repository))
        result = await build(pool, root=repository, path=path, fetch=fetch)
        text = kustomize_command("build", "--load-restrictor", "LoadRestrictionsNone", str(local / path))
        theirs = list(documents(text))
        assert len(result.objects) == len(theirs) > 0, path
        assert normal(result.objects) == normal(tuple(theirs)), path
