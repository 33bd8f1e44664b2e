"""cert-manager: issuers, certificates, and the certificates that a Gateway's annotation asks for."""

from __future__ import annotations

import datetime as dt

from testbed.simulator import builtin, certs
from testbed.simulator.conditions import Status, condition
from testbed.simulator.objects import Obj, annotation, get
from testbed.simulator.operators import CERT_MANAGER
from testbed.simulator.play import Play
from testbed.simulator.scene import Scene, is_true

ISSUERS = "issuers.cert-manager.io"
CLUSTER_ISSUERS = "clusterissuers.cert-manager.io"
CERTIFICATES = "certificates.cert-manager.io"


async def _issuer(scene: Scene) -> None:
    acme = scene.spec.get("acme")
    if not is_true(scene.obj, "Ready"):
        await scene.wait()
    if acme:
        # Cluster-wide issuers keep their account keys where cert-manager runs.
        namespace = scene.namespace or "cert-manager"
        key = certs.make(scene.name, [scene.name]).key
        name = acme["privateKeySecretRef"]["name"]
        body = {"metadata": {"namespace": namespace, "name": name}, "data": {"tls.key": certs.encode(key)}}
        await scene.ensure(builtin.SECRETS, body)
    reason = "ACMEAccountRegistered" if acme else "IsReady"
    await scene.healthy(_ready(scene, status=True, reason=reason, message=""))


async def _certificate(scene: Scene) -> None:
    reference = scene.spec["issuerRef"]
    clustered = reference.get("kind") == "ClusterIssuer"
    resource = CLUSTER_ISSUERS if clustered else ISSUERS
    namespace = "" if clustered else scene.namespace
    name = scene.spec["secretName"]
    while True:
        if not _has_secret(scene, name):
            issuing = condition(
                "Issuing", reason="DoesNotExist", message="Issuing certificate as Secret does not exist"
            )
            waiting = _ready(scene, status=False, reason="DoesNotExist", message="Secret does not exist")
            await scene.progress({"conditions": [*waiting["conditions"], _observed(scene, issuing)]})
            await scene.until(
                (resource,),
                lambda: is_true(scene.store.get(resource, namespace, reference["name"]), "Ready"),
                what=(reference.get("kind", "Issuer"), namespace, reference["name"]),
            )
            await scene.wait()
            await _issue(scene, name)
        await scene.healthy(_issued(scene))
        await scene.store.until((builtin.SECRETS.name,), lambda: not _has_secret(scene, name))


def _has_secret(scene: Scene, name: str) -> bool:
    return scene.store.get(builtin.SECRETS.name, scene.namespace, name) is not None


async def _issue(scene: Scene, name: str) -> None:
    hosts = scene.spec.get("dnsNames") or [scene.spec.get("commonName") or scene.name]
    pair = certs.make(scene.name, hosts)
    data = {"ca.crt": pair.ca, "tls.crt": pair.certificate, "tls.key": pair.key}
    body = {
        "metadata": {
            "namespace": scene.namespace,
            "name": name,
            "annotations": {"cert-manager.io/certificate-name": scene.name},
        },
        "type": "kubernetes.io/tls",
        "data": {field: certs.encode(value) for field, value in data.items()},
    }
    await scene.ensure(builtin.SECRETS, body, owned=False)
    await scene.store.until((builtin.SECRETS.name,), lambda: _has_secret(scene, name))


def _issued(scene: Scene) -> Status:
    end = dt.datetime.now(dt.UTC) + dt.timedelta(days=90)
    message = "Certificate is up to date and has not expired"
    return {
        **_ready(scene, status=True, reason="Ready", message=message),
        "revision": get(scene.obj, "status", "revision") or 1,
        "notAfter": get(scene.obj, "status", "notAfter") or end.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _ready(scene: Scene, *, status: bool, reason: str, message: str) -> Status:
    return {"conditions": [_observed(scene, condition("Ready", status, reason, message))]}


def _observed(scene: Scene, entry: Status) -> Status:
    return {**entry, "observedGeneration": scene.generation}


async def _gateway_shim(scene: Scene) -> None:
    """Makes a Certificate for every TLS Secret of an annotated Gateway."""
    cluster_issuer = annotation(scene.obj, "cert-manager.io/cluster-issuer")
    issuer = cluster_issuer or annotation(scene.obj, "cert-manager.io/issuer")
    if not issuer:
        return
    resource = await scene.until(
        (builtin.CRDS.name,),
        lambda: scene.stage.resource(CERTIFICATES),
        what=("CustomResourceDefinition", "", CERTIFICATES),
    )
    for listener in scene.spec.get("listeners", ()):
        for reference in get(listener, "tls", "certificateRefs") or ():
            spec = {
                "secretName": reference["name"],
                "dnsNames": [listener.get("hostname") or scene.name],
                "issuerRef": {"kind": "ClusterIssuer" if cluster_issuer else "Issuer", "name": issuer},
                "usages": ["digital signature", "key encipherment"],
            }
            body: Obj = {"metadata": {"namespace": scene.namespace, "name": reference["name"]}, "spec": spec}
            await scene.ensure(resource, body)


PLAYS = (
    Play(ISSUERS, CERT_MANAGER, _issuer),
    Play(CLUSTER_ISSUERS, CERT_MANAGER, _issuer),
    Play(CERTIFICATES, CERT_MANAGER, _certificate),
    Play("gateways.gateway.networking.k8s.io", CERT_MANAGER, _gateway_shim),
)
