"""What an answer of the API server means for the object that was to be written: wait, or fail, never an exception.

What cannot be applied *yet* is parked behind a gate, and a closed gate is never an error.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass

from clusterstack.core.objects import GroupKind, ObjectRef
from clusterstack.core.order import is_custom
from clusterstack.core.webhooks import Unanswered, unanswered
from clusterstack.errors import ApiError, ClusterStackError, TransportError

_NAMESPACE = re.compile(r'namespaces "([^"]+)" not found')
_UNREADABLE = re.compile(
    r"failed to create typed patch object|unable to convert unstructured object|error decoding from json"
)
_UNREADABLE_PREFIX = re.compile(
    r"^failed to create typed patch object \([^()]*\): |"
    r"^failed to convert new object \([^()]*\) to proper version: unable to convert unstructured object to [^:]*: "
)
_INVALID = re.compile(r'^[\w.]+ "[^"]*" is invalid: ')
_GRAMMAR = re.compile(r" \(e\.g\. [^()]*, +(or [^()]*, )?regex used for validation is '.*?'\)(?=$|[,\]\s])")
_IMMUTABLE = re.compile(
    r"field is immutable|may not be changed|is immutable|updates to statefulset spec", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Park:
    """Not yet: `reason` and `message` say what is missing, `keys` what would change the answer."""

    reason: str
    message: str
    keys: tuple[Hashable, ...] = ()
    webhook: str = ""
    service: tuple[str, str] | None = None  # namespace and name of the webhook's Service


@dataclass(frozen=True, slots=True)
class Reject:
    """The API server refuses this object as it is; it is tried again at `retryInterval`, or when it changes."""

    reason: str
    message: str


def kind_not_served(group_kind: GroupKind) -> Park:
    """No CRD, or no aggregated API, serves this kind yet."""
    return Park("KindNotServed", f"kind {group_kind} is not served yet", (("kind", group_kind),))


def classify(error: ClusterStackError, ref: ObjectRef) -> Park | Reject:
    """What a failed write means for its object (messages as in apiserver's errors package)."""
    match error:
        case ApiError():
            return _classify_status(error, ref)
        case TransportError():
            return Park("ApiServerUnreachable", f"the API server does not answer: {error}")
        case _:
            return Reject(error.reason, str(error))


def _classify_status(error: ApiError, ref: ObjectRef) -> Park | Reject:  # noqa: C901, PLR0912 - one case a line
    text = str(error)
    if webhook := unanswered(text, str(ref.group_kind)):
        return _webhook(webhook)
    match error.status:
        case 404 if missing := _NAMESPACE.search(text):
            return _namespace(missing[1])
        case 404:
            return kind_not_served(ref.group_kind)
        case 429 if "initializing" in text:
            return kind_not_served(ref.group_kind)
        case 429:
            return Park("TooManyRequests", "the API server asks to slow down")
        case 403 if "being terminated" in text:
            return Park(
                "NamespaceTerminating", f"namespace {ref.namespace} is being terminated", _namespace(ref.namespace).keys
            )
        case 403 if "exceeded quota" in text:
            return Park("QuotaExceeded", _short(text, ref))
        case 403 if "is forbidden: User" in text or "cannot " in text:
            return Reject("Forbidden", _short(text, ref))
        case 403 if "error looking up service account" in text:
            return Park("ServiceAccountMissing", _short(text, ref))
        case 403:
            return Reject("Forbidden", _short(text, ref))
        case 409 if "object is being deleted" in text or "being deleted" in text:
            return Park("Terminating", f"{ref} is being deleted", (("object", ref),))
        case 409:
            return Park("Conflict", _short(text, ref))
        case 413:
            return Reject("TooLarge", f"{ref} is larger than the API server accepts")
        case 422 if _IMMUTABLE.search(text):
            return Reject("Immutable", _short(text, ref))
        case 400 | 405 | 415 | 422:
            return Reject("Invalid", _short(text, ref))
        case 500 if _UNREADABLE.search(text) and not (is_custom(ref) and "not declared in schema" in text):
            # apiserver says 500 to what it cannot read; of a custom kind it may know an older schema for a moment
            return Reject("Invalid", _short(text, ref))
        case status if status >= 500:
            return Park("ApiServerError", _short(text, ref))
        case _:
            return Reject(error.reason or "ApiError", _short(text, ref))


def _webhook(hook: Unanswered) -> Park:
    key = ("webhook", hook.webhook, hook.service)
    message = f"{hook.subject} {hook.trouble}"
    return Park("WebhookNotReady", message, (key,), webhook=hook.webhook, service=hook.service)


def _namespace(name: str) -> Park:
    return Park(
        "NamespaceMissing", f"namespace {name} does not exist yet", (("object", ObjectRef("", "Namespace", "", name)),)
    )


def _short(text: str, ref: ObjectRef) -> str:
    """What the API server said, without what every line that shows it says already: which object it is about."""
    said = " ".join(text.split()).removeprefix(f"{ref}: ")
    return _GRAMMAR.sub("", _UNREADABLE_PREFIX.sub("", _INVALID.sub("", said)))[:500]
