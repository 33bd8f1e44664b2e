"""Where a webhook's certificate comes from: the operator itself, cert-manager, a Job, or the chart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from testbed.simulator import builtin, operators
from testbed.simulator.certs import KeyPair, decode
from testbed.simulator.objects import Obj, get
from testbed.simulator.operators import Operator
from testbed.simulator.plays.certmanager import CERTIFICATES
from testbed.simulator.store import Store
from testbed.simulator.webhooks.references import Reference, Target

Fields = tuple[str, str, str]
"""The names under which a Secret keeps authority, certificate and key."""

_TLS: Fields = ("ca.crt", "tls.crt", "tls.key")
_KNATIVE: Fields = ("ca-cert.pem", "server-cert.pem", "server-key.pem")
_CERTGEN: Fields = ("ca", "cert", "key")
_LAYOUTS = (_TLS, _KNATIVE, _CERTGEN)


@dataclass(frozen=True, slots=True)
class Rotation:
    """An operator that makes the certificates of its own Services, in one Secret."""

    services: tuple[str, ...]
    secret: str
    operator: Operator
    fields: Fields = _TLS
    injects: bool = True
    """Whether it writes the caBundles too; cert-manager leaves that to its injector."""


ROTATIONS = (
    Rotation(
        ("cert-manager-webhook",),
        "cert-manager-webhook-ca",
        Operator("cert-manager-webhook", ("cert-manager-webhook",)),
        injects=False,
    ),
    Rotation(("external-secrets-webhook",), "external-secrets-webhook", operators.EXTERNAL_SECRETS_CERTS),
    Rotation(("metallb-webhook-service",), "metallb-webhook-cert", operators.METALLB),
    Rotation(("keda-operator-metrics-apiserver", "keda-admission-webhooks"), "kedaorg-certs", operators.KEDA),
    Rotation(("operator-webhook",), "operator-webhook-certs", operators.KNATIVE_WEBHOOK, _KNATIVE),
    Rotation(
        ("net-gateway-api-webhook",),
        "net-gateway-api-webhook-certs",
        Operator("net-gateway-api-webhook", ("net-gateway-api-webhook",)),
        _KNATIVE,
    ),
    Rotation(
        ("kafka-webhook-eventing",),
        "kafka-webhook-eventing-certs",
        Operator("kafka-webhook-eventing", ("kafka-webhook-eventing",)),
        _KNATIVE,
    ),
)
_JOBS = {"vpa-webhook": "vpa-tls-secret"}


def rotation_of(target: Target) -> Rotation | None:
    return next((rotation for rotation in ROTATIONS if target.service in rotation.services), None)


def is_foreign(reference: Reference) -> bool:
    """Whether someone outside this module sees to the caBundle: the chart, or a Job."""
    return reference.target.service in _JOBS or not reference.pointer


def serving_secret(store: Store, target: Target, calls: Iterable[Reference]) -> Obj | None:
    """The Secret that the Service's pods would mount, or None for as long as there is none."""
    rotation = rotation_of(target)
    name = rotation.secret if rotation else _JOBS.get(target.service, "")
    if name:
        return store.get(builtin.SECRETS.name, target.namespace, name)
    for call in calls:
        if call.certificate:
            return certificate_secret(store, call.certificate)
        if call.bundle and (found := _rendered(store, target.namespace, call.bundle)):
            return found
    return None


def is_managed(target: Target, calls: Iterable[Reference]) -> bool:
    """Whether a certificate is due from elsewhere, so that none must be invented."""
    named = rotation_of(target) is not None or target.service in _JOBS
    return named or any(call.certificate or call.secret for call in calls)


def certificate_secret(store: Store, certificate: str) -> Obj | None:
    namespace, _, name = certificate.partition("/")
    found = store.get(CERTIFICATES, namespace, name)
    secret = get(found, "spec", "secretName")
    return store.get(builtin.SECRETS.name, namespace, secret) if secret else None


def read(secret: Obj | None) -> KeyPair | None:
    data = (secret or {}).get("data") or {}
    for fields in _LAYOUTS:
        if all(data.get(field) for field in fields):
            authority, certificate, key = (decode(data[field]) for field in fields)
            return KeyPair(authority, certificate, key)
    return None


def _rendered(store: Store, namespace: str, bundle: str) -> Obj | None:
    """A chart that renders a caBundle renders the Secret that goes with it."""
    for secret in store.all(builtin.SECRETS.name):
        if secret["metadata"].get("namespace") == namespace and get(secret, "data", "ca.crt") == bundle:
            return secret
    return None
