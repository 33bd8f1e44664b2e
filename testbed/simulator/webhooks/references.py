"""Who calls which Service: admission webhooks, CRD conversions and APIServices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.simulator import builtin
from testbed.simulator.catalogue import conversion_service
from testbed.simulator.objects import Obj, Resource, annotation, get
from testbed.simulator.store import Store


@dataclass(frozen=True, slots=True)
class Target:
    """A Service that somebody calls."""

    namespace: str
    service: str


@dataclass(frozen=True, slots=True)
class Reference:
    """One place that names a Service. `pointer` is the JSON pointer of its caBundle, empty if it takes none."""

    resource: Resource
    name: str
    target: Target
    port: int
    pointer: str
    bundle: str
    certificate: str
    """`namespace/name` of the Certificate whose CA cert-manager is to inject."""
    secret: str
    """`namespace/name` of the Secret whose CA cert-manager is to inject."""
    api: tuple[str, str] = ("", "")
    """Group and version of an aggregated API."""
    webhook: str = ""
    has_rules: bool = True
    guards: tuple[str, ...] = ()
    """Patterns of plural.group whose writes fail while nobody answers."""


def references(store: Store, definitions: Mapping[str, Obj]) -> Iterator[Reference]:
    for resource in builtin.ADMISSION:
        for configuration in store.all(resource.name):
            yield from _of_configuration(resource, configuration)
    for crd in definitions.values():
        if service := conversion_service(crd):
            path = "/spec/conversion/webhook/clientConfig/caBundle"
            bundle = get(crd, "spec", "conversion", "webhook", "clientConfig", "caBundle") or ""
            yield _reference(builtin.CRDS, crd, service, path, bundle)
    for api in store.all(builtin.API_SERVICES.name):
        if service := get(api, "spec", "service"):
            yield _of_api(api, service)


def _of_configuration(resource: Resource, configuration: Obj) -> Iterable[Reference]:
    for number, webhook in enumerate(configuration.get("webhooks") or ()):
        service = get(webhook, "clientConfig", "service")
        if service:
            pointer = f"/webhooks/{number}/clientConfig/caBundle"
            bundle = webhook["clientConfig"].get("caBundle", "")
            more = {"webhook": webhook["name"], "has_rules": bool(webhook.get("rules")), "guards": _guards(webhook)}
            yield _reference(resource, configuration, service, pointer, bundle, **more)


def _guards(webhook: Obj) -> tuple[str, ...]:
    if webhook.get("failurePolicy", "Fail") != "Fail":
        return ()
    return tuple(
        f"{resource.split('/')[0]}.{group}"
        for rule in webhook.get("rules") or ()
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if group
    )


def _of_api(api: Obj, service: Obj) -> Reference:
    spec = api["spec"]
    pointer = "" if spec.get("insecureSkipTLSVerify") else "/spec/caBundle"
    group = spec.get("group", ""), spec["version"]
    return _reference(builtin.API_SERVICES, api, service, pointer, spec.get("caBundle", ""), api=group)


def _reference(resource: Resource, obj: Obj, service: Obj, pointer: str, bundle: str, **more: Any) -> Reference:
    return Reference(
        resource=resource,
        name=obj["metadata"]["name"],
        target=Target(service["namespace"], service["name"]),
        port=int(service.get("port") or 443),
        pointer=pointer,
        bundle=bundle,
        certificate=annotation(obj, "cert-manager.io/inject-ca-from"),
        secret=annotation(obj, "cert-manager.io/inject-ca-from-secret"),
        **more,
    )
