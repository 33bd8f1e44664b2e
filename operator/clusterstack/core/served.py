"""Why a kind is not served yet, from the objects that would serve it."""

from __future__ import annotations

from collections.abc import Sequence

from clusterstack.core.health.fields import Fields, condition
from clusterstack.core.objects import GroupKind, Manifest, ObjectRef
from clusterstack.core.outcome import Park, kind_not_served

CRD = GroupKind("apiextensions.k8s.io", "CustomResourceDefinition")
API_SERVICE = GroupKind("apiregistration.k8s.io", "APIService")


def api_service_of(api_version: str) -> ObjectRef:
    """The APIService of a group and version: every version has one, of a CRD too."""
    group, _, version = api_version.rpartition("/")
    return ObjectRef(API_SERVICE.group, API_SERVICE.kind, "", f"{version}.{group}")


def unserved_version(kind: GroupKind, version: str, served: Sequence[str]) -> Park:
    """The kind is there, in other versions."""
    message = f"version {version} of kind {kind} is not served (served: {', '.join(served)})"
    return Park("VersionNotServed", message, (("kind", kind),))


def unavailable(kind: GroupKind, api_version: str, api_service: Manifest | None) -> Park:
    """The API server does not get an answer from the server behind an aggregated API."""
    ref = api_service_of(api_version)
    keys = (("kind", kind), ("object", ref))
    available = condition(api_service or {}, "Available")
    if available is None or available.get("status") == "True":
        return Park("APIServiceUnavailable", f"the server behind {ref} does not answer", keys)
    return Park("APIServiceUnavailable", f"{ref} is not Available: {_words(available)}", keys)


def unestablished(kind: GroupKind, name: str, crd: Manifest) -> Park:
    """Its CRD is there; when it is established as well, the API server has only to notice."""
    plain = kind_not_served(kind)
    keys = (*plain.keys, ("object", ObjectRef(CRD.group, CRD.kind, "", name)))
    for type_ in ("NamesAccepted", "Established"):
        found = condition(crd, type_)
        if found is not None and found.get("status") == "False" and found.get("reason") != "Installing":
            message = f"{plain.message}: its CRD is not established, {type_}=False: {_words(found)}"
            return Park("CRDNotEstablished", message, keys)
    return Park(plain.reason, plain.message, keys)


def _words(found: Fields) -> str:
    parts = (found.get("reason"), " ".join(str(found.get("message") or "").split()))
    words = ": ".join(part for part in parts if part)
    return words if len(words) <= 200 else words[:199] + "…"
