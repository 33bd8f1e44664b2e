"""From commit to Ready: what a commit changes is written, and nothing else; what is broken heals with the next one."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from testbed.gitrepo import GitRepository

from .bed import Bed, Manifest, Stack, condition, config_map, secret, settle, unique
from .objects import deployment, namespace, source, text

pytestmark = pytest.mark.e2e

KUSTOMIZATION = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: {place}
resources: [one.yaml, two.yaml]
configMapGenerator:
- name: generated
  literals: [a=b]
"""
CHAIN = ("base", "operators", "network", "apps")


class Site:
    """A repository of five layers, and the stack that runs it."""

    def __init__(self, bed: Bed, git: GitRepository) -> None:
        self.bed, self.git, self.place = bed, git, unique("site")
        files = {
            "namespaces/namespace.yaml": text(namespace(self.place)),
            "base/kustomization.yaml": KUSTOMIZATION.format(place=self.place),
            "base/one.yaml": text(config_map("base-one", "", size="1")),
            "base/two.yaml": text(secret("base-two", "", size="1")),
            "README.md": "# A site\n",
        }
        for name in CHAIN[1:]:
            files[f"{name}/{name}.yaml"] = text(config_map(name, self.place, size="1"))
            files[f"{name}/more/run.yaml"] = text(deployment(name, self.place))
        self.commit = git.commit("Lay out the site", files)
        chain = ("namespaces", *CHAIN)
        layers: list[Manifest] = [{"name": "namespaces", "path": "namespaces"}]
        layers += [{"name": name, "path": name, "dependsOn": [before]} for before, name in pairwise(chain)]
        self.stack = bed.stack(*layers, sources=source(git))

    def push(self, message: str, changes: dict[str, str | None]) -> str:
        self.commit = self.git.commit(message, changes)
        return self.commit

    def reached(self) -> None:
        """Wait until the stack is Ready with the newest commit."""
        at_commit(self.stack, self.commit)

    def data(self, name: str) -> dict[str, str]:
        return dict(self.bed.api.get(f"/api/v1/namespaces/{self.place}/configmaps/{name}")["data"])


def at_commit(stack: Stack, commit: str) -> Manifest:
    """Wait until a stack is Ready with a commit; the ClusterStack."""

    def holds(found: Any) -> bool:
        status = found.get("status") or {}
        shown = status.get("summary", {}).get("revision", "")
        return commit[:7] in shown and status.get("phase") == "Ready"

    return dict(stack.bed.until(stack.path, holds))


def flips(bed: Bed, since: int, *, but: str) -> list[str]:
    """Statuses of layers that were written since, other than this one's."""
    written = bed.plane.writes(since, user_agent="clusterstack/")
    layers = [event["objectRef"]["name"] for event in written if event["objectRef"]["resource"] == "stacklayers"]
    return [name for name in layers if name != but]


@pytest.fixture
def site(bed: Bed, git: GitRepository) -> Site:
    site = Site(bed, git)
    site.reached()
    return site


def test_every_layer_of_a_repository_becomes_ready_in_its_order(bed: Bed, site: Site) -> None:
    layers = [site.stack.layer(name) for name in ("namespaces", *CHAIN)]
    assert [layer["phase"] for layer in layers] == ["Ready"] * 5
    assert [layer["objects"]["total"] for layer in layers] == [1, 3, 2, 2, 2]
    assert [layer["readyAt"] for layer in layers] == sorted(layer["readyAt"] for layer in layers)
    assert all(layer["revision"].endswith(site.commit) for layer in layers)
    found = bed.api.get(site.stack.path)["status"]
    assert found["summary"]["layers"] == "5/5"
    assert found["criticalPath"]["layers"][-1]["layer"] == "apps"


def test_a_dependant_is_written_only_after_its_layer_was_published_as_ready(bed: Bed, git: GitRepository) -> None:
    since = bed.plane.audit_offset()
    site = Site(bed, git)
    site.reached()
    ready: dict[str, int] = {}
    first: dict[str, int] = {}
    for number, event in enumerate(bed.plane.writes(since, user_agent="clusterstack/")):
        ref = event["objectRef"]
        if ref["resource"] == "stacklayers" and _is_ready(event):
            ready.setdefault(ref["name"].removeprefix(f"{site.stack.name}."), number)
        elif ref.get("namespace") == site.place and ref["resource"] in ("configmaps", "secrets"):
            first.setdefault(ref["name"].partition("-")[0], number)
    for before, name in pairwise(CHAIN):
        assert ready[before] < first[name]


def _is_ready(event: Manifest) -> bool:
    return condition(event.get("responseObject"), "Ready").get("status") == "True"


def test_a_commit_that_changes_one_layer_writes_that_layer_alone(bed: Bed, site: Site) -> None:
    settle(1.5)
    since = bed.plane.audit_offset()
    site.push("Grow", {"network/network.yaml": text(config_map("network", site.place, size="2"))})
    site.reached()
    assert site.data("network") == {"size": "2"}
    settle(1.5)
    book = f"patch configmaps clusterstack/clusterstack.{site.stack.name}.network.0"
    allowed = {book, f"patch clusterstacks/status /{site.stack.name}", "create events default/"}
    allowed |= {f"patch stacklayers/status /{site.stack.name}.network"}
    written = [line for line in bed.writes(since) if not any(line.startswith(one) for one in allowed)]
    assert written == [f"patch configmaps {site.place}/network"]
    assert flips(bed, since, but=f"{site.stack.name}.network") == []
    assert site.stack.layer("network")["revision"].endswith(site.commit)


