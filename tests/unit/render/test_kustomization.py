"""Builds of directories: what Flux would build, and nothing from outside of the source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from clusterstack.core.objects import canonical
from clusterstack.errors import RenderError, SourceError
from clusterstack.render.kustomization import Built, build
from clusterstack.render.pool import RendererPool
from clusterstack.render.protocol import BuildFields, HelmRequest, LookupAnswer, Overlay


def config_map(name: str, **data: str) -> str:
    lines = "".join(f"  {key}: {value!r}\n" for key, value in data.items())
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n" + (f"data:\n{lines}" if lines else "")


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


async def unreachable(url: str) -> Path:
    raise SourceError(f"{url} is unreachable")


async def built(pool: RendererPool, root: Path, path: str = "app", **fields: object) -> Built:
    spec = BuildFields.from_spec(fields)
    return await build(pool, root=root, path=path, fetch=unreachable, fields=spec, source="GitRepository infra")


def names(result: Built) -> list[str]:
    return sorted(manifest["metadata"]["name"] for manifest in result.objects)


async def test_a_plain_directory_is_all_its_manifests(pool: RendererPool, tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "app/a.yaml": config_map("a"),
            "app/deep/er/b.yml": config_map("b") + "---\n" + config_map("b2"),
            "app/notes.txt": "not: [yaml",
            "app/.sops.yaml": "creation_rules: []\n",
            "app/.github/workflow.yaml": "on: push\n",
            "other/c.yaml": config_map("c"),
        },
    )
    result = await built(pool, root)
    assert names(result) == ["a", "b", "b2"]
    assert not (root / "app/kustomization.yaml").exists()


async def test_a_sub_directory_with_a_kustomization_is_one_resource(pool: RendererPool, tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "app/a.yaml": config_map("a"),
            "app/sub/kustomization.yml": "resources: [b.yaml]\nnamePrefix: sub-\n",
            "app/sub/b.yaml": config_map("b"),
            "app/sub/left-out.yaml": config_map("x"),
        },
    )
    assert names(await built(pool, root)) == ["a", "sub-b"]


@pytest.mark.parametrize("files", [{"app/README.md": "nothing"}, {"app/kustomization.yaml": "resources: []\n"}])
async def test_a_directory_without_objects_builds_nothing(
    pool: RendererPool, tmp_path: Path, files: dict[str, str]
) -> None:
    assert (await built(pool, write(tmp_path, files))).objects == ()


@pytest.mark.parametrize("path", ["", ".", "/", "./"])
async def test_the_root_of_a_source_is_a_path(pool: RendererPool, tmp_path: Path, path: str) -> None:
    assert names(await built(pool, write(tmp_path, {"a.yaml": config_map("a")}), path)) == ["a"]


async def test_a_sibling_inside_the_source_can_be_used(pool: RendererPool, tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "app/kustomization.yaml": "resources: [../base, ../shared/one.yaml]\n",
            "base/kustomization.yaml": "resources: [b.yaml]\n",
            "base/b.yaml": config_map("b"),
            "shared/one.yaml": config_map("one"),
        },
    )
    result = await built(pool, root)
    assert names(result) == ["b", "one"]
    assert {"app/kustomization.yaml", "base/kustomization.yaml", "base/b.yaml", "shared/one.yaml"} <= set(result.inputs)


async def test_inputs_name_what_a_build_depends_on(pool: RendererPool, tmp_path: Path) -> None:
    root = write(tmp_path, {"app/sub/a.yaml": config_map("a"), "other/b.yaml": config_map("b")})
    inputs = set((await built(pool, root)).inputs)
    assert {"app", "app/sub", "app/sub/a.yaml", "app/kustomization.yaml"} <= inputs
    assert not any(name.startswith(("other", "/", "..")) for name in inputs)


@pytest.mark.parametrize(
    "resource", ["../../outside.yaml", "../../outside", "/etc/hostname", "link.yaml", "linked", "linked/x.yaml"]
)
async def test_nothing_outside_of_the_source_is_read(pool: RendererPool, tmp_path: Path, resource: str) -> None:
    outside = {"outside.yaml": config_map("x"), "outside/kustomization.yaml": "resources: [x.yaml]\n"}
    write(tmp_path, outside | {"outside/x.yaml": config_map("x")})
    root = write(tmp_path / "source", {"app/kustomization.yaml": f"resources: [{resource}]\n"})
    (root / "app/link.yaml").symlink_to(tmp_path / "outside.yaml")
    (root / "app/linked").symlink_to(tmp_path / "outside")
    with pytest.raises(RenderError, match=r"outside of the source|cannot be absolute"):
        await built(pool, root)


async def test_a_link_inside_the_source_is_followed(pool: RendererPool, tmp_path: Path) -> None:
    root = write(tmp_path, {"app/kustomization.yaml": "resources: [a.yaml]\n", "shared/a.yaml": config_map("a")})
    (root / "app/a.yaml").symlink_to("../shared/a.yaml")
    assert names(await built(pool, root)) == ["a"]


async def test_a_generated_build_refuses_links_out_of_the_source(pool: RendererPool, tmp_path: Path) -> None:
    write(tmp_path, {"secret.yaml": config_map("token")})
    root = write(tmp_path / "source", {"app/a.yaml": config_map("a")})
    (root / "app/b.yaml").symlink_to(tmp_path / "secret.yaml")
    with pytest.raises(RenderError, match=r"app/b\.yaml is outside of the source"):
        await built(pool, root)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("absent", "PathNotFound"),
        ("app/a.yaml", "PathNotFound"),
        ("../..", "InvalidPath"),
        ("app/../..", "InvalidPath"),
        ("out", "InvalidPath"),
    ],
)
async def test_a_bad_path_names_path_and_source(pool: RendererPool, tmp_path: Path, path: str, reason: str) -> None:
    root = write(tmp_path / "source", {"app/a.yaml": config_map("a")})
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(RenderError, match=f"'{path}'.*GitRepository infra") as caught:
        await built(pool, root, path)
    assert (caught.value.reason, caught.value.retryable) == (reason, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("apiVersion: v1\nkind: ConfigMap\nmetadata:\n\tname: x\n", r"app/bad\.yaml.*line 4"),
        ("apiVersion: v1\nkind: [\n", r"app/bad\.yaml.*line"),
        ("just text\n", r"app/bad\.yaml"),
        ("kind: ConfigMap\n", r"app/bad\.yaml"),
    ],
)
async def test_a_bad_file_is_named_with_its_line(pool: RendererPool, tmp_path: Path, text: str, message: str) -> None:
    root = write(tmp_path, {"app/bad.yaml": text, "app/good.yaml": config_map("a")})
    with pytest.raises(RenderError, match=message) as caught:
        await built(pool, root)
    assert caught.value.reason == "InvalidYAML"
    write(root, {"app/kustomization.yaml": "resources: [good.yaml, bad.yaml]\n"})
    with pytest.raises(RenderError, match=r"bad\.yaml") as caught:
        await built(pool, root)
    assert str(root) not in str(caught.value)


async def test_a_missing_file_is_named(pool: RendererPool, tmp_path: Path) -> None:
    root = write(tmp_path, {"app/kustomization.yaml": "resources: [absent.yaml]\n"})
    with pytest.raises(RenderError, match=r"app/absent\.yaml: no such file") as caught:
        await built(pool, root)
    assert caught.value.reason == "BuildFailed"
    assert str(caught.value).count("absent.yaml") <= 2


async def test_an_object_without_name_is_refused(pool: RendererPool, tmp_path: Path) -> None:
    root = write(tmp_path, {"app/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n"})
    with pytest.raises(RenderError, match=r"name"):
        await built(pool, root)


async def test_build_fields_are_merged_as_flux_does(pool: RendererPool, tmp_path: Path) -> None:
    containers = "[{name: c, image: 'nginx:1'}, {name: d, image: redis}]"
    pod = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{containers: {containers}}}\n"
    component = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [extra.yaml]\n"
    root = write(
        tmp_path,
        {
            "app/kustomization.yaml": "resources: [pod.yaml]\nimages: [{name: nginx, newTag: '2'}]\nnamespace: old\n",
            "app/pod.yaml": pod,
            "parts/kustomization.yaml": component,
            "parts/extra.yaml": config_map("extra"),
        },
    )
    result = await built(
        pool,
        root,
        targetNamespace="new",
        namePrefix="pre-",
        nameSuffix="-post",
        images=[{"name": "nginx", "newName": "mirror/nginx"}, {"name": "redis", "digest": "sha256:abc"}],
        components=["../parts", "../absent"],
        ignoreMissingComponents=True,
        patches=[{"patch": "- {op: add, path: /metadata/labels, value: {a: b}}", "target": {"kind": "Pod"}}],
    )
    [web] = [m for m in result.objects if m["kind"] == "Pod"]
    assert names(result) == ["pre-extra-post", "pre-web-post"]
    assert {m["metadata"]["namespace"] for m in result.objects} == {"new"}
    assert web["metadata"]["labels"] == {"a": "b"}
    assert [c["image"] for c in web["spec"]["containers"]] == ["mirror/nginx:2", "redis@sha256:abc"]
    assert (root / "app/kustomization.yaml").read_text().endswith("namespace: old\n")


@pytest.mark.parametrize("component", ["https://example.com/c", "/etc", "../absent"])
async def test_a_component_must_be_there_inside_the_source(pool: RendererPool, tmp_path: Path, component: str) -> None:
    root = write(tmp_path, {"app/a.yaml": config_map("a")})
    with pytest.raises(RenderError, match=component.removeprefix("../")):
        await built(pool, root, components=[component])


async def test_fields_apply_to_a_generated_kustomization_too(pool: RendererPool, tmp_path: Path) -> None:
    patch = config_map("a", k="v")
    root = write(tmp_path, {"app/a.yaml": config_map("a")})
    result = await built(pool, root, patches=[{"patch": patch}], targetNamespace="n")
    assert result.objects[0]["data"] == {"k": "v"}
    assert result.objects[0]["metadata"]["namespace"] == "n"


async def test_a_file_can_be_laid_over_the_source(pool: RendererPool, tmp_path: Path) -> None:
    root = write(tmp_path / "source", {"app/a.yaml": config_map("cipher"), "app/b.yaml": config_map("b")})
    write(tmp_path, {"plain.yaml": config_map("from-file")})
    overlay = {
        root / "app/a.yaml": Overlay(text=config_map("plain")),
        root / "app/b.yaml": Overlay(file=tmp_path / "plain.yaml"),
    }
    result = await build(pool, root=root, path="app", fetch=unreachable, overlay=overlay)
    assert names(result) == ["from-file", "plain"]


async def test_remote_files_are_fetched_and_built(pool: RendererPool, tmp_path: Path) -> None:
    web = {"https://x.example/one.yaml": config_map("one"), "http://y.example/two.yaml?v=1": config_map("two")}
    files = {url: tmp_path / f"blob{number}" for number, url in enumerate(web)}
    for url, file in files.items():
        file.write_text(web[url])
    asked: list[str] = []

    async def fetch(url: str) -> Path:
        asked.append(url)
        return files[url]

    resources = "".join(f"- {url}\n" for url in web)
    patch = "patches:\n- {patch: '- {op: add, path: /data, value: {k: v}}', target: {name: one}}\n"
    root = write(
        tmp_path / "source",
        {
            "app/kustomization.yaml": f"resources:\n- sub\n{patch}",
            "app/sub/kustomization.yaml": f"resources:\n{resources}",
        },
    )
    result = await build(pool, root=root, path="app", fetch=fetch)
    assert names(result) == ["one", "two"]
    assert sorted(asked) == sorted(web)
    assert result.remotes == files
    assert {"k": "v"} in [m.get("data") for m in result.objects]


async def test_a_remote_that_cannot_be_fetched_fails_the_build_with_its_own_error(
    pool: RendererPool, tmp_path: Path
) -> None:
    root = write(tmp_path, {"app/kustomization.yaml": "resources: [https://x.example/one.yaml]\n"})
    with pytest.raises(SourceError, match=r"https://x\.example/one\.yaml is unreachable"):
        await built(pool, root)


@pytest.mark.parametrize(
    "resource",
    [
        "github.com/org/repo//dir?ref=v1",
        "https://github.com/org/repo//dir?ref=v1",
        "https://github.com/org/repo",
        "https://git.example/org/repo.git",
        "git@github.com:org/repo.git",
        "ssh://git@example.com/org/repo",
    ],
)
async def test_a_remote_git_base_is_refused_by_name(pool: RendererPool, tmp_path: Path, resource: str) -> None:
    root = write(tmp_path, {"app/kustomization.yaml": f"resources:\n- {resource}\n"})
    with pytest.raises(RenderError, match="only single files over http") as caught:
        await built(pool, root)
    assert caught.value.reason == "RemoteBaseUnsupported"
    assert resource in str(caught.value)
    assert "app/kustomization.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "kustomization",
    [
        "helmCharts: [{name: x, repo: 'https://charts.example', version: 1.0.0}]\n",
        "generators: [plugin.yaml]\n",
        "transformers: [function.yaml]\n",
    ],
)
async def test_helm_and_plugins_of_kustomize_stay_off(pool: RendererPool, tmp_path: Path, kustomization: str) -> None:
    function = (
        "apiVersion: example.com/v1\nkind: Any\nmetadata:\n  name: f\n  annotations:\n"
        "    config.kubernetes.io/function: 'exec: {path: ./run}'\n"
    )
    root = write(
        tmp_path,
        {
            "app/kustomization.yaml": f"resources: [a.yaml]\n{kustomization}",
            "app/a.yaml": config_map("a"),
            "app/plugin.yaml": "apiVersion: example.com/v1\nkind: Plugin\nmetadata: {name: p}\n",
            "app/function.yaml": function,
            "app/run": f"#!/bin/sh\ntouch {tmp_path}/ran\n",
        },
    )
    (root / "app/run").chmod(0o755)
    with pytest.raises(RenderError):
        await built(pool, root)
    assert not (tmp_path / "ran").exists()


async def test_generators_read_files_and_name_by_content(pool: RendererPool, tmp_path: Path) -> None:
    text = "configMapGenerator:\n- {name: c, files: [x.txt]}\nsecretGenerator:\n- {name: s, literals: [k=v]}\n"
    root = write(tmp_path, {"app/kustomization.yaml": text, "app/x.txt": "content"})
    result = await built(pool, root)
    assert [name.rsplit("-", 1)[0] for name in names(result)] == ["c", "s"]
    assert {"x.txt": "content"} in [m["data"] for m in result.objects]


async def test_a_build_does_not_leak_into_the_next(pool: RendererPool, tmp_path: Path) -> None:
    schema = '{"definitions": {"example.Pod": {"properties": {}, "x-kubernetes-group-version-kind": []}}}'
    root = write(
        tmp_path,
        {
            "one/kustomization.yaml": "resources: [a.yaml]\nopenapi: {path: schema.json}\n",
            "one/a.yaml": config_map("a"),
            "one/schema.json": schema,
            "two/kustomization.yaml": "resources: [d.yaml]\npatches: [{path: p.yaml}]\n",
            "two/d.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: a}]}\n",
            "two/p.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: b, image: b}]}\n",
        },
    )
    await built(pool, root, "one")
    [pod] = (await built(pool, root, "two")).objects
    assert sorted(container["name"] for container in pod["spec"]["containers"]) == ["a", "b"]


async def test_scalars_are_read_as_kubernetes_reads_them(pool: RendererPool, tmp_path: Path) -> None:
    spec = "{a: 1e3, b: 9007199254740993, c: '12:30', d: 0.5, e: ~, f: true}"
    text = f"apiVersion: v1\nkind: X\nmetadata: {{name: x}}\nspec: {spec}\n"
    [manifest] = (await built(pool, write(tmp_path, {"app/x.yaml": text}))).objects
    assert manifest["spec"] == {"a": 1000, "b": 9007199254740993, "c": "12:30", "d": 0.5, "e": None, "f": True}


def nested(depth: int) -> str:
    return "apiVersion: v1\nkind: X\nmetadata: {name: x}\nspec: " + "{a: " * depth + "1" + "}" * depth + "\n"


BOMB = "".join(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}' if level else 'x'] * 10)}]\n" for level in range(9))


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: v1\nkind: X\nmetadata: {name: x}\n" + BOMB,
        nested(20000),
        "apiVersion: v1\nkind: X\nmetadata: {name: x}\nspec: {a: 1, a: 2}\n",
        "apiVersion: v1\nkind: X\nmetadata: {name: \x00}\n",
    ],
    ids=["bomb", "deep", "duplicate-key", "nul"],
)
async def test_hostile_yaml_fails_one_build_only(renderer: Path, tmp_path: Path, text: str) -> None:
    pool = RendererPool(renderer, size=1, memory_mib=256)
    root = write(tmp_path, {"app/x.yaml": text, "good/a.yaml": config_map("a")})
    with pytest.raises(RenderError):
        await built(pool, root)
    assert names(await built(pool, root, "good")) == ["a"]
    await pool.close()


async def test_encodings_of_other_systems_are_read(pool: RendererPool, tmp_path: Path) -> None:
    root = write(tmp_path, {"app/crlf.yaml": config_map("crlf").replace("\n", "\r\n")})
    (root / "app/bom.yaml").write_bytes(b"\xef\xbb\xbf" + config_map("bom").encode())
    assert names(await built(pool, root)) == ["bom", "crlf"]


async def test_a_source_behind_a_link_is_built(pool: RendererPool, tmp_path: Path) -> None:
    write(tmp_path / "real", {"app/kustomization.yaml": "resources: [../b/b.yaml]\n", "b/b.yaml": config_map("b")})
    (tmp_path / "link").symlink_to("real")
    root = tmp_path / "link"
    overlay = {root / "b/b.yaml": Overlay(text=config_map("over"))}
    assert names(await build(pool, root=root, path="app", fetch=unreachable, overlay=overlay)) == ["over"]


async def test_an_object_defined_twice_names_both_files(pool: RendererPool, tmp_path: Path) -> None:
    in_default = config_map("a").replace("name: a", "name: a\n  namespace: default")
    root = write(tmp_path, {"app/one.yaml": config_map("a"), "app/two.yaml": in_default})
    with pytest.raises(RenderError, match=r"ConfigMap a is defined twice: in app/one\.yaml and in app/two\.yaml"):
        await built(pool, root)


async def test_thousands_of_objects_take_seconds(renderer: Path, tmp_path: Path) -> None:
    pool = RendererPool(renderer, size=1, timeout=10)  # kustomize itself compares every pair: 13 s
    root = write(tmp_path, {"app/all.yaml": "---\n".join(config_map(f"c{number}") for number in range(5000))})
    assert len((await built(pool, root)).objects) == 5000
    await pool.close()


async def test_what_only_lists_resources_builds_as_kustomize_does(
    pool: RendererPool, tmp_path: Path, kustomize_command: Callable[..., str]
) -> None:
    local = config_map("local").replace(
        "name: local", "name: local\n  annotations: {config.kubernetes.io/local-config: 'true'}"
    )
    anchors = "apiVersion: v1\nkind: X\nmetadata: {name: anchors}\nspec: {a: &a {b: 1}, c: *a, d: {<<: *a, e: 2}}\n"
    values = ("yes", "010", "1_000", "2024-01-01", "0x1F", ".5", "1e3", "'1'", "off", "!!str 5", "~", "12:30", "y")
    scalars = "\n  ".join(f"k{number}: {value}" for number, value in enumerate(values)) + "\n"
    items = "apiVersion: v1\nkind: ConfigMapList\nitems:\n- metadata: {name: i}\n  kind: ConfigMap\n  apiVersion: v1\n"
    root = write(
        tmp_path,
        {
            "app/kustomization.yaml": "resources: [files, deep, ../sibling.yaml]\n",
            "app/files/kustomization.yml": "kind: Kustomization\nresources: [local.yaml, anchors.yaml, list.yaml]\n",
            "app/files/local.yaml": local,
            "app/files/anchors.yaml": anchors,
            "app/files/list.yaml": items,
            "app/deep/Kustomization": "bases: [er]\n",
            "app/deep/er/kustomization.yaml": "resources: [s.yaml]\n",
            "app/deep/er/s.yaml": f"apiVersion: v1\nkind: X\nmetadata: {{name: s}}\nspec:\n  {scalars}---\n# empty\n",
            "sibling.yaml": config_map("sibling", text="multi\nline"),
        },
    )
    result = await build(pool, root=root, path="app", fetch=unreachable)
    theirs = kustomize_command("build", "--load-restrictor", "LoadRestrictionsNone", str(root / "app"))
    read = await pool.helm(HelmRequest(as_chart(tmp_path / "chart", theirs), "demo", "space"), lookup=no_lookup)
    assert sorted(map(canonical, result.objects)) == sorted(map(canonical, read.objects))
    assert len(result.objects) == 4


def as_chart(path: Path, text: str) -> Path:
    """Kubernetes' own reading of a YAML text, by way of a chart that holds nothing else."""
    return write(path, {"Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n", "templates/t.yaml": text})


async def no_lookup(*key: str) -> LookupAnswer:
    return LookupAnswer()
