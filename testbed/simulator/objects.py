"""Kubernetes objects as plain mappings, and the few questions everyone asks of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]
"""An object as JSON has it."""

MANAGER = "simulator"
"""The field manager of every write."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a kind is served. `name` is plural.group, as CRDs are called; core kinds have no group."""

    plural: str
    group: str
    version: str
    kind: str
    namespaced: bool = True

    @property
    def name(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root, *(("namespaces", namespace) if namespace else ()), self.plural, name, subresource]
        return "/".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One object: the resource's name (`deployments.apps`), namespace (empty if there is none) and name."""

    resource: str
    namespace: str
    name: str


def key_of(resource: Resource, obj: Mapping[str, Any]) -> Key:
    meta = obj["metadata"]
    return Key(resource.name, meta.get("namespace", ""), meta["name"])


def get(obj: Mapping[str, Any] | None, *path: str) -> Any:
    """The value at `path`, or None where anything on the way is missing."""
    value: Any = obj
    for part in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def generation(obj: Mapping[str, Any]) -> int:
    return int(obj["metadata"].get("generation", 0))


def condition(obj: Mapping[str, Any] | None, name: str) -> str:
    """The status of a condition, or an empty string."""
    conditions: Sequence[Mapping[str, Any]] = get(obj, "status", "conditions") or ()
    return next((str(entry.get("status", "")) for entry in conditions if entry.get("type") == name), "")


def annotation(obj: Mapping[str, Any], name: str) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(name, ""))


def now() -> str:
    """The API's time format: UTC, whole seconds."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_micro() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def owner_of(obj: Mapping[str, Any]) -> Obj:
    """An owner reference to `obj`."""
    meta = obj["metadata"]
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }
