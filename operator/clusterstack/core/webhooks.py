"""Admission and conversion webhooks as far as a write depends on them: which one did not answer, and why not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from clusterstack.core.objects import Manifest

SERVICE_LABEL = "kubernetes.io/service-name"
"""The label by which a Service's EndpointSlices are found."""

LONGEST = 120

_CALLED = re.compile(r'failed calling webhook "([^"]+)": *')
_CONVERSION = re.compile(r"conversion webhook for ([^:]+?) failed: *")
_SERVICE = re.compile(r"https://([a-z0-9-]+)\.([a-z0-9-]+)\.svc[:/]")
_POST = re.compile(r'^(?:failed to call webhook: *)?Post "([^"]*)": *')
_DENIED = re.compile(r'^.*?admission webhook "([^"]+)" denied the request')
_CAUSES = (
    (re.compile(r"no endpoints available for service"), "has no ready endpoints"),
    (re.compile(r'services? "[^"]*" not found'), "has no such Service yet"),
    (re.compile(r"connection refused"), "refuses connections"),
    (re.compile(r"x509: |failed to verify certificate"), "shows a certificate that is not trusted yet"),
    (re.compile(r"parse bytes as PEM block|unable to load root certificates"), "has a caBundle that cannot be read"),
    (re.compile(r"context deadline exceeded|[Tt]imeout|timed out"), "does not answer in time"),
    (re.compile(r"no route to host|network is unreachable|no such host"), "cannot be reached"),
)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A webhook that was called and gave no answer. `service` is namespace and name, None where it is called by URL."""

    webhook: str
    service: tuple[str, str] | None
    trouble: str

    @property
    def subject(self) -> str:
        """`webhook x of service ns/y`."""
        return f"webhook {self.webhook}" + (f" of service {'/'.join(self.service)}" if self.service else "")


def unanswered(text: str, kind: str) -> Unanswered | None:
    """The webhook that an API server's refusal complains of; None when it is about something else.

    `kind` names the kind that was to be written, for conversions (texts: apiserver's admission and conversion plugins).
    """
    if called := _CALLED.search(text):
        name, rest = called[1], text[called.end() :]
    elif converted := _CONVERSION.search(text):
        name, rest = f"conversion of {kind}", text[converted.end() :]
    elif "conversion webhook" in text:
        name, rest = f"conversion of {kind}", text.partition("conversion webhook")[2]
    else:
        return None
    service = _SERVICE.search(rest)
    where = (service[2], service[1]) if service else None
    return Unanswered(name, where, _trouble(rest))


def denied(text: str, webhook: str) -> bool:
    """Whether a refusal is this webhook's own: then it answers."""
    found = _DENIED.match(text)
    return found is not None and found[1] == webhook


def answering(slices: Iterable[Manifest]) -> bool:
    """Whether any of a Service's EndpointSlices has an endpoint that takes requests (not said: it does)."""
    return any(
        (endpoint.get("conditions") or {}).get("ready") is not False
        for one in slices
        for endpoint in one.get("endpoints") or ()
        if endpoint.get("addresses")
    )


def reachable(service: Manifest, slices: Iterable[Manifest]) -> bool:
    """Whether asking a Service has a chance: an endpoint of it takes requests, or it has no selector, so that its
    endpoints are somebody's own business and may lie outside of the cluster."""
    return not (service.get("spec") or {}).get("selector") or answering(slices)


def _trouble(rest: str) -> str:
    said = _POST.sub("", " ".join(rest.split()))
    for pattern, words in _CAUSES:
        if pattern.search(said):
            certificate = said.find("x509: ")
            return f"{words}: {_short(said[certificate:])}" if certificate >= 0 else words
    return f"does not answer yet: {_short(said)}" if said else "does not answer yet"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"
