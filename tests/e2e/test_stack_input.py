"""Objects that cannot be: each is named with what is wrong with it, and holds up nothing but its own layer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from testbed.gitrepo import GitRepository

from .bed import Bed, Manifest, Stack, condition, config_map, settle, unique
from .objects import namespace, source, text

pytestmark = pytest.mark.e2e

GENERATED = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "many-", "namespace": "default"}}
NAMELESS = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default"}}


def neighbour(place: str) -> Manifest:
    return {"name": "neighbour", "manifests": [config_map("neighbour", place)]}


def failed(stack: Stack, says: str) -> str:
    """The layer's message once it failed saying this; its neighbour is Ready all the same."""
    status = stack.phase("app", "Failed", says=says)
    assert condition({"status": status}, "Ready")["status"] == "False"
    stack.ready("neighbour")
    return str(status["message"])


def writes(bed: Bed, since: int, place: str) -> list[str]:
    return [line for line in bed.writes(since) if place in line and "neighbour" not in line]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("metadata: {name: no-kind}\ndata: {a: b}\n", "no-kind"),
        ("apiVersion: v1\nmetadata: {name: no-kind}\n", "no-kind"),
        ("kind: ConfigMap\nmetadata: {name: no-version}\n", "no-version"),
        ("apiVersion: v1\nkind: ConfigMap\n", "ConfigMap"),
        (json.dumps(GENERATED), "metadata.name"),
        ("- just\n- a list\n", "app.yaml"),
        ("just a text\n", "app.yaml"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\nkey: [unclosed\n", "app.yaml"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: twice}\ndata: {a: b}\ndata: {c: d}\n", "data"),
        ("\x00\x01binary\x02", "app.yaml"),
    ],
    ids=["kind-and-version", "kind", "version", "name", "generateName", "list", "text", "second", "twice", "binary"],
)
def test_a_file_that_holds_no_proper_object_is_refused_as_a_whole(
    bed: Bed, git: GitRepository, content: str, says: str
) -> None:
    place = bed.namespace()
    since = bed.plane.audit_offset()
    git.commit("Bad", {"app/app.yaml": content, "app/good.yaml": text(config_map("good", place))})
    stack = bed.stack({"name": "app", "path": "app"}, neighbour(place), sources=source(git))
    failed(stack, says)
    settle(0.5)
    assert writes(bed, since, place) == []


@pytest.mark.parametrize(("manifest", "says"), [(GENERATED, "generateName"), (NAMELESS, "metadata.name")])
def test_an_inline_object_without_a_name_is_refused(bed: Bed, manifest: Manifest, says: str) -> None:
    place = bed.namespace()
    stack = bed.stack({"name": "app", "manifests": [manifest, config_map("good", place)]}, neighbour(place))
    failed(stack, says)


def test_a_secret_that_is_no_base64_is_named_and_its_value_never_shown(bed: Bed) -> None:
    place, value = bed.namespace(), "s3cr3t!not*base64"
    wrong = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "wrong", "namespace": place},
        "data": {"password": value},
    }
    stack = bed.stack({"name": "app", "manifests": [wrong, config_map("good", place)]}, neighbour(place))
    failed(stack, f"Secret {place}/wrong")
    stack.bed.until(f"/api/v1/namespaces/{place}/configmaps/good", lambda found: found is not None)
    assert value not in json.dumps(bed.api.get(stack.layer_path("app"))["status"])
    assert value not in json.dumps(bed.api.get(stack.path)["status"])
    assert value not in bed.operator.log.read_text()
    events = bed.api.get("/api/v1/events")["items"]
    assert value not in json.dumps([event for event in events if event.get("source", {}).get("component")])


def test_a_secret_whose_text_is_a_number_is_named(bed: Bed, git: GitRepository) -> None:
    place = bed.namespace()
    wrong = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: wrong, namespace: {place}}}\nstringData: {{pin: 1234}}\n"
    git.commit("Bad", {"app/app.yaml": wrong})
    stack = bed.stack({"name": "app", "path": "app"}, neighbour(place), sources=source(git))
    assert "1234" not in failed(stack, f"Secret {place}/wrong")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"metadata": {"name": "Wrong_Name"}}, "Wrong_Name"),
        ({"metadata": {"name": "wrong", "labels": {"-": "?!"}}}, "labels"),
        ({"metadata": {"name": "wrong"}, "data": {"a": 1}}, "wrong"),
        ({"metadata": {"name": "wrong"}, "data": {"a/b": "c"}}, "a/b"),
        ({"metadata": {"name": "wrong"}, "data": {"a": "x" * 1_100_000}}, "wrong"),
        ({"metadata": {"name": "wrong"}, "spec": {"what": "is this"}}, "spec"),
    ],
    ids=["name", "labels", "number", "key", "huge", "field"],
)
def test_an_object_that_the_api_server_refuses_is_named_and_the_others_are_applied(
    bed: Bed, git: GitRepository, change: Manifest, says: str
) -> None:
    place = bed.namespace()
    wrong = {"apiVersion": "v1", "kind": "ConfigMap", **change}
    wrong["metadata"] = {**change["metadata"], "namespace": place}
    git.commit("Bad", {"app/app.yaml": text(wrong), "app/good.yaml": text(config_map("good", place))})
    stack = bed.stack({"name": "app", "path": "app"}, neighbour(place), sources=source(git))
    message = failed(stack, says)
    assert f"ConfigMap {place}/{wrong['metadata']['name']}" in message
    assert len(message) < 1200
    bed.until(f"/api/v1/namespaces/{place}/configmaps/good", lambda found: found is not None)
    git.commit("Better", {"app/app.yaml": text(config_map("right", place))})
    stack.ready()


