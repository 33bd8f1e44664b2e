"""Release records written by us, read and worked with by the real `helm`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusterstack.core.yaml import load_all
from clusterstack.helm.ownership import stamp
from clusterstack.helm.record import (
    Hook,
    LastRun,
    Phase,
    Release,
    Status,
    decode,
    encode,
    head_of,
    latest,
    next_revision,
    secret_name,
    selector,
    with_status,
)
from clusterstack.helm.strvals import StrvalsError, parse_into
from clusterstack.render.pool import RendererPool
from clusterstack.render.protocol import HelmRendered, HelmRequest, LookupAnswer
from testbed import tools
from testbed.controlplane import Cluster

pytestmark = pytest.mark.cluster

CHART = Path(__file__).resolve().parents[1] / "charts" / "hooks"
FIRST, SECOND = "2026-01-01T10:00:00.123456Z", "2026-01-02T10:00:00Z"
NAME = "web"


@dataclass(frozen=True, slots=True)
class Helm:
    """The real helm, for one namespace; and this namespace's records, read by us."""

    cluster: Cluster
    namespace: str

    def __call__(self, *arguments: str | Path) -> str:
        command: list[str | Path] = [
            tools.binary("helm"), "--kubeconfig", self.cluster.kubeconfig, "--namespace", self.namespace, *arguments
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str | Path) -> Any:
        return json.loads(self(*arguments, "--output", "json"))

    @property
    def secrets(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets"

    def record(self, revision: int) -> Release:
        return decode(self.cluster.api.get(f"{self.secrets}/{secret_name(NAME, revision)}"))

    def store(self, release: Release) -> None:
        """Creates or replaces a record, as the operator does."""
        secret = encode(release, namespace=self.namespace, created_at=1767261600)
        path = f"{self.secrets}/{secret['metadata']['name']}"
        if self.cluster.api.find(path) is None:
            self.cluster.api.create(self.secrets, secret)
        else:
            self.cluster.api.request("PUT", path, secret)

    def message(self) -> str:
        found = self.cluster.api.get(f"/api/v1/namespaces/{self.namespace}/configmaps/{NAME}")
        return str(found["data"]["message"])


@pytest.fixture
def helm(control_plane: Cluster, unique: Callable[[str], str]) -> Iterator[Helm]:
    name = unique("record")
    control_plane.api.create(
        "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    control_plane.api.wait(f"/api/v1/namespaces/{name}/serviceaccounts/default", lambda found: found is not None)
    yield Helm(control_plane, name)
    control_plane.api.delete(f"/api/v1/namespaces/{name}")


async def no_lookup(*_: str) -> LookupAnswer:
    return LookupAnswer()


async def rendered(namespace: str, revision: int, values: dict[str, Any]) -> HelmRendered:
    pool = RendererPool(tools.binary("clusterstack-renderer"), size=1)
    try:
        request = HelmRequest(
            CHART, NAME, namespace, values=values, revision=revision, upgrade=revision > 1, kube_version="v1.36.3"
        )
        return await pool.helm(request, lookup=no_lookup)
    finally:
        await pool.close()


async def deployed(helm: Helm, revision: int, message: str, at: str) -> Release:
    """A revision as the operator leaves it: objects applied, record written, the one before superseded."""
    values = {"message": message}
    output = await rendered(helm.namespace, revision, values)
    for manifest in load_all(output.manifest, source="manifest"):
        stamped = stamp(manifest, release_name=NAME, release_namespace=helm.namespace)
        path = f"/api/v1/namespaces/{helm.namespace}/configmaps/{manifest['metadata']['name']}"
        helm.cluster.api.apply(path, stamped, manager="helm")
    hooks = tuple(
        Hook(h.name, h.kind, h.path, h.manifest, h.events, h.weight, h.delete_policies, h.output_log_policies)
        for h in output.hooks
    )
    ran = LastRun(Phase.SUCCEEDED, at, at)
    release = Release(
        NAME,
        helm.namespace,
        revision,
        Status.PENDING_INSTALL if revision == 1 else Status.PENDING_UPGRADE,
        chart=output.chart,
        config=values,
        manifest=output.manifest,
        hooks=tuple(replace(hook, last_run=ran) if "post-install" in hook.events else hook for hook in hooks),
        notes=output.notes,
        first_deployed=FIRST,
        input_digest=f"{revision:016x}",
    )
    helm.store(release)
    if revision > 1:
        before = helm.record(revision - 1)
        helm.store(with_status(before, Status.SUPERSEDED, before.description, at=at))
    release = with_status(release, Status.DEPLOYED, "Install complete" if revision == 1 else "Upgrade complete", at=at)
    helm.store(release)
    return release


async def test_helm_shows_our_release_as_its_own(helm: Helm) -> None:
    await deployed(helm, 1, "one", FIRST)
    release = await deployed(helm, 2, "two", SECOND)
    assert helm.record(2) == release

    (listed,) = helm.json("list")
    assert listed | {"updated": ""} == {
        "name": NAME,
        "namespace": helm.namespace,
        "revision": "2",
        "updated": "",
        "status": "deployed",
        "chart": "hooks-0.2.0",
        "app_version": "",
    }
    assert helm("get", "manifest", NAME).strip() == release.manifest.strip()
    assert helm.json("get", "values", NAME) == {"message": "two"}
    assert helm.json("get", "values", NAME, "--all")["failPreInstall"] is False
    assert helm.json("get", "values", NAME, "--revision", "1") == {"message": "one"}
    shown = [item["metadata"]["name"] for item in yaml.safe_load_all(helm("get", "hooks", NAME)) if item]
    assert sorted(shown) == sorted(hook.name for hook in release.hooks)
    history = helm.json("history", NAME)
    assert [(entry["revision"], entry["status"], entry["description"]) for entry in history] == [
        (1, "superseded", "Install complete"),
        (2, "deployed", "Upgrade complete"),
    ]
    assert history[1]["updated"].startswith("2026-01-02T10:00:00")
    status = helm.json("status", NAME)
    assert status["info"]["first_deployed"].startswith("2026-01-01T10:00:00.123456")
    assert status["apply_method"] == "ssa"
    assert helm.json("get", "metadata", NAME)["applyMethod"] == "ssa"


async def test_helm_rolls_back_and_upgrades_our_release_and_we_read_what_it_did(helm: Helm) -> None:
    await deployed(helm, 1, "one", FIRST)
    await deployed(helm, 2, "two", SECOND)

    helm("rollback", NAME, "1", "--wait", "--timeout", "60s")
    assert helm.message() == "one"
    rolled = helm.record(3)
    assert (rolled.status, rolled.description, rolled.config) == (Status.DEPLOYED, "Rollback to 1", {"message": "one"})
    assert rolled.input_digest == "", "a revision made by hand is nobody's cache"
    assert helm.record(2).status is Status.SUPERSEDED
    assert rolled.apply_method == "ssa"

    helm("upgrade", NAME, CHART, "--set", "message=three", "--wait", "--timeout", "60s")
    upgraded = helm.record(4)
    assert (upgraded.config, upgraded.chart_name, upgraded.chart_version) == ({"message": "three"}, "hooks", "0.2.0")
    assert upgraded.input_digest == ""
    assert {hook.last_run.phase for hook in upgraded.hooks if "post-upgrade" in hook.events} == {Phase.SUCCEEDED}
    assert decode(encode(upgraded, namespace=helm.namespace)) == upgraded

    listed = helm.cluster.api.get(
        f"{helm.secrets}?labelSelector={selector(NAME).replace('=', '%3D').replace(',', '%2C')}"
    )
    heads = [head for item in listed["items"] if (head := head_of(item["metadata"]))]
    newest = latest(heads)
    assert newest is not None
    assert (len(heads), newest.revision, newest.input_digest, next_revision(heads)) == (4, 4, "", 5)

    await deployed(helm, 5, "five", SECOND)
    assert [entry["status"] for entry in helm.json("history", NAME)] == [*["superseded"] * 4, "deployed"]
    assert helm.message() == "five"


async def test_helm_uninstalls_our_release_with_its_hooks(helm: Helm) -> None:
    await deployed(helm, 1, "one", FIRST)
    helm("uninstall", NAME, "--wait", "--timeout", "60s")
    api = helm.cluster.api
    assert api.find(f"/api/v1/namespaces/{helm.namespace}/configmaps/{NAME}") is None
    assert api.find(f"{helm.secrets}/{secret_name(NAME, 1)}") is None
    assert api.find(f"/apis/batch/v1/namespaces/{helm.namespace}/jobs/{NAME}-cleanup") is not None, (
        "the pre-delete hook ran"
    )


async def test_a_record_that_lost_its_files_to_a_secrets_size_still_rolls_back(helm: Helm) -> None:
    release = await deployed(helm, 1, "one", FIRST)
    bulky = [{"name": "crds/x", "data": "".join(f"{n * 2654435761 % 2**61}" for n in range(150_000))}]
    helm.store(replace(release, chart={**release.chart, "files": bulky}))
    assert helm.record(1).chart["files"] is None
    await deployed(helm, 2, "two", SECOND)
    helm("rollback", NAME, "1", "--wait", "--timeout", "60s")
    assert helm.message() == "one"


@pytest.mark.parametrize(
    "text",
    [
        r"a\.b.c=1,d[1].e={x,true,0},f=null,g=007",
        "a[0][1]=x,a[0][0]=y,b=,c=9223372036854775808",
        "a={},b={x},c=-1,d=+2",
        "a.b[2].c=d,a.b[0]=e",
        r"a=x\,y,b=c=d",
        "a,b=1",
        "a[x]=1",
        "a.=1",
        "a={x",
        "a[0]b=1",
    ],
)
def test_our_set_syntax_is_helms(text: str, tmp_path: Path) -> None:
    chart = tmp_path / "show"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: show\nversion: 0.1.0\n")
    (chart / "templates" / "configmap.yaml").write_text("values: {{ .Values | toJson }}\n")
    command: list[str | Path] = [tools.binary("helm"), "template", "x", chart, "--set", text]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    values: dict[str, Any] = {}
    if done.returncode == 0:
        parse_into(text, values)
        assert values == json.loads(done.stdout.split("values: ", 1)[1])
    else:
        assert "failed parsing --set data" in done.stderr
        with pytest.raises(StrvalsError):
            parse_into(text, values)
