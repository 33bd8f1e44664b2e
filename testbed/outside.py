"""What can be seen of an operator from outside: its inventories, the graph of its layers, its Helm releases.

Nothing here uses the operator's code, so that what judges it shares none of its mistakes.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from testbed.api import Api
from testbed.controlplane import Cluster

USER_AGENT = "clusterstack"
RECONCILE = "clusterstack.dev/reconcileAt"
STACKS = "/apis/clusterstack.dev/v1alpha1/clusterstacks"
LAYERS = "/apis/clusterstack.dev/v1alpha1/stacklayers"


class Item(NamedTuple):
    """An object of any kind; the namespace is empty for cluster-scoped ones."""

    group: str
    kind: str
    namespace: str
    name: str


class Owned(NamedTuple):
    """An object in a layer's inventory; `unit` is the release that it belongs to, empty for the layer's manifests."""

    item: Item
    api_version: str
    unit: str


def group_of(api_version: str) -> str:
    """The group of an apiVersion; empty for the core group."""
    return api_version.rpartition("/")[0]


def own_writes(cluster: Cluster, since: int) -> list[dict[str, Any]]:
    """What the operator wrote after that byte of the audit log, but for Leases and one answer per reconcileAt."""
    found, answered = [], set[str]()
    for event in cluster.writes(since, user_agent=USER_AGENT):
        token = _answer(event)
        if event["objectRef"].get("resource") != "leases" and (not token or token in answered):
            found.append(event)
        answered.add(token)
    return found


def _answer(event: Mapping[str, Any]) -> str:
    """The value of reconcileAt that a write of a stack's status answers; empty for any other write."""
    about, after = event["objectRef"], event.get("responseObject") or {}
    if (about.get("resource"), about.get("subresource")) != ("clusterstacks", "status"):
        return ""
    asked = after["metadata"].get("annotations", {}).get(RECONCILE, "")
    return str(asked) if after.get("status", {}).get("lastHandledReconcileAt") == asked else ""


def inventories(api: Api, stack: str, *, namespace: str = "clusterstack") -> dict[str, list[Owned]]:
    """What each layer of a stack has put into the cluster, by its own account."""
    path = f"/api/v1/namespaces/{namespace}/configmaps?labelSelector=clusterstack.dev/inventory-of%3D{stack}"
    found: dict[str, list[Owned]] = {}
    for shard in api.get(path)["items"]:
        data = json.loads(gzip.decompress(base64.b64decode(shard["binaryData"]["inventory"])))
        entries = found.setdefault(data["layer"], [])
        for group, kind, namespace_, name, api_version, unit, *_ in data["entries"]:
            entries.append(Owned(Item(group, kind, namespace_, name), api_version, unit))
    return found


def graph(stack: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Which layers each layer of a ClusterStack depends on."""
    return {layer["name"]: tuple(layer.get("dependsOn") or ()) for layer in stack["spec"].get("layers") or ()}


def descendants(depends_on: Mapping[str, Iterable[str]], layer: str) -> frozenset[str]:
    """Every layer that waits for `layer`, directly or not."""
    found: set[str] = set()
    while True:
        more = {name for name, parents in depends_on.items() if {layer, *found} & set(parents)} - found
        if not more:
            return frozenset(found)
        found |= more


def kinds(api: Api) -> dict[tuple[str, str], str]:
    """The kind behind each (group, resource) that is served, such as ("apps", "deployments")."""
    found: dict[tuple[str, str], str] = {}
    paths = ["/api/v1"]
    for group in api.get("/apis")["groups"]:
        paths += [f"/apis/{version['groupVersion']}" for version in group["versions"]]
    for path in paths:
        code, answer = api.raw("GET", path)
        if code != 200:
            continue
        document = json.loads(answer)
        for resource in document["resources"]:
            if "/" not in resource["name"]:
                found[group_of(document["groupVersion"]), resource["name"]] = resource["kind"]
    return found


def deployed_releases(api: Api) -> list[str]:
    """The Helm releases whose newest record says deployed, as namespace/name."""
    selector = "owner%3Dhelm,status%3Ddeployed"
    secrets = api.get(f"/api/v1/secrets?labelSelector={selector}")["items"]
    return sorted({f"{s['metadata']['namespace']}/{s['metadata']['labels']['name']}" for s in secrets})
