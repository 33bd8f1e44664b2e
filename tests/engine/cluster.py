"""A cluster that does what a test's script says: the engine's `Cluster` protocol over dictionaries.

It stores what is written and answers at once; everything else that an API server would do (refuse, delay, fail, take
fields away, finish a Job) is scripted by the test that needs it.
"""

from __future__ import annotations

import asyncio
import copy
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusterstack.core.objects import GroupKind, Manifest, ObjectRef, digest, group_of, ref_of
from clusterstack.core.ownership import STACK_LABEL
from clusterstack.errors import ApiError, ClusterStackError, TransportError
from clusterstack.kube.facts import Bus, kind_key, object_key
from clusterstack.kube.live import Live, project
from clusterstack.kube.observer import Watch, WatchKey
from clusterstack.kube.resource import Resource
from tests.engine.clock import FakeClock

BUILTIN = (
    ("v1", "Namespace", False),
    ("v1", "ConfigMap", True),
    ("v1", "Event", True),
    ("v1", "Pod", True),
    ("v1", "Secret", True),
    ("v1", "Service", True),
    ("v1", "ServiceAccount", True),
    ("v1", "PersistentVolumeClaim", True),
    ("apps/v1", "Deployment", True),
    ("batch/v1", "Job", True),
    ("discovery.k8s.io/v1", "EndpointSlice", True),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", False),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", False),
    ("apiregistration.k8s.io/v1", "APIService", False),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", False),
    ("clusterstack.dev/v1alpha1", "ClusterStack", False),
    ("clusterstack.dev/v1alpha1", "StackLayer", False),
)
WRITES = frozenset({"apply", "create", "replace", "patch", "apply_status", "delete"})


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as it was asked."""

    verb: str
    ref: ObjectRef
    manifest: Manifest | None = None
    manager: str = ""
    account: str = ""
    uid: str = ""


Script = Callable[[Call], Awaitable[None] | None]
"""Runs before or after a request is carried out; it may wait, change the cluster, or raise the request's failure."""

Scripts = dict[str, list[tuple[Callable[[ObjectRef], bool], Script]]]


@dataclass(slots=True)
class _Watched:
    """A watch and how many hold it."""

    key: WatchKey
    holders: int = 0
    synced: bool = False
    error: ClusterStackError | None = None

    def selects(self, live: Live) -> bool:
        key, labels = self.key, live.labels
        if key.group_kind != live.ref.group_kind or (key.namespace and key.namespace != live.ref.namespace):
            return False
        if key.name:
            return key.name == live.ref.name
        if key.field_selector:
            return (
                key.field_selector == f"involvedObject.uid={(live.manifest().get('involvedObject') or {}).get('uid')}"
            )
        return matches(key.label_selector, labels)


class _Hold:
    """One reader's hold."""

    def __init__(self, watched: _Watched) -> None:
        self._watched: _Watched | None = watched
        self._of, self._key = watched, watched.key
        watched.holders += 1

    @property
    def key(self) -> Hashable:
        return self._key

    @property
    def error(self) -> ClusterStackError | None:
        return self._of.error

    def release(self) -> None:
        if self._watched is not None:
            self._watched.holders -= 1
            self._watched = None


@dataclass(slots=True)
class Gatekeeper:
    """Holds requests until `open` is called; `waiting` are those that it holds."""

    waiting: list[Call] = field(default_factory=list)
    _opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, call: Call) -> None:
        self.waiting.append(call)
        await self._opened.wait()
        self.waiting.remove(call)

    def open(self) -> None:
        self._opened.set()


def matches(selector: str, labels: Any) -> bool:
    """Equality and existence, as far as the engine uses label selectors."""
    for term in filter(None, selector.split(",")):
        key, equals, value = term.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


