"""Webhook configurations: whether the servers that they name are there to be asked.

A webhook that fails requests (`failurePolicy: Fail`) and whose server is not up refuses whatever it is asked about, so
its configuration is not Current before. It is waited for as long as somebody seems to be at work on the server: its
Service has endpoints that are not ready yet, or its CA bundle is about to be injected, which an annotation announces.
Where nobody is, it is given up after `GRACE` and only said: the server may come with a layer that waits for this one.
"""

from __future__ import annotations

from collections.abc import Iterable

from clusterstack.core.health.fields import Fields, entries, last_change, section, text
from clusterstack.core.health.verdict import GRACE, Context, State, Verdict
from clusterstack.core.objects import GroupKind, Manifest, ObjectRef, group_of
from clusterstack.core.webhooks import reachable

KINDS = frozenset(
    GroupKind("admissionregistration.k8s.io", kind)
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
)
RULE = "builtin"
INJECTION = "cert-manager.io/inject-"
"""Prefix of the annotations that have cert-manager inject the CA bundle."""


def servers_of(obj: Manifest) -> tuple[ObjectRef, ...]:
    """The Services that have to answer for a webhook configuration; none for any other kind."""
    if GroupKind(group_of(obj["apiVersion"]), obj["kind"]) not in KINDS:
        return ()
    return tuple(dict.fromkeys(_service(hook) for hook in _decisive(obj)))


def check(obj: Manifest, context: Context) -> Verdict:
    """The strict verdict on a webhook configuration."""
    due = last_change(obj, context.applied_at) + GRACE
    given_up: Verdict | None = None
    for hook in _decisive(obj):
        trouble = _trouble(obj, hook, context)
        if trouble is None:
            continue
        words, hopeful = trouble
        message = f"webhook {text(hook, 'name')} {words}"
        if hopeful:
            return Verdict(State.IN_PROGRESS, "WebhookNotReady", message, RULE, context.now + GRACE)
        if context.now < due:
            return Verdict(State.IN_PROGRESS, "WebhookNotReady", message, RULE, due)
        given_up = given_up or Verdict(State.CURRENT, "WebhookNotReady", message, RULE)
    return given_up or Verdict(State.CURRENT, "Current", "", RULE)


def _trouble(obj: Manifest, hook: Fields, context: Context) -> tuple[str, bool] | None:
    """What is wrong with a webhook's server, and whether somebody seems to be at work on it; None: nothing is known."""
    if context.servers is None:
        return None
    ref = _service(hook)
    where = f"service {ref.namespace}/{ref.name}"
    server = context.servers.get(ref)
    if server is None:
        return f"waits for {where} to be read", True
    if not server.trusted:
        if server.service is None:
            return f"waits for {where}, which does not exist", False
        if not reachable(server.service, server.slices):
            starting = any(True for one in server.slices for _ in one.get("endpoints") or ())
            return f"waits for ready endpoints of {where}", starting
    announced = any(name.startswith(INJECTION) for name in section(section(obj, "metadata"), "annotations"))
    if announced and not section(hook, "clientConfig").get("caBundle"):
        return f"waits for its caBundle, which cert-manager is to inject, to trust {where}", True
    return None


def _decisive(obj: Manifest) -> Iterable[Fields]:
    """The webhooks that fail requests when their Service does not answer."""
    for hook in entries(obj, "webhooks"):
        service = section(section(hook, "clientConfig"), "service")
        if service and (text(hook, "failurePolicy") or "Fail") == "Fail":
            yield hook


def _service(hook: Fields) -> ObjectRef:
    service = section(section(hook, "clientConfig"), "service")
    return ObjectRef("", "Service", text(service, "namespace"), text(service, "name"))
