"""Storing the health library's samples: through their CRDs, on a real API server, read back as the engine would."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from clusterstack.core.health.rules import ANY, RuleSet
from clusterstack.core.health.samples import Sample
from clusterstack.core.objects import Manifest
from testbed.api import Api, ApiError
from testbed.complete import Schema, complete

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WORKERS = 6
PATIENCE = 60.0
TOUCHED = "touchedOnce"
"""A field that every schema gets besides its own: set at first and dropped again, it makes generation 2."""

Fragment = Mapping[str, Any]


@dataclass(frozen=True)
class Home:
    """Where the objects of a kind are stored, and what they must look like; without a schema it is a built-in kind."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    has_status: bool
    schema: Schema

    @property
    def name(self) -> str:
        """The kind as the library writes it."""
        return f"{self.group or 'v1'}/{self.kind}"

    @property
    def collection(self) -> str:
        """The path to create at; all samples live in one namespace."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/default/{self.plural}" if self.namespaced else f"{root}/{self.plural}"

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True)
class Stored:
    """What became of a sample: the object as read back, or why there is none."""

    sample: Sample
    home: Home
    back: Manifest | None
    refusal: str = ""

    @property
    def lost(self) -> list[str]:
        """Fields of the sample that are not there, or not the same, as read back."""
        back = self.back or {}
        fields = ((name, said) for name, said in self.sample.obj.items() if name not in _MADE_UP)
        return [path for name, said in fields for path in missing(said, back.get(name), name)]


_MADE_UP = frozenset({"apiVersion", "kind", "metadata"})
_INVENTED = frozenset({"name", "namespace", "generation"})


def missing(said: Any, held: Any, path: str) -> Iterator[str]:
    """The paths of what is said and not held; empty objects and lists say nothing."""
    if isinstance(said, Mapping):
        for name, value in said.items():
            yield from missing(value, held.get(name) if isinstance(held, Mapping) else None, f"{path}.{name}")
    elif isinstance(said, list):
        for index, value in enumerate(said):
            entry = held[index] if isinstance(held, list) and index < len(held) else None
            yield from missing(value, entry, f"{path}[{index}]")
    elif said != held or isinstance(said, bool) != isinstance(held, bool):
        yield path


def install(api: Api, crds: Iterable[Manifest]) -> list[Home]:
    """Brings in the storage version of definitions, with the additional field; it is served a moment later."""
    prepared = [_prepared(crd) for crd in crds]
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda crd: api.create(CRDS, crd), prepared))
    return [_home(crd) for crd in prepared]


def _prepared(crd: Manifest) -> Manifest:
    version = next(version for version in crd["spec"]["versions"] if version["storage"])
    schema = _undescribed(version["schema"]["openAPIV3Schema"])
    schema["properties"] = {**schema.get("properties", {}), TOUCHED: {"type": "boolean"}}
    stored = {**version, "schema": {"openAPIV3Schema": schema}}
    metadata = {name: held for name, held in crd["metadata"].items() if name in ("name", "annotations")}
    return {**crd, "metadata": metadata, "spec": {**crd["spec"], "versions": [stored]}}


def _undescribed(schema: Any) -> Any:
    """Without the descriptions, which are most of a definition and decide nothing."""
    if isinstance(schema, Mapping):
        told = {name: held for name, held in schema.items() if name != "description" or not isinstance(held, str)}
        return {name: _undescribed(held) for name, held in told.items()}
    return [_undescribed(entry) for entry in schema] if isinstance(schema, list) else schema


def _home(crd: Manifest) -> Home:
    spec, names = crd["spec"], crd["spec"]["names"]
    version = spec["versions"][0]
    return Home(
        spec["group"],
        version["name"],
        names["kind"],
        names["plural"],
        spec["scope"] == "Namespaced",
        "status" in (version.get("subresources") or {}),
        version["schema"]["openAPIV3Schema"],
    )


def builtin(api: Api) -> list[Home]:
    """The kinds that the API server itself serves, in their preferred versions; what they need is `said`, no schema."""
    groups = {one["name"]: one["preferredVersion"]["version"] for one in api.get("/apis")["groups"]}
    homes = []
    for group, version in {"": "v1", **groups}.items():
        found = api.get(f"/apis/{group}/{version}" if group else f"/api/{version}")["resources"]
        names = {one["name"] for one in found}
        for one in found:
            if "/" not in one["name"] and {"create", "get"} <= set(one["verbs"]):
                has_status = f"{one['name']}/status" in names
                homes.append(Home(group, version, one["kind"], one["name"], one["namespaced"], has_status, {}))
    return homes


def placed(samples: Sequence[Sample], homes: Sequence[Home], rules: RuleSet) -> Iterator[tuple[Sample, Home]]:
    """Each sample with each kind at hand that it is for; a group's samples stand for all its kinds without a rule."""
    own = {sample.kind for sample in samples if sample.concrete}
    for home in homes:
        wanted = home.name if home.name in own else _wildcard(home, rules)
        for sample in samples:
            if sample.kind == wanted:
                name = sample.name.replace(sample.kind, home.name)
                head = {"apiVersion": home.api_version, "kind": home.kind}
                yield replace(sample, name=name, obj={**sample.obj, **head}), home