class ScriptedCluster:
    """`engine.world.Cluster`. `objects` is the truth; what watches have shown of it is what `live` answers."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.objects: dict[ObjectRef, Manifest] = {}
        self.calls: list[Call] = []
        self.done: list[Call] = []
        self.syncing = True
        """Whether a new watch delivers its first list by itself."""
        self.withheld: list[ObjectRef] | None = None
        """A list: changes by others stay unseen, until `show`."""
        self.cut = False
        """The process is dead: no request of its reaches the API server any more."""
        self.silent: frozenset[str] = frozenset()
        """Group/versions whose own server does not answer discovery."""
        self.committed: list[Callable[[Call], None]] = []
        """Hear of every write that is carried out."""
        self._facts = Bus()
        self._served: dict[GroupKind, Resource] = {}
        self._watches: dict[WatchKey, _Watched] = {}
        self._seen: dict[ObjectRef, Live] = {}
        self._gone: dict[ObjectRef, Live] = {}
        self._before: Scripts = defaultdict(list)
        self._after: Scripts = defaultdict(list)
        self.version = 0
        for api_version, kind, namespaced in BUILTIN:
            self.serve(api_version, kind, namespaced=namespaced)

    # What a test does.

    def serve(self, api_version: str, kind: str, *, namespaced: bool = True, status: bool = False) -> Resource:
        """From now on this kind is served; `status`: with a status for its controller to report to."""
        group, version = group_of(api_version), api_version.rpartition("/")[2]
        resource = Resource(group, version, kind, f"{kind.lower()}s", namespaced=namespaced, status=status)
        self._served[resource.group_kind] = resource
        self._facts.publish(kind_key(resource.group_kind))
        return resource

    def withdraw(self, api_version: str, kind: str) -> None:
        """From now on this kind is not served."""
        group_kind = GroupKind(group_of(api_version), kind)
        del self._served[group_kind]
        self._facts.publish(kind_key(group_kind))

    def before(self, verb: str, script: Script, ref: ObjectRef | str | None = None) -> None:
        """Run a script before requests of this verb, for one object, one kind, or all; the newest script first."""
        self._before[verb].insert(0, (_selects(ref), script))

    def after(self, verb: str, script: Script, ref: ObjectRef | str | None = None) -> None:
        """Run a script after requests of this verb were carried out, before they are answered."""
        self._after[verb].insert(0, (_selects(ref), script))

    def relent(self, verb: str) -> None:
        """Forget the scripts of a verb."""
        self._before[verb].clear()
        self._after[verb].clear()

    def put(self, manifest: Manifest, *, by: str = "someone") -> ObjectRef:
        """Somebody else makes an object, or writes it whole."""
        ref = ref_of(manifest)
        old = self.objects.get(ref)
        stored = copy.deepcopy(manifest)
        self._number(stored, old)
        if old is not None:
            self._lose_fields(stored, old, by)
        self.objects[ref] = stored
        self._notice(ref)
        return ref

    def change(self, ref: ObjectRef, change: Callable[[Manifest], None], *, by: str = "someone") -> None:
        """Somebody else changes fields of ours, and owns them from then on."""
        changed = copy.deepcopy(self.objects[ref])
        change(changed)
        self.put(changed, by=by)

    def status(self, ref: ObjectRef, status: Manifest) -> None:
        """A controller writes an object's status; nobody's fields change hands."""
        stored = copy.deepcopy(self.objects[ref])
        stored["status"] = status
        entries = stored["metadata"].setdefault("managedFields", [])
        entries[:] = [entry for entry in entries if entry.get("subresource") != "status"]
        told = {"manager": "controller", "operation": "Update", "subresource": "status", "fieldsV1": {}}
        entries.append({**told, "time": self.clock.text()})
        self.version += 1
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.objects[ref] = stored
        self._notice(ref)

    def remove(self, ref: ObjectRef) -> None:
        """Somebody else deletes an object, and it is gone."""
        del self.objects[ref]
        self.version += 1
        self._notice(ref)

    def show(self, *refs: ObjectRef) -> None:
        """Let watches see these objects as they are now."""
        for ref in refs:
            self._deliver(ref)

    def sync(self, group_kind: GroupKind) -> None:
        """Let the watches of a kind deliver their first list."""
        for watched in list(self._watches.values()):
            if watched.key.group_kind == group_kind:
                self._sync(watched)

    def hide(self, group_kind: GroupKind, error: ClusterStackError) -> None:
        """Let the watches of a kind that have listed nothing yet be refused, until it is synced."""
        for watched in list(self._watches.values()):
            if watched.key.group_kind == group_kind:
                watched.error = error
                self._facts.publish(watched.key)

    def close(self) -> None:
        """What a process loses when it ends: every watch, and what they have shown."""
        self._watches.clear()
        self._seen.clear()
        self._gone.clear()
        self._facts = Bus()

    def adopt(self, other: ScriptedCluster) -> None:
        """Begin with everything that is in another cluster."""
        self.objects = copy.deepcopy(other.objects)
        self.version = other.version
        self._served = dict(other._served)

    def of(self, verb: str) -> list[ObjectRef]:
        """The objects of the requests of a verb that were carried out, in order."""
        return [call.ref for call in self.done if call.verb == verb]

    @property
    def writes(self) -> list[Call]:
        """Everything that was written."""
        return [call for call in self.done if call.verb in WRITES]

    @property
    def watched(self) -> list[WatchKey]:
        """The watches that somebody holds."""
        return [key for key, watched in self._watches.items() if watched.holders]

    @property
    def held(self) -> int:
        """Watches that somebody holds."""
        return sum(watched.holders for watched in self._watches.values())

    # The protocol: facts.

    @property
    def facts(self) -> Bus:
        return self._facts

    async def resource(self, api_version: str, kind: str) -> Resource | None:
        found = self._known(api_version, kind)
        if found is not None:
            return found
        call = Call("resource", ObjectRef(group_of(api_version), kind, "", ""))
        await self._run(self._before, call)
        await asyncio.sleep(0)
        found = self._known(api_version, kind)
        await self._run(self._after, call)
        return found

    def preferred(self, group_kind: GroupKind) -> Resource | None:
        return self._served.get(group_kind)

    def namespaced(self, group_kind: GroupKind) -> bool | None:
        resource = self.preferred(group_kind)
        return None if resource is None else resource.namespaced

    def api_versions(self) -> Sequence[str]:
        return tuple(sorted({resource.api_version for resource in self._served.values()}))

    def versions(self, group_kind: GroupKind) -> Sequence[str]:
        found = self._served.get(group_kind)
        return () if found is None else (found.version,)

    def unanswered(self) -> frozenset[str]:
        return self.silent

    def server_version(self) -> str:
        return "v1.36.3"

    def watch_kind(self, resource: Resource) -> Watch:
        return self._watch(WatchKey(resource.group_kind, label_selector=STACK_LABEL))

    def watch_object(self, resource: Resource, namespace: str, name: str) -> Watch:
        return self._watch(WatchKey(resource.group_kind, namespace=namespace, name=name))

    def watch_children(self, resource: Resource, namespace: str, selector: str) -> Watch:
        return self._watch(WatchKey(resource.group_kind, namespace=namespace, label_selector=selector))

    def watch_events(self, resource: Resource, namespace: str, uid: str) -> Watch:
        return self._watch(
            WatchKey(resource.group_kind, namespace=namespace, field_selector=f"involvedObject.uid={uid}")
        )

    def synced(self, watch: Watch) -> bool:
        assert isinstance(watch.key, WatchKey)
        return self._watches[watch.key].synced

    def members(self, watch: Watch) -> tuple[Live, ...]:
        assert isinstance(watch.key, WatchKey)
        watched = self._watches[watch.key]
        return tuple(live for _, live in sorted(self._seen.items()) if watched.selects(live))

    def live(self, ref: ObjectRef) -> Live | None:
        live = self._seen.get(ref)
        return live if live is not None and self._selecting(live) else None

    def last(self, ref: ObjectRef) -> Live | None:
        return self._gone.get(ref)

    def lives(self, group_kind: GroupKind) -> Iterable[Live]:
        return tuple(live for ref, live in sorted(self._seen.items()) if ref.group_kind == group_kind)

    # The protocol: verbs.

    async def apply(
        self, manifest: Manifest, resource: Resource, *, manager: str, account: str = "", lane: str = ""
    ) -> tuple[bool, Live]:
        ref = ref_of(manifest)
        call = Call("apply", ref, copy.deepcopy(manifest), manager, account)
        answers: list[tuple[bool, Live]] = []

        def commit() -> None:
            created = ref not in self.objects
            self._store_applied(ref, manifest, manager)
            answers.append((created, project(resource, self.objects[ref])))

        await self._write(call, commit)
        return answers[-1]

    async def rehearse(
        self, manifest: Manifest, resource: Resource, *, manager: str, account: str = "", lane: str = ""
    ) -> None:
        """What would refuse the apply refuses its dry run."""
        call = Call("rehearse", ref_of(manifest), copy.deepcopy(manifest), manager, account)
        self.calls.append(call)
        await asyncio.sleep(0)
        for verb in ("rehearse", "apply"):
            await self._run({call.verb: self._before[verb]}, call)
        self.done.append(call)

    async def get(
        self, api_version: str, kind: str, namespace: str, name: str, *, account: str = ""
    ) -> Manifest | None:
        resource = await self.resource(api_version, kind)
        if resource is None:
            return None
        ref = ObjectRef(resource.group, kind, namespace if resource.namespaced else "", name)
        await self._read(Call("get", ref, account=account))
        return copy.deepcopy(self.objects.get(ref))

    async def list(
        self,
        api_version: str,
        kind: str,
        namespace: str = "",
        *,
        selector: str = "",
        account: str = "",
        metadata_only: bool = False,
    ) -> list[Manifest]:
        resource = await self.resource(api_version, kind)
        if resource is None:
            return []
        await self._read(Call("list", ObjectRef(resource.group, kind, namespace, ""), account=account))
        return [
            copy.deepcopy(stored)
            for ref, stored in sorted(self.objects.items())
            if ref.group_kind == resource.group_kind
            and namespace in ("", ref.namespace)
            and matches(selector, stored["metadata"].get("labels") or {})
        ]

    async def create(self, manifest: Manifest, *, manager: str, account: str = "") -> Manifest:
        ref = ref_of(manifest)

        def commit() -> None:
            if ref in self.objects:
                raise ApiError(f"{ref} already exists", status=409, reason="AlreadyExists")
            self._store(ref, manifest)

        await self._write(Call("create", ref, copy.deepcopy(manifest), manager, account), commit)
        return copy.deepcopy(self.objects[ref])

    async def replace(self, manifest: Manifest, *, manager: str, account: str = "") -> Manifest:
        ref = ref_of(manifest)
        await self._write(
            Call("replace", ref, copy.deepcopy(manifest), manager, account),
            lambda: self._store(self._existing(ref), manifest),
        )
        return copy.deepcopy(self.objects[ref])

    async def patch(self, manifest: Manifest, patch: Manifest, *, manager: str) -> Manifest:
        ref = ref_of(manifest)

        def commit() -> None:
            stored = self.objects[self._existing(ref)]
            wanted = (patch.get("metadata") or {}).get("resourceVersion")
            if wanted not in (None, stored["metadata"]["resourceVersion"]):
                raise ApiError(f"{ref} has been modified", status=409, reason="Conflict")
            self._store(ref, _merged(stored, patch))

        await self._write(Call("patch", ref, copy.deepcopy(patch), manager), commit)
        return copy.deepcopy(self.objects.get(ref) or {})

    async def apply_status(self, manifest: Manifest, *, manager: str) -> Manifest:
        ref = ref_of(manifest)

        def commit() -> None:
            self.status(self._existing(ref), copy.deepcopy(manifest["status"]))

        await self._write(Call("apply_status", ref, copy.deepcopy(manifest), manager), commit)
        return copy.deepcopy(self.objects[ref])

    async def delete(
        self, api_version: str, ref: ObjectRef, *, uid: str = "", propagation: str = "Background", account: str = ""
    ) -> bool:
        if await self.resource(api_version, ref.kind) is None:
            return True

        def commit() -> None:
            stored = self.objects.get(ref)
            if stored is None:
                return
            if uid and stored["metadata"]["uid"] != uid:
                raise ApiError(f"the UID of {ref} does not match", status=409, reason="Conflict")
            if stored["metadata"].get("finalizers"):
                self._store(ref, _merged(stored, {"metadata": {"deletionTimestamp": self.clock.text()}}))
            else:
                self.remove(ref)

        await self._write(Call("delete", ref, account=account, uid=uid), commit)
        return ref not in self.objects

    # Behind the protocol.

    def _known(self, api_version: str, kind: str) -> Resource | None:
        found = self._served.get(GroupKind(group_of(api_version), kind))
        return found if found is not None and found.api_version == api_version else None

    async def _read(self, call: Call) -> None:
        self.calls.append(call)
        await self._run(self._before, call)
        await asyncio.sleep(0)
        self.done.append(call)
        await self._run(self._after, call)

    async def _write(self, call: Call, commit: Callable[[], None]) -> None:
        """In line for a slot a request can still be given up; once sent, its answer is awaited, cancelled or not."""
        self.calls.append(call)
        await asyncio.sleep(0)
        flight = asyncio.ensure_future(self._flight(call, commit))
        try:
            await asyncio.shield(flight)
        except asyncio.CancelledError:
            await asyncio.wait([flight])
            if not flight.cancelled():
                flight.exception()
            raise

    async def _flight(self, call: Call, commit: Callable[[], None]) -> None:
        await self._run(self._before, call)
        await asyncio.sleep(0)
        if self.cut:
            raise TransportError("the process is dead")
        commit()
        self.done.append(call)
        for hear in self.committed:
            hear(call)
        self._absorb(call.ref)
        await self._run(self._after, call)

    async def _run(self, scripts: Scripts, call: Call) -> None:
        for selects, script in tuple(scripts[call.verb]):
            if selects(call.ref):
                waiting = script(call)
                if waiting is not None:
                    await waiting

    def _existing(self, ref: ObjectRef) -> ObjectRef:
        if ref not in self.objects:
            raise ApiError(f"{ref} not found", status=404, reason="NotFound")
        return ref

    def _store(self, ref: ObjectRef, manifest: Manifest) -> None:
        stored = copy.deepcopy(manifest)
        self._number(stored, self.objects.get(ref))
        self.objects[ref] = stored

    def _store_applied(self, ref: ObjectRef, manifest: Manifest, manager: str) -> None:
        old = self.objects.get(ref) or {}
        stored = copy.deepcopy(manifest)
        metadata, before = stored.setdefault("metadata", {}), old.get("metadata") or {}
        for key in ("labels", "annotations"):
            if kept := {**(before.get(key) or {}), **(metadata.get(key) or {})}:
                metadata[key] = kept
        for key in ("finalizers", "deletionTimestamp", "ownerReferences"):
            if key in before:
                metadata[key] = before[key]
        if "status" in old:
            stored["status"] = old["status"]
        entry = {
            "manager": manager,
            "operation": "Apply",
            "apiVersion": manifest["apiVersion"],
            "fieldsV1": _fields(manifest),
        }
        entries = before.get("managedFields") or ()
        entry["time"] = next((other["time"] for other in entries if _is_mine(other, manager)), self.clock.text())
        metadata["managedFields"] = [*(other for other in entries if not _is_mine(other, manager)), entry]
        if not old or _without_version(stored) != _without_version(old):
            entry["time"] = self.clock.text()
        self._number(stored, old or None)
        self.objects[ref] = stored

    def _lose_fields(self, stored: Manifest, old: Manifest, by: str) -> None:
        """Whoever wrote owns what it wrote; whoever applied before owns less."""
        entries = copy.deepcopy(old["metadata"].get("managedFields") or [])
        for entry in entries:
            entry["fieldsV1"] = {**entry["fieldsV1"], f"lost-to-{by}": {}}
        entries.append({"manager": by, "operation": "Update", "fieldsV1": {"f:some": {}}})
        stored["metadata"]["managedFields"] = entries

    def _number(self, stored: Manifest, old: Manifest | None) -> None:
        metadata = stored.setdefault("metadata", {})
        before = (old or {}).get("metadata") or {}
        content = {key: value for key, value in stored.items() if key not in ("metadata", "status")}
        changed = old is None or content != {k: v for k, v in old.items() if k not in ("metadata", "status")}
        if old is not None and not changed and _without_version(stored) == _without_version(old):
            metadata.update(resourceVersion=before["resourceVersion"], uid=before["uid"])
            metadata.update(generation=before["generation"], creationTimestamp=before["creationTimestamp"])
            return
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        metadata["uid"] = before.get("uid") or f"uid-{self.version}"
        metadata["creationTimestamp"] = before.get("creationTimestamp") or self.clock.text()
        metadata["generation"] = before.get("generation", 0) + changed

    def _watch(self, key: WatchKey) -> Watch:
        watched = self._watches.get(key)
        if watched is None:
            watched = self._watches[key] = _Watched(key)
            if self.syncing:
                asyncio.get_running_loop().call_soon(self._sync, watched)
        return _Hold(watched)

    def _sync(self, watched: _Watched) -> None:
        if watched.synced or self._watches.get(watched.key) is not watched:
            return
        for ref in sorted(self.objects):
            if ref.group_kind == watched.key.group_kind:
                live = self._projected(ref)
                if live is not None and watched.selects(live):
                    self._enter(ref, live)
        watched.synced, watched.error = True, None
        self._facts.publish(watched.key)

    def _notice(self, ref: ObjectRef) -> None:
        if self.withheld is not None:
            self.withheld.append(ref)
        else:
            self._deliver(ref)

    def _absorb(self, ref: ObjectRef) -> None:
        """The answer of a write of ours is known at once."""
        self._deliver(ref)

    def _deliver(self, ref: ObjectRef) -> None:
        live, before = self._projected(ref), self._seen.get(ref)
        if live is None:
            if self._seen.pop(ref, None) is not None and before is not None and self._selecting(before):
                self._gone[ref] = before
                self._tell(ref, before)
        elif live != before:
            self._enter(ref, live, before)

    def _enter(self, ref: ObjectRef, live: Live, before: Live | None = None) -> None:
        self._seen[ref] = live
        if self._selecting(live) or (before is not None and self._selecting(before)):
            self._tell(ref, live)

    def _tell(self, ref: ObjectRef, live: Live) -> None:
        self._facts.publish(object_key(ref))
        for watched in self._watches.values():
            children = watched.key.label_selector or watched.key.field_selector
            if watched.key.namespace and children and watched.selects(live):
                self._facts.publish(watched.key)

    def _selecting(self, live: Live) -> bool:
        return any(watched.selects(live) for watched in self._watches.values())

    def _projected(self, ref: ObjectRef) -> Live | None:
        stored, resource = self.objects.get(ref), self._served.get(ref.group_kind)
        return None if stored is None or resource is None else project(resource, stored)


def _selects(ref: ObjectRef | str | None) -> Callable[[ObjectRef], bool]:
    match ref:
        case None:
            return lambda _: True
        case str() as kind:
            return lambda other: other.kind == kind
        case ObjectRef():
            return lambda other: other == ref


def _is_mine(entry: Manifest, manager: str) -> bool:
    return bool(entry["manager"] == manager and entry["operation"] == "Apply")


def _fields(manifest: Manifest) -> Manifest:
    """Which fields, not what is in them."""
    return {f"f:{key}": _fields(value) if isinstance(value, dict) else {} for key, value in sorted(manifest.items())}


def _merged(base: Manifest, patch: Manifest) -> Manifest:
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return merged


def _without_version(manifest: Manifest) -> str:
    metadata = {
        key: value
        for key, value in (manifest.get("metadata") or {}).items()
        if key not in ("resourceVersion", "uid", "generation", "creationTimestamp")
    }
    return digest({**manifest, "metadata": metadata})