def test_a_commit_that_changes_no_layer_writes_nothing_but_the_stacks_revision(bed: Bed, site: Site) -> None:
    settle(1.5)
    since = bed.plane.audit_offset()
    site.push("Say more", {"README.md": "# A site, in more words\n"})
    site.reached()
    settle(1.5)
    assert set(bed.writes(since)) == {f"patch clusterstacks/status /{site.stack.name}"}
    assert not site.stack.layer("base")["revision"].endswith(site.commit)


def test_a_broken_layer_names_file_and_line_and_the_others_stay_ready(bed: Bed, site: Site) -> None:
    since = bed.plane.audit_offset()
    broken = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: operators\n data: {\n"
    site.push("Break", {"operators/operators.yaml": broken})
    message = site.stack.phase("operators", "Failed", says="operators.yaml")["message"]
    assert "line" in message
    for name in ("namespaces", "base", "network", "apps"):
        assert site.stack.layer(name)["phase"] == "Ready"
    found = bed.until(site.stack.path, lambda found: found["status"]["phase"] == "Failed")
    assert "operators" in condition(found, "Ready")["message"]
    assert flips(bed, since, but=f"{site.stack.name}.operators") == []
    assert site.data("operators") == {"size": "1"}

    site.push("Mend", {"operators/operators.yaml": text(config_map("operators", site.place, size="3"))})
    site.reached()
    assert site.data("operators") == {"size": "3"}


def test_what_changes_elsewhere_goes_on_while_a_layer_is_broken(bed: Bed, site: Site) -> None:
    changes = {
        "apps/apps.yaml": "kind: [\n",
        "base/one.yaml": text(config_map("base-one", "", size="9")),
    }
    site.push("Break one, change another", dict(changes))
    site.stack.phase("apps", "Failed")
    bed.until(f"/api/v1/namespaces/{site.place}/configmaps/base-one", lambda found: found["data"] == {"size": "9"})
    site.stack.ready("base", "operators", "network")


def test_a_new_commit_takes_over_at_once_while_a_deployment_does_not_come_up(bed: Bed, site: Site) -> None:
    file = "network/more/run.yaml"
    site.push("Nowhere to run", {file: text(deployment("network", site.place, runs=False))})
    message = site.stack.phase("network", "Progressing", says="Deployment")["message"]
    assert f"{site.place}/network" in message
    site.push("Somewhere to run", {file: text(deployment("network", site.place, again="yes"))})
    site.reached()
    result = [run["result"] for run in site.stack.layer("network")["history"]]
    assert result[:2] == ["Ready", "Superseded"]


def test_a_new_commit_takes_over_at_once_while_a_layer_waits_for_a_secret(bed: Bed, git: GitRepository) -> None:
    place = bed.namespace()
    git.commit("One", {"app/app.yaml": text(config_map("app", place, size="1"))})
    needed = {"apiVersion": "v1", "kind": "Secret", "namespace": place, "name": "token"}
    stack = bed.stack({"name": "app", "path": "app", "requires": [needed]}, sources=source(git))
    stack.phase("app", "Waiting", says=f"Secret {place}/token")
    commit = git.commit("Two", {"app/app.yaml": text(config_map("app", place, size="2"))})
    bed.until(stack.layer_path("app"), lambda found: found["status"]["revision"].endswith(commit))
    assert stack.layer("app")["phase"] == "Waiting"
    assert bed.api.find(f"/api/v1/namespaces/{place}/configmaps/app") is None
    bed.api.create(f"/api/v1/namespaces/{place}/secrets", secret("token", place))
    at_commit(stack, commit)
    assert bed.api.get(f"/api/v1/namespaces/{place}/configmaps/app")["data"] == {"size": "2"}


def test_a_suspended_source_stays_at_its_revision_until_it_is_resumed(bed: Bed, site: Site) -> None:
    stay = {**site.stack.spec["sources"][0], "suspend": True}
    site.stack.apply(sources=[stay])
    site.stack.ready()
    site.push("Unseen", {"apps/apps.yaml": text(config_map("apps", site.place, size="2"))})
    site.stack.reconcile()
    settle(1.5)
    assert site.data("apps") == {"size": "1"}
    site.stack.apply(sources=[{**stay, "suspend": False}])
    site.reached()
    assert site.data("apps") == {"size": "2"}


def test_a_force_push_to_an_older_commit_brings_the_older_state_back(bed: Bed, site: Site) -> None:
    old = site.git.read("base/one.yaml")
    site.push("Forward", {"base/one.yaml": text(config_map("base-one", "", size="5", more="yes"))})
    site.reached()
    assert site.data("base-one") == {"size": "5", "more": "yes"}
    site.push("Back", {"base/one.yaml": old})
    site.reached()
    assert site.data("base-one") == {"size": "1"}


def test_a_repository_that_goes_away_leaves_everything_as_it_is(bed: Bed, site: Site) -> None:
    since = bed.plane.audit_offset()
    away = site.git.bare.with_suffix(".away")
    site.git.bare.rename(away)
    try:
        found = bed.until(site.stack.path, lambda found: condition(found, "SourceReady")["status"] == "False")
        assert site.git.bare.name in json.dumps(condition(found, "SourceReady"))
        assert found["status"]["phase"] == "Ready"
        settle(1)
        assert [line for line in bed.writes(since) if site.place in line] == []
    finally:
        away.rename(site.git.bare)
    site.push("Back again", {"apps/apps.yaml": text(config_map("apps", site.place, size="4"))})
    site.reached()
    assert site.data("apps") == {"size": "4"}
