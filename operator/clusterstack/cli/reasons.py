"""Why something is not Ready: the chain from a layer to what is really in its way, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from clusterstack.api.common import GROUP
from clusterstack.cli.records import LayerRecord, StackRecord
from clusterstack.core.gates import Blocker
from clusterstack.core.objects import ObjectRef

_WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Pod", "CronJob"})
_SERVICE = re.compile(r"of service ([^/ ]+)/([^ ]+)")
_REFUSED = frozenset({"Invalid", "Immutable", "Forbidden", "TooLarge", "Conflict"})
_ABSENT = frozenset({"NotFound", "ValuesMissing", "SubstituteMissing", "CredentialsMissing", "NamespaceMissing"})


@dataclass(frozen=True, slots=True)
class Link:
    """One step of the chain: a layer, or at its end an object or something else in the way (`blocker`)."""

    layer: LayerRecord | None = None
    blocker: Blocker | None = None


def chain(stack: StackRecord, start: str) -> tuple[Link, ...]:
    """From a layer through the layers that it waits for, to the blocker at the end.

    Of several blockers the first is followed, layers that failed before others; a layer is visited once.
    """
    links: list[Link] = []
    name: str | None = start
    seen: set[str] = set()
    while name is not None and name not in seen and (layer := stack.layer(name)) is not None:
        seen.add(name)
        links.append(Link(layer=layer))
        name = _next_layer(stack, layer)
        if name is None and (blocker := first_blocker(layer)) is not None:
            links.append(Link(blocker=blocker))
    return tuple(links)


def first_blocker(layer: LayerRecord) -> Blocker | None:
    """The object, or other thing, that is in the layer's way; None when it is another layer, or nothing."""
    return next((blocker for blocker in (*layer.waiting_on, *layer.blocking) if blocker.layer is None), None)


def _next_layer(stack: StackRecord, layer: LayerRecord) -> str | None:
    found = [stack.layer(blocker.layer) for blocker in layer.waiting_on if blocker.layer]
    waiting = [other for other in found if other is not None and not other.ready]
    return min(waiting, key=lambda other: other.phase != "Failed").name if waiting else None


def held_back(stack: StackRecord, name: str) -> tuple[str, ...]:
    """The layers that wait for this one, directly or through others, in the order in which layers start."""
    held = {name}
    for layer in stack.layers:
        if any(blocker.layer in held for blocker in layer.waiting_on):
            held.add(layer.name)
    return tuple(layer.name for layer in stack.layers if layer.name in held and layer.name != name)


def holding(stacks: Sequence[StackRecord], wanted: Sequence[str]) -> Iterator[tuple[StackRecord, LayerRecord, Blocker]]:
    """Where an object, given as `[kind, namespace, name]` or `[kind, name]`, is in a layer's way."""
    kind, namespace, name = wanted[0].lower(), wanted[1] if len(wanted) == 3 else "", wanted[-1]
    for stack in stacks:
        for layer in stack.layers:
            for blocker in (*layer.waiting_on, *layer.blocking):
                ref = blocker.ref
                same = ref is not None and ref.kind.lower() == kind.split(".")[0] and ref.name == name
                if same and ref is not None and (not namespace or ref.namespace == namespace):
                    yield stack, layer, blocker


def suggestion(blocker: Blocker | None, *, stack: str, layer: str = "") -> str:
    """The command that shows more of what is in the way."""
    ref = blocker.ref if blocker is not None else None
    if blocker is None or ref is None or _is_input(ref) or blocker.reason in _REFUSED:
        return f"kubectl describe stacklayer {stack}.{layer}" if layer else f"kubectl describe clusterstack {stack}"
    scope = f"-n {ref.namespace} " if ref.namespace else ""
    match blocker.reason:
        case "KindNotServed" | "VersionNotServed" | "CRDNotEstablished":
            group = f" --api-group={ref.group}" if ref.group else ""
            return f"kubectl api-resources{group}    # who installs {ref.kind}?"
        case "APIServiceUnavailable":
            return "kubectl get apiservices    # which is not Available?"
        case "NamespaceMissing" | "NamespaceTerminating" if ref.namespace:
            return f"kubectl get namespace {ref.namespace} -o yaml"
        case "QuotaExceeded":
            return f"kubectl {scope}describe resourcequota"
        case "WebhookNotReady" if service := _SERVICE.search(blocker.message):
            return f"kubectl -n {service[1]} get service,endpointslices,pods    # of {service[2]}"
    verb = "get" if blocker.reason in _ABSENT else "describe"
    return f"kubectl {scope}{verb} {resource_name(ref)} {ref.name}"


def _is_input(ref: ObjectRef) -> bool:
    """Releases and their sources are read, not applied: the cluster does not have them."""
    return ref.group.endswith(".toolkit.fluxcd.io") or ref.group == GROUP


def resource_name(ref: ObjectRef) -> str:
    """A kind as kubectl takes it without doubt: `deployment`, `kafka.kafka.strimzi.io`."""
    plain = not ref.group or ref.kind in _WORKLOADS
    return ref.kind.lower() if plain else f"{ref.kind.lower()}.{ref.group}"
