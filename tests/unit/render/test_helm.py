"""Charts rendered by the renderer: what comes out, what it asks, and how it refuses."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from clusterstack.core.objects import Manifest
from clusterstack.errors import LookupFailed, RenderError
from clusterstack.render.pool import RendererPool
from clusterstack.render.protocol import HelmRendered, HelmRequest, LookupAnswer, LookupKey, PostRender


class Cluster:
    """Answers lookups and remembers them."""

    def __init__(self, *objects: Manifest, error: str = "") -> None:
        self.objects = objects
        self.error = error
        self.asked: list[LookupKey] = []

    async def __call__(self, api_version: str, kind: str, namespace: str, name: str) -> LookupAnswer:
        self.asked.append((api_version, kind, namespace, name))
        if self.error:
            return LookupAnswer(error=self.error)
        found = [o for o in self.objects if (o["apiVersion"], o["kind"]) == (api_version, kind)]
        if not name:
            return LookupAnswer(items=tuple(found))
        return LookupAnswer(object=next((o for o in found if o["metadata"]["name"] == name), None))


def request(chart: Path, **values: Any) -> HelmRequest:
    return HelmRequest(chart, "demo", "space", values=values, kube_version="v1.36.3")


def by_kind(rendered: HelmRendered, kind: str) -> Manifest:
    [found] = [manifest for manifest in rendered.objects if manifest["kind"] == kind]
    return found


def archive(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def chart_of(path: Path, **templates: str) -> Path:
    files = {"c/Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n"}
    return archive(path / "c.tgz", files | {f"c/templates/{name}.yaml": text for name, text in templates.items()})


async def test_revision_upgrade_and_kube_version_reach_the_templates(pool: RendererPool, charts: Path) -> None:
    install = HelmRequest(charts / "templated", "demo", "space", kube_version="v1.36.3", lookup=False)
    upgrade = HelmRequest(
        charts / "templated", "demo", "space", revision=7, upgrade=True, kube_version="v1.30.1-gke.5", lookup=False
    )
    notes = [(await pool.helm(r, lookup=Cluster())).notes for r in (install, upgrade)]
    annotations = by_kind(await pool.helm(upgrade, lookup=Cluster()), "Deployment")["metadata"]["annotations"]
    assert notes == ["demo revision 1 listens on port 8080.\n", "demo revision 7 listens on port 8080.\n"]
    assert annotations == {
        "example.com/upgrade": "true",
        "example.com/revision": "7",
        "example.com/kube": "v1.30.1-gke.5",
    }


async def test_a_lookup_is_asked_and_its_answer_used(pool: RendererPool, charts: Path) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "demo-password"},
        "data": {"password": "a2VwdA=="},
    }
    cluster = Cluster(secret)
    rendered = await pool.helm(request(charts / "templated"), lookup=cluster)
    assert by_kind(rendered, "Secret")["data"] == {"password": "a2VwdA=="}
    assert cluster.asked == [("v1", "Secret", "space", "demo-password")]
    assert rendered.lookups == tuple(cluster.asked)


async def test_an_absent_object_is_empty_to_the_chart(pool: RendererPool, charts: Path) -> None:
    first = await pool.helm(request(charts / "templated"), lookup=Cluster())
    second = await pool.helm(request(charts / "templated"), lookup=Cluster())
    passwords = [base64.b64decode(by_kind(r, "Secret")["data"]["password"]) for r in (first, second)]
    assert [len(password) for password in passwords] == [16, 16]
    assert passwords[0] != passwords[1]


async def test_a_lookup_without_name_lists(pool: RendererPool, tmp_path: Path) -> None:
    text = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: all}\ndata:\n"
        '{{- range (lookup "v1" "Node" "" "").items }}\n  {{ .metadata.name }}: "yes"\n{{- end }}\n'
    )
    nodes = tuple({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in ("a", "b"))
    rendered = await pool.helm(request(chart_of(tmp_path, all=text)), lookup=Cluster(*nodes))
    assert rendered.objects[0]["data"] == {"a": "yes", "b": "yes"}


async def test_a_render_that_fails_after_a_lookup_names_what_it_asked(pool: RendererPool, charts: Path) -> None:
    with pytest.raises(LookupFailed, match="Secret space/demo-password is needed") as caught:
        await pool.helm(request(charts / "templated", lookupRequired=True), lookup=Cluster())
    assert caught.value.keys == (("v1", "Secret", "space", "demo-password"),)
    assert caught.value.retryable


async def test_a_lookup_that_cannot_be_answered_fails_the_render(pool: RendererPool, charts: Path) -> None:
    with pytest.raises(LookupFailed, match=r"Secret .*: forbidden for deployer"):
        await pool.helm(request(charts / "templated"), lookup=Cluster(error="forbidden for deployer"))
    assert (await pool.helm(request(charts / "templated"), lookup=Cluster())).name == "templated"


async def test_lookup_can_be_switched_off(pool: RendererPool, charts: Path) -> None:
    cluster = Cluster()
    rendered = await pool.helm(HelmRequest(charts / "templated", "demo", "space", lookup=False), lookup=cluster)
    assert cluster.asked == []
    assert rendered.lookups == ()


async def test_a_failing_template_names_chart_file_and_message(pool: RendererPool, charts: Path) -> None:
    with pytest.raises(RenderError, match=r"templated/templates/deployment\.yaml.*out of order") as caught:
        await pool.helm(
            HelmRequest(charts / "templated", "demo", "space", {"fail": "out of order"}, lookup=False), lookup=Cluster()
        )
    assert (caught.value.reason, caught.value.retryable) == ("TemplateFailed", False)
    assert "\n" not in str(caught.value)


async def test_values_that_break_the_schema_are_rejected_by_path(pool: RendererPool, charts: Path) -> None:
    with pytest.raises(RenderError, match=r"chart templated: .*'/replicas'") as caught:
        await pool.helm(request(charts / "templated", replicas="three"), lookup=Cluster())
    assert caught.value.reason == "ValuesRejected"
    rendered = await pool.helm(
        HelmRequest(charts / "templated", "demo", "space", {"replicas": "3"}, skip_schema=True), lookup=Cluster()
    )
    assert by_kind(rendered, "Deployment")["spec"]["replicas"] == 3


async def test_a_rejected_value_is_not_printed(pool: RendererPool, charts: Path) -> None:
    with pytest.raises(RenderError, match="/token") as caught:
        await pool.helm(request(charts / "templated", token="S3cr3t-'Value'"), lookup=Cluster())
    assert "S3cr3t" not in str(caught.value)


async def test_a_subchart_follows_its_condition(pool: RendererPool, charts: Path) -> None:
    without = await pool.helm(request(charts / "templated"), lookup=Cluster())
    enabled = request(charts / "templated", cache={"enabled": True, "size": "1Gi"})
    assert [m["kind"] for m in without.objects] == ["Secret", "Deployment"]
    assert by_kind(await pool.helm(enabled, lookup=Cluster()), "ConfigMap")["data"] == {"size": "1Gi"}


async def test_capabilities_are_exactly_those_given(pool: RendererPool, charts: Path) -> None:
    with_monitors = HelmRequest(
        charts / "templated", "demo", "space", api_versions=("v1", "monitoring.coreos.com/v1/ServiceMonitor")
    )
    kinds = [m["kind"] for m in (await pool.helm(with_monitors, lookup=Cluster())).objects]
    assert kinds == ["Secret", "Deployment", "ServiceMonitor"]


async def test_a_chart_for_another_kubernetes_is_refused(pool: RendererPool, charts: Path) -> None:
    with pytest.raises(RenderError, match=r"requires Kubernetes >=1\.25\.0-0; this cluster is v1\.20\.0") as caught:
        await pool.helm(HelmRequest(charts / "templated", "demo", "space", kube_version="v1.20.0"), lookup=Cluster())
    assert caught.value.reason == "ChartIncompatible"


async def test_hooks_carry_what_a_record_needs(pool: RendererPool, charts: Path) -> None:
    rendered = await pool.helm(request(charts / "hooks"), lookup=Cluster())
    hooks = {hook.object["kind"] + "/" + hook.name: hook for hook in rendered.hooks}
    migrate = hooks["Job/demo-migrate"]
    assert [m["kind"] for m in rendered.objects] == ["ConfigMap"]
    assert migrate.events == ("pre-install", "pre-upgrade")
    assert (migrate.weight, hooks["Job/demo-undo"].weight) == (-5, 0)
    assert migrate.delete_policies == ("before-hook-creation", "hook-succeeded")
    assert migrate.output_log_policies == ("hook-failed",)
    assert migrate.path == "hooks/templates/jobs.yaml"
    assert "name: demo-migrate" in migrate.manifest
    assert hooks["Pod/demo-test"].events == ("test",)


async def test_a_hook_can_be_made_to_fail_by_value(pool: RendererPool, charts: Path) -> None:
    rendered = await pool.helm(request(charts / "hooks", failPreInstall=True), lookup=Cluster())
    [migrate] = [hook.object for hook in rendered.hooks if hook.name == "demo-migrate" and hook.kind == "Job"]
    assert migrate["spec"]["template"]["spec"]["containers"][0]["command"] == ["false"]


async def test_crds_are_apart_from_the_manifest(pool: RendererPool, charts: Path) -> None:
    rendered = await pool.helm(request(charts / "crd-and-cr"), lookup=Cluster())
    assert [crd["metadata"]["name"] for crd in rendered.crds] == ["widgets.charts.example.com"]
    assert [m["kind"] for m in rendered.objects] == ["CustomResourceDefinition", "Gadget", "Widget"]
    assert "widgets.charts.example.com" not in rendered.manifest


async def test_the_chart_is_what_a_release_record_holds(pool: RendererPool, charts: Path) -> None:
    rendered = await pool.helm(request(charts / "templated"), lookup=Cluster())
    assert {"metadata", "lock", "templates", "values", "schema", "files"} <= rendered.chart.keys()
    templates = {t["name"]: base64.b64decode(t["data"]).decode() for t in rendered.chart["templates"]}
    assert templates["templates/secret.yaml"] == (charts / "templated/templates/secret.yaml").read_text()
    assert json.loads(base64.b64decode(rendered.chart["schema"]))["required"] == ["replicas"]
    assert (rendered.name, rendered.version, rendered.app_version) == ("templated", "1.2.3", "4.5")


async def test_lists_are_expanded_and_comments_are_no_objects(pool: RendererPool, tmp_path: Path) -> None:
    items = "apiVersion: v1\nkind: List\nitems:\n" + "".join(
        f"- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}}}\n" for name in "ab"
    )
    chart = chart_of(
        tmp_path,
        items=items,
        comment="# nothing here\n",
        two="---\n# empty\n---\n" + "kind: Namespace\napiVersion: v1\nmetadata: {name: c}\n",
    )
    rendered = await pool.helm(request(chart), lookup=Cluster())
    assert sorted(m["metadata"]["name"] for m in rendered.objects) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: [x\n", r"c/templates/t\.yaml.*line"),
        ("metadata: {name: x}\n", r"c/templates/t\.yaml: .* no apiVersion or no kind"),
        ("- a\n- b\n", r"c/templates/t\.yaml"),
    ],
)
async def test_what_is_no_manifest_is_named(pool: RendererPool, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RenderError, match=message) as caught:
        await pool.helm(request(chart_of(tmp_path, t=text)), lookup=Cluster())
    assert caught.value.reason == "InvalidYAML"


async def test_templates_see_no_network_and_no_environment(pool: RendererPool, tmp_path: Path) -> None:
    chart = chart_of(
        tmp_path,
        t='apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {ip: "{{ getHostByName "localhost" }}"}\n',
    )
    rendered = await pool.helm(request(chart), lookup=Cluster())
    assert rendered.objects[0]["data"] == {"ip": ""}
    for function in ('{{ env "HOME" }}', '{{ expandenv "$HOME" }}'):
        with pytest.raises(RenderError, match="not defined"):
            await pool.helm(request(chart_of(tmp_path, t=function)), lookup=Cluster())


async def test_a_schema_that_refers_elsewhere_is_checked_without_that_part(pool: RendererPool, tmp_path: Path) -> None:
    schema = {
        "properties": {
            "port": {"type": "integer"},
            "probe": {"$ref": "https://example.invalid/definitions.json#/probe"},
            "file": {"$ref": "file:///etc/hostname"},
        }
    }
    chart = archive(
        tmp_path / "c.tgz",
        {"c/Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n", "c/values.schema.json": json.dumps(schema)},
    )
    rendered = await pool.helm(request(chart, port=1, probe=5, file=6), lookup=Cluster())
    assert "https://example.invalid/definitions.json#/probe" in rendered.warnings[0]
    assert json.loads(base64.b64decode(rendered.chart["schema"])) == schema
    with pytest.raises(RenderError, match="/port"):
        await pool.helm(request(chart, port="x"), lookup=Cluster())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"c/values.yaml": "a: 1\n"}, "Chart.yaml"),
        ({"c/Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\ntype: library\n"}, "library"),
        ({"c/Chart.yaml": "apiVersion: v2\nname: ..\nversion: 1.0.0\n"}, "name"),
        ({"c/Chart.yaml": "apiVersion: v2\nname: c\nversion: one\n"}, "version"),
        ({"c/Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n", "c/../../x": "x"}, "parent directory"),
        (
            {"c/Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\ndependencies: [{name: d, version: 1.x.x}]\n"},
            "dependency d",
        ),
    ],
)
async def test_an_unusable_chart_is_refused(
    pool: RendererPool, tmp_path: Path, files: dict[str, str], message: str
) -> None:
    with pytest.raises(RenderError, match=message) as caught:
        await pool.helm(request(archive(tmp_path / "c.tgz", files)), lookup=Cluster())
    assert caught.value.reason == "ChartInvalid"


async def test_what_is_no_archive_is_refused(pool: RendererPool, tmp_path: Path) -> None:
    (tmp_path / "c.tgz").write_text("<html>404</html>")
    for name in ("c.tgz", "absent.tgz"):
        with pytest.raises(RenderError, match=name) as caught:
            await pool.helm(request(tmp_path / name), lookup=Cluster())
        assert caught.value.reason == "ChartInvalid"


async def test_a_chart_that_unpacks_to_too_much_is_refused(pool: RendererPool, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "c.tgz", "w:gz") as tar:
        for number in range(2):
            member = tarfile.TarInfo(f"c/files/{number}")
            member.size = 6 << 20
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(RenderError, match="larger than the maximum") as caught:
        await pool.helm(request(tmp_path / "c.tgz"), lookup=Cluster())
    assert caught.value.reason == "ChartInvalid"


async def test_a_chart_directory_cannot_link_out_of_its_source(pool: RendererPool, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "chart").mkdir(parents=True)
    (source / "chart/Chart.yaml").write_text("apiVersion: v2\nname: c\nversion: 1.0.0\n")
    (source / "shared.yaml").write_text("a: 1\n")
    (source / "chart/values.yaml").symlink_to("../shared.yaml")
    inside = HelmRequest(source / "chart", "demo", "space", root=source)
    assert (await pool.helm(inside, lookup=Cluster())).chart["values"] == {"a": 1}
    (source / "chart/token").symlink_to("/etc/hostname")
    with pytest.raises(RenderError, match="token is outside of the source") as caught:
        await pool.helm(inside, lookup=Cluster())
    assert caught.value.reason == "ChartInvalid"


PATCH = {
    "patch": "- {op: add, path: /metadata/labels, value: {patched: 'yes'}}",
    "target": {"kind": "(ConfigMap|Job)"},
}


@pytest.mark.parametrize(
    ("strategy", "patched"),
    [("combined", {"ConfigMap", "Job"}), ("separate", {"ConfigMap", "Job"}), ("nohooks", {"ConfigMap"})],
)
async def test_post_renderers_reach_what_their_strategy_says(
    pool: RendererPool, charts: Path, strategy: str, patched: set[str]
) -> None:
    post = PostRender(({"patches": [PATCH]},), strategy=strategy)
    rendered = await pool.helm(HelmRequest(charts / "hooks", "demo", "space", post_render=post), lookup=Cluster())
    objects = [*rendered.objects, *(hook.object for hook in rendered.hooks)]
    assert {o["kind"] for o in objects if o["metadata"].get("labels") == {"patched": "yes"}} == patched
    assert len(rendered.hooks) == 6
    assert ("patched" in rendered.manifest, "Source: hooks/templates/configmap.yaml" in rendered.manifest) == (
        True,
        True,
    )
    assert "clusterstack.dev/template" not in rendered.manifest + "".join(hook.manifest for hook in rendered.hooks)


async def test_post_renderers_run_in_order_then_common_metadata(pool: RendererPool, charts: Path) -> None:
    post = PostRender(
        (
            {"images": [{"name": "registry.example.com/templated", "newName": "mirror/templated"}]},
            {"images": [{"name": "mirror/templated", "newTag": "9"}]},
        ),
        labels={"team": "a"},
        annotations={"note": "b"},
    )
    rendered = await pool.helm(
        HelmRequest(charts / "templated", "demo", "space", lookup=False, post_render=post), lookup=Cluster()
    )
    deployment = by_kind(rendered, "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "mirror/templated:9"
    assert all(o["metadata"]["labels"]["team"] == "a" for o in rendered.objects)
    assert all(o["metadata"]["annotations"]["note"] == "b" for o in rendered.objects)
    assert "team" not in deployment["spec"]["selector"]["matchLabels"]


async def test_a_post_renderer_that_does_not_fit_is_named(pool: RendererPool, charts: Path) -> None:
    bad = PostRender(
        ({"patches": [{"patch": "- {op: remove, path: /spec/absent}", "target": {"kind": "Deployment"}}]},)
    )
    with pytest.raises(RenderError, match=r"post-renderer: .*absent") as caught:
        await pool.helm(
            HelmRequest(charts / "templated", "demo", "space", lookup=False, post_render=bad), lookup=Cluster()
        )
    assert caught.value.reason == "BuildFailed"


async def test_objects_rendered_before_can_be_post_rendered(pool: RendererPool, charts: Path) -> None:
    rendered = await pool.helm(request(charts / "hooks"), lookup=Cluster())
    after = await pool.post_render(
        rendered.objects, hooks=[hook.object for hook in rendered.hooks], post=PostRender(({"patches": [PATCH]},))
    )
    assert after.objects[0]["metadata"]["labels"] == {"patched": "yes"}
    assert sorted(hook.name for hook in after.hooks) == sorted(hook.name for hook in rendered.hooks)


async def test_a_chart_can_be_read_without_rendering(pool: RendererPool, charts: Path) -> None:
    info = await pool.chart_info(charts / "templated")
    assert (info.metadata["version"], info.dependencies, info.values["port"]) == ("1.2.3", ("cache",), 8080)
    assert (await pool.chart_info(charts / "crd-and-cr")).crds == 1


async def test_large_numbers_keep_their_digits(pool: RendererPool, tmp_path: Path) -> None:
    spec_text = "{big: 9007199254740993, mega: 1e6, part: 0.5, text: '010'}"
    text = f"apiVersion: v1\nkind: X\nmetadata: {{name: x}}\nspec: {spec_text}\n"
    rendered = await pool.helm(request(chart_of(tmp_path, t=text)), lookup=Cluster())
    spec = rendered.objects[0]["spec"]
    assert (spec["big"], spec["mega"], spec["part"], spec["text"]) == (9007199254740993, 1000000, 0.5, "010")
    assert isinstance(spec["mega"], int)


async def test_a_render_sees_one_state_of_what_it_looks_up(pool: RendererPool, tmp_path: Path) -> None:
    call = '{{ $x := lookup "v1" "Secret" "space" "s" }}{{ $_ := set $x "seen" "yes" }}'
    text = 'apiVersion: v1\nkind: X\nmetadata: {name: x}\nspec: {kind: {{ (lookup "v1" "Secret" "space" "s").kind }}}\n'
    cluster = Cluster({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})
    rendered = await pool.helm(request(chart_of(tmp_path, a=call, b=call, c=text)), lookup=cluster)
    assert rendered.objects[0]["spec"] == {"kind": "Secret"}
    assert cluster.asked == [("v1", "Secret", "space", "s")]


@pytest.mark.parametrize("schema", ['{"$ref": "#"}', '{"$ref": "#/definitions/absent"}', "[]", "not JSON"])
async def test_a_schema_that_cannot_be_used_rejects_the_values(pool: RendererPool, tmp_path: Path, schema: str) -> None:
    files = {"c/Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n", "c/values.schema.json": schema}
    with pytest.raises(RenderError, match="chart c") as caught:
        await pool.helm(request(archive(tmp_path / "c.tgz", files), a=1), lookup=Cluster())
    assert caught.value.reason == "ValuesRejected"