def _wildcard(home: Home, rules: RuleSet) -> str:
    """The group for which the rule of a kind is, as the library writes it; empty where there is none."""
    rule = rules.find({"apiVersion": home.api_version, "kind": home.kind})
    groups = [kind.group for kind in rule.kinds if kind.kind == ANY] if rule else []
    found = [group for group in groups if fnmatchcase(home.group, group)]
    return f"{found[0]}/{ANY}" if found else ""


def store(
    api: Api, pairs: Sequence[tuple[Sample, Home]], said: Mapping[str, Fragment], first: Mapping[str, Fragment]
) -> list[Stored]:
    """Stores every sample, completed by its schema and by what is `said` of its kind or its name.

    Custom resources get generation 2, and so does a built-in kind that was otherwise at `first`.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(lambda pair: _store(api, pair[0], pair[1], said, first), pairs))


def _store(api: Api, sample: Sample, home: Home, said: Mapping[str, Fragment], first: Mapping[str, Fragment]) -> Stored:
    try:
        body = _body(sample, home, said)
        once = {TOUCHED: True} if home.schema else first.get(home.name)
        made = _create(api, home, merged(body, once or {}))
        path = f"{home.collection}/{made['metadata']['name']}"
        if once:
            made = api.request("PUT", path, {**body, "metadata": made["metadata"]})
        if home.has_status and body.get("status"):
            api.request("PUT", f"{path}/status", {**made, "status": body["status"]})
        return Stored(sample, home, api.get(path))
    except (ApiError, LookupError) as error:
        return Stored(sample, home, None, str(error))


def _body(sample: Sample, home: Home, said: Mapping[str, Fragment]) -> Manifest:
    more = merged(said.get(home.name, {}), said.get(sample.name, {}))
    own = {name: held for name, held in sample.obj["metadata"].items() if name not in _INVENTED}
    metadata = {"name": sample.name.rpartition("/")[2].lower(), **more.get("metadata", {}), **own}
    fields = {name: held for name, held in sample.obj.items() if held or name not in ("spec", "status")}
    if fields.get("status") and "observedGeneration" in _status(home.schema).get("required", ()):
        fields["status"] = {"observedGeneration": sample.obj["metadata"]["generation"], **fields["status"]}
    return dict(complete({**merged(more, fields), "metadata": metadata}, home.schema))


def _status(schema: Schema) -> Schema:
    return (schema.get("properties") or {}).get("status") or {}


def merged(under: Fragment, over: Fragment) -> dict[str, Any]:
    """Both, `over` winning where they differ; lists are not merged."""
    both = {
        name: merged(under[name], over[name])
        for name in under.keys() & over.keys()
        if _are_objects(under[name], over[name])
    }
    return {**under, **over, **both}


def _are_objects(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def _create(api: Api, home: Home, body: Manifest) -> Manifest:
    """Creates an object; a kind may be unknown for a moment after its definition is established."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return dict(api.create(home.collection, body))
        except ApiError as error:
            if error.code != 404 or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
