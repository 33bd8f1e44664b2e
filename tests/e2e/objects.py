"""Manifests that the end-to-end tests of stacks are made of, and how they look in a repository."""

from __future__ import annotations

from typing import Any

import yaml

from testbed.api import Api
from testbed.gitrepo import GitRepository

from .bed import Manifest

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def text(*manifests: Manifest) -> str:
    """Manifests as a file holds them."""
    return yaml.safe_dump_all(manifests, sort_keys=False)


def source(git: GitRepository, *, name: str = "infra", interval: str = "1s") -> list[Manifest]:
    """`spec.sources` with this repository alone."""
    return [{"name": name, "interval": interval, "git": {"url": git.bare.as_uri(), "ref": {"branch": git.branch}}}]


def namespace(name: str, **metadata: Any) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, **metadata}}


def deployment(name: str, place: str, *, runs: bool = True, **labels: str) -> Manifest:
    """A Deployment of one pod; unless it `runs`, no node takes the pod (before `let_run`)."""
    selector = {"app": name}
    pod: Manifest = {"containers": [{"name": "main", "image": "registry.example/app:1"}]}
    if not runs:
        pod["nodeSelector"] = {f"example.org/{place}.{name}": "yes"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": place, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": selector},
            "template": {"metadata": {"labels": selector}, "spec": pod},
        },
    }


def let_run(api: Api, name: str, place: str) -> None:
    """Have a node take the pods of a Deployment that does not run."""
    node = api.get("/api/v1/nodes")["items"][0]["metadata"]["name"]
    patch = {"metadata": {"labels": {f"example.org/{place}.{name}": "yes"}}}
    api.request("PATCH", f"/api/v1/nodes/{node}", patch, content_type="application/merge-patch+json")


def claim(name: str, place: str) -> Manifest:
    """A PersistentVolumeClaim that nobody binds."""
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "none",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    metadata = {"name": name, "namespace": place}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def crd(kind: str, group: str, *, scope: str = "Namespaced") -> Manifest:
    """A CustomResourceDefinition whose objects hold anything and have no status."""
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [version],
        },
    }


def custom(kind: str, group: str, name: str, place: str, **fields: Any) -> Manifest:
    """An object of such a kind."""
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": name, "namespace": place}, **fields}