def test_a_field_that_cannot_be_changed_is_named_and_force_makes_the_object_anew(bed: Bed) -> None:
    place = bed.namespace()

    def fixed(**data: str) -> Manifest:
        return {**config_map("app", place, **data), "immutable": True}

    stack = bed.stack({"name": "app", "manifests": [fixed(size="1")]}, neighbour(place))
    stack.ready()
    before = bed.api.get(f"/api/v1/namespaces/{place}/configmaps/app")["metadata"]["uid"]
    stack.edit("app", manifests=[fixed(size="2")])
    status = stack.phase("app", "Failed", says="immutable")
    assert condition({"status": status}, "Ready")["reason"] == "Immutable"
    assert f"ConfigMap {place}/app" in status["message"]
    stack.edit("app", force=True)
    stack.ready()
    found = bed.api.get(f"/api/v1/namespaces/{place}/configmaps/app")
    assert found["data"] == {"size": "2"}
    assert found["metadata"]["uid"] != before


def account(bed: Bed, place: str, *rules: Manifest) -> Manifest:
    """A ServiceAccount with these rights in one namespace, and in the shape of `spec.serviceAccount`."""
    metadata = {"name": "deployer", "namespace": place}
    bed.api.create(
        f"/api/v1/namespaces/{place}/serviceaccounts",
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
    )
    group = "rbac.authorization.k8s.io"
    rights = f"/apis/{group}/v1/namespaces/{place}"
    role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": list(rules)}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "deployer"},
        "subjects": [{"kind": "ServiceAccount", **metadata}],
    }
    bed.api.create(f"{rights}/roles", role)
    bed.api.create(f"{rights}/rolebindings", binding)
    return metadata


def test_an_account_writes_what_it_may_and_what_it_may_not_is_named_until_it_may(bed: Bed) -> None:
    place, other = bed.namespace(), bed.namespace()
    everything = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch", "delete"]}
    deployer = account(bed, place, everything)
    since = bed.plane.audit_offset()
    stack = bed.stack(
        {"name": "app", "manifests": [config_map("mine", place), config_map("not-mine", other)]},
        neighbour(place),
        serviceAccount=deployer,
    )
    message = failed(stack, "configmaps")
    user = f"system:serviceaccount:{place}:deployer"
    assert f"ConfigMap {other}/not-mine" in message
    assert user in message
    assert any(verb in message for verb in ("patch", "create"))
    bed.until(f"/api/v1/namespaces/{place}/configmaps/mine", lambda found: found is not None)
    events = bed.plane.writes(since, user_agent="clusterstack/")
    mine = [event for event in events if event["objectRef"].get("namespace") == place]
    assert mine
    assert {event.get("impersonatedUser", {}).get("username") for event in mine} == {user}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": unique("all")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": place}],
    }
    bed.api.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    stack.ready()


def test_an_account_without_rights_deletes_nothing(bed: Bed) -> None:
    place = bed.namespace()
    apply_only = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch"]}
    deployer = account(bed, place, apply_only)
    manifests = [config_map("one", place), config_map("two", place)]
    stack = bed.stack({"name": "app", "manifests": manifests}, neighbour(place), serviceAccount=deployer)
    stack.ready()
    stack.edit("app", manifests=manifests[:1])
    stack.ready()
    settle(1)
    assert bed.api.find(f"/api/v1/namespaces/{place}/configmaps/two") is not None


def test_an_expression_that_does_not_parse_is_named(bed: Bed) -> None:
    place = bed.namespace()
    rule = {"apiVersion": "example.org/v1", "kind": "Widget", "current": "status.ready ==== true"}
    stack = bed.stack(
        {"name": "app", "manifests": [config_map("app", place)], "health": {"expressions": [rule]}}, neighbour(place)
    )
    message = failed(stack, "status.ready ====")
    assert "InternalError" not in message


def test_a_chain_of_bad_layers_shows_the_first_cause(bed: Bed, git: GitRepository) -> None:
    place = unique("never")
    git.commit("Bad", {"base/base.yaml": "kind: [\n", "app/app.yaml": text(namespace(place))})
    stack = bed.stack(
        {"name": "base", "path": "base"}, {"name": "app", "path": "app", "dependsOn": ["base"]}, sources=source(git)
    )

    def summary(found: Any) -> str:
        return str(((found.get("status") or {}).get("summary") or {}).get("message", ""))

    bed.until(stack.path, lambda found: summary(found).startswith("base: failed") and "base.yaml" in summary(found))
    stack.phase("app", "Waiting", says="base")
    assert bed.api.find(f"/api/v1/namespaces/{place}") is None
