"""What the cache keeps of a live object: its metadata, who owns which fields, and the rest as unread JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.core.order import is_custom
from clusterstack.errors import TransportError
from clusterstack.kube.resource import CUSTOM_RESOURCE_DEFINITION, Resource, metadata_only

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"  # large, and for a Secret secret
_CONTENT = frozenset({"data", "stringData", "binaryData"})
_IDENTITY = frozenset({"apiVersion", "kind", "metadata"})


class Owner(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """One ownerReference."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Manager(msgspec.Struct, frozen=True, gc=False):
    """One managedFields entry; `fields_digest` changes when the set of fields does, and only then."""

    manager: str
    operation: str
    subresource: str
    fields_digest: str


class Live(msgspec.Struct, frozen=True, gc=False):
    """A live object as last seen. Timestamps are RFC 3339, empty when absent; `body` is the JSON of all top-level
    fields but identity and content (`data`, `stringData`, `binaryData`), `{}` for kinds watched without content.
    `outdated_since` is when it was last changed by server-side apply (unix seconds) if its status was last written
    before that, by managedFields; 0 if it was not, or never, and for Kubernetes' own kinds.
    """

    ref: ObjectRef
    api_version: str
    uid: str
    resource_version: str
    generation: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner_references: tuple[Owner, ...]
    creation_timestamp: str
    deletion_timestamp: str
    finalizers: tuple[str, ...]
    managers: tuple[Manager, ...]
    body: bytes
    outdated_since: int = 0

    @property
    def revision(self) -> int:
        """The resource version as a number that only grows; 0 where a server does not number its objects."""
        return revision_of(self.resource_version)

    def manifest(self) -> Manifest:
        """The object as a dictionary of the caller's own, without managedFields and content."""
        metadata: Manifest = {"name": self.ref.name}
        optional = {
            "namespace": self.ref.namespace,
            "uid": self.uid,
            "resourceVersion": self.resource_version,
            "generation": self.generation,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "ownerReferences": [msgspec.to_builtins(owner) for owner in self.owner_references],
            "creationTimestamp": self.creation_timestamp,
            "deletionTimestamp": self.deletion_timestamp,
            "finalizers": list(self.finalizers),
        }
        metadata |= {key: value for key, value in optional.items() if value}
        identity = {"apiVersion": self.api_version, "kind": self.ref.kind, "metadata": metadata}
        return identity | _fields_of_body.decode(self.body)

    @property
    def status_digest(self) -> int:
        """Changes when the status does, within one process; 0 without a status."""
        status = _top_level.decode(self.body).get("status")
        return 0 if status is None else hash(bytes(status))

    def fields_digest(self, manager: str, subresource: str = "", operation: str = "Apply") -> str:
        """The digest of one manager's fields; empty when it owns none."""
        for entry in self.managers:
            if (entry.manager, entry.subresource, entry.operation) == (manager, subresource, operation):
                return entry.fields_digest
        return ""


def revision_of(resource_version: str) -> int:
    """A resource version as a number (Kubernetes 1.35 promises that they compare as such); 0 if it is none."""
    return int(resource_version) if resource_version.isdecimal() else 0


class _ManagedFields(msgspec.Struct, rename="camel"):
    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: str = ""
    fields: msgspec.Raw = msgspec.field(name="fieldsV1", default=msgspec.Raw(b""))


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[Owner, ...] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    finalizers: tuple[str, ...] | None = None
    managed_fields: list[_ManagedFields] | None = None


class _CrdVersion(msgspec.Struct, rename="camel"):
    name: str = ""
    served: bool = False
    storage: bool = False


class _CrdSpec(msgspec.Struct, rename="camel"):
    """A CustomResourceDefinition's spec without its schemas, which are most of it."""

    group: str = ""
    scope: str = ""
    names: msgspec.Raw = msgspec.Raw(b"{}")
    versions: list[_CrdVersion] = []


_top_level = msgspec.json.Decoder(dict[str, msgspec.Raw])
_metadata = msgspec.json.Decoder(_Metadata)
_crd_spec = msgspec.json.Decoder(_CrdSpec)
_fields_of_body = msgspec.json.Decoder(dict[str, object])


def project(resource: Resource, manifest: Manifest) -> Live:
    """The projection of an object at hand, for example of a GET's answer."""
    return project_json(resource, msgspec.json.encode(manifest))


def project_json(resource: Resource, text: bytes | msgspec.Raw) -> Live:
    """The projection of an object's JSON. Raises TransportError when it is not an object of Kubernetes."""
    try:
        return _project(resource, text)
    except (msgspec.DecodeError, KeyError, ValueError) as error:
        raise TransportError(f"the API server sent a {resource.kind} that cannot be read: {error}") from error


def _project(resource: Resource, text: bytes | msgspec.Raw) -> Live:
    fields = _top_level.decode(text)
    metadata = _metadata.decode(fields["metadata"])
    annotations = metadata.annotations or {}
    annotations.pop(LAST_APPLIED, None)
    ref = ObjectRef(resource.group, resource.kind, metadata.namespace, metadata.name)
    return Live(
        ref=ref,
        api_version=resource.api_version,
        uid=metadata.uid,
        resource_version=metadata.resource_version,
        generation=metadata.generation,
        labels=metadata.labels or {},
        annotations=annotations,
        owner_references=metadata.owner_references or (),
        creation_timestamp=metadata.creation_timestamp or "",
        deletion_timestamp=metadata.deletion_timestamp or "",
        finalizers=metadata.finalizers or (),
        managers=tuple(_manager(entry) for entry in metadata.managed_fields or ()),
        body=b"{}" if metadata_only(resource.group_kind) else _body(resource, fields),
        outdated_since=_outdated_since(metadata.managed_fields or ()) if is_custom(ref) else 0,
    )


def _outdated_since(entries: Sequence[_ManagedFields]) -> int:
    """When the object was applied last, if its status was last written before that; such times compare as text."""
    reported = applied = ""
    for entry in entries:
        if entry.subresource:
            if entry.subresource == "status" and entry.time > reported:
                reported = entry.time
        elif entry.operation == "Apply" and entry.time > applied:
            applied = entry.time
    return int(datetime.fromisoformat(applied).timestamp()) if "" < reported < applied else 0


def _manager(entry: _ManagedFields) -> Manager:
    fields = bytes(entry.fields)
    if b"\\u" in fields:  # servers and clients escape differently; what counts is the text
        fields = msgspec.json.encode(msgspec.json.decode(fields))
    digest = hashlib.blake2b(fields, digest_size=8).hexdigest()
    return Manager(entry.manager, entry.operation, entry.subresource, digest)


def _body(resource: Resource, fields: dict[str, msgspec.Raw]) -> bytes:
    if resource.group_kind == CUSTOM_RESOURCE_DEFINITION.group_kind and "spec" in fields:
        fields["spec"] = msgspec.Raw(msgspec.json.encode(_crd_spec.decode(fields["spec"])))
    kept = {key: value for key, value in fields.items() if key not in _IDENTITY and key not in _CONTENT}
    return msgspec.json.encode(kept)
