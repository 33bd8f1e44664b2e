"""The release record: one Secret a revision, exactly as Helm 4 stores it, so that `helm` by hand sees our releases.

`data.release` is base64(base64(gzip(JSON))): Helm's own base64 within a Secret's. The bytes are the same for the same
release. Two labels are ours: the input digest makes the record a render cache, the progress says where a crash came.
Both name their revision, because `helm upgrade` and `helm rollback` by hand copy labels to the revisions they make.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from clusterstack.core.objects import Manifest
from clusterstack.errors import RenderError

OWNER_SELECTOR = "owner=helm"
SECRET_TYPE = "helm.sh/release.v1"  # noqa: S105 - a type's name
INPUT_LABEL = "clusterstack.dev/input"
PROGRESS_LABEL = "clusterstack.dev/progress"
APPLY = "apply"  # the step between the hooks before and after
QUICK, BEST = 5, 9  # of gzip: a third of the work for a twelfth more bytes, unless these bytes are too many
MAX_RECORD_BYTES = 1024 * 1024  # corev1.MaxSecretSize, over the decoded values of a Secret

_RESERVED_LABELS = frozenset(
    {"name", "owner", "status", "version", "createdAt", "modifiedAt", INPUT_LABEL, PROGRESS_LABEL}
)
_GZIP = b"\x1f\x8b\x08"


class Status(StrEnum):
    """Helm's states of a revision (pkg/release/common)."""

    UNKNOWN = "unknown"
    DEPLOYED = "deployed"
    UNINSTALLED = "uninstalled"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    UNINSTALLING = "uninstalling"
    PENDING_INSTALL = "pending-install"
    PENDING_UPGRADE = "pending-upgrade"
    PENDING_ROLLBACK = "pending-rollback"

    @property
    def pending(self) -> bool:
        return self in (Status.PENDING_INSTALL, Status.PENDING_UPGRADE, Status.PENDING_ROLLBACK)


class Phase(StrEnum):
    """How a hook's last run went; empty: it never ran."""

    NONE = ""
    UNKNOWN = "Unknown"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class LastRun:
    """A hook's last run; times as RFC 3339 text, empty when not yet."""

    phase: Phase = Phase.NONE
    started_at: str = ""
    completed_at: str = ""


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook of a release, with its manifest as YAML text."""

    name: str
    kind: str
    path: str
    manifest: str
    events: tuple[str, ...]
    weight: int = 0
    delete_policies: tuple[str, ...] = ()
    output_log_policies: tuple[str, ...] = ()
    last_run: LastRun = LastRun()


@dataclass(frozen=True, slots=True)
class Release:
    """One revision of a release.

    `input_digest` is of what it was rendered from, empty for a revision that someone else made; `progress` is the step
    that was under way when the record was last written: a hook event, `apply`, or empty. `labels` are further ones;
    `extra` and `info_extra` keep what a newer Helm may have written besides.
    """

    name: str
    namespace: str
    revision: int
    status: Status
    chart: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    manifest: str = ""
    hooks: tuple[Hook, ...] = ()
    description: str = ""
    notes: str = ""
    first_deployed: str = ""
    last_deployed: str = ""
    deleted: str = ""
    apply_method: str = "ssa"
    input_digest: str = ""
    progress: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    info_extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chart_name(self) -> str:
        return str((self.chart.get("metadata") or {}).get("name") or "")

    @property
    def chart_version(self) -> str:
        return str((self.chart.get("metadata") or {}).get("version") or "")

    @property
    def app_version(self) -> str:
        return str((self.chart.get("metadata") or {}).get("appVersion") or "")


@dataclass(frozen=True, slots=True)
class Head:
    """What a record's labels tell without its content."""

    name: str
    revision: int
    status: Status
    input_digest: str = ""
    progress: str = ""


def secret_name(name: str, revision: int) -> str:
    """The Secret that holds a revision."""
    return f"sh.helm.release.v1.{name}.v{revision}"


def selector(name: str) -> str:
    """The label selector of all revisions of a release."""
    return f"{OWNER_SELECTOR},name={name}"


def encode(
    release: Release, *, namespace: str, created_at: int | None = None, modified_at: int | None = None
) -> Manifest:
    """The Secret of a revision, in its storage namespace; the times, in Unix seconds, are only labels.

    Raises RenderError (`ReleaseTooLarge`) when it exceeds a Secret's size even without the chart's files and templates,
    which no `helm` command but `helm get all` ever reads back.
    """
    labels = {
        **{key: value for key, value in release.labels.items() if key not in _RESERVED_LABELS},
        **_our_labels(release),
        "name": release.name,
        "owner": "helm",
        "status": release.status.value,
        "version": str(release.revision),
    }
    if created_at is not None:
        labels["createdAt"] = str(created_at)
    if modified_at is not None:
        labels["modifiedAt"] = str(modified_at)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(release.name, release.revision), "namespace": namespace, "labels": labels},
        "type": SECRET_TYPE,
        "data": {"release": base64.b64encode(_payload(release)).decode()},
    }


def decode(secret: Manifest) -> Release:
    """The revision that a Secret holds; `ValueError` when it is not a readable record."""
    metadata = secret.get("metadata") or {}
    try:
        content = base64.b64decode(base64.b64decode((secret.get("data") or {})["release"]))
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
        document = json.loads(content)
        return _release_of(document, metadata.get("labels") or {})
    except (KeyError, TypeError, ValueError, AttributeError, EOFError, OSError) as error:
        raise ValueError(f"Secret {metadata.get('name', '')} holds no readable release record") from error


def head_of(metadata: Mapping[str, Any]) -> Head | None:
    """A record's head from its metadata; None when the labels are not those of a record."""
    labels = metadata.get("labels") or {}
    try:
        revision, status = int(labels["version"]), Status(labels["status"])
        name = labels["name"]
    except (KeyError, ValueError):
        return None
    if labels.get("owner") != "helm" or metadata.get("name") != secret_name(name, revision):
        return None
    return Head(name, revision, status, _own(labels, INPUT_LABEL, revision), _own(labels, PROGRESS_LABEL, revision))


def hook_of(document: Mapping[str, Any]) -> Hook:
    """A hook from the renderer's answer, or from a record: the keys differ in their spelling only."""
    last_run = document.get("last_run") or {}
    return Hook(
        name=document.get("name") or "",
        kind=document.get("kind") or "",
        path=document.get("path") or "",
        manifest=document.get("manifest") or "",
        events=tuple(document.get("events") or ()),
        weight=int(document.get("weight") or 0),
        delete_policies=tuple(document.get("delete_policies") or document.get("deletePolicies") or ()),
        output_log_policies=tuple(document.get("output_log_policies") or document.get("outputLogPolicies") or ()),
        last_run=LastRun(
            Phase(last_run.get("phase") or ""), last_run.get("started_at") or "", last_run.get("completed_at") or ""
        ),
    )


def next_revision(heads: Iterable[Head]) -> int:
    """The number of the revision that comes next."""
    return max((head.revision for head in heads), default=0) + 1


def latest(heads: Iterable[Head]) -> Head | None:
    """The newest revision, whatever its status."""
    return max(heads, key=lambda head: head.revision, default=None)


def deployed(heads: Iterable[Head]) -> Head | None:
    """The newest revision that is deployed: what a failed upgrade leaves in place."""
    return latest(head for head in heads if head.status is Status.DEPLOYED)


def surplus(heads: Sequence[Head], max_history: int) -> tuple[Head, ...]:
    """The oldest revisions beyond `max_history`, to delete; never the last deployed one. 0 keeps all (as Helm)."""
    if max_history <= 0:
        return ()
    kept = deployed(heads)
    candidates = [head for head in sorted(heads, key=lambda head: head.revision) if head != kept]
    return tuple(candidates[: max(0, len(heads) - max_history)])


def with_status(release: Release, status: Status, description: str, *, at: str) -> Release:
    """The revision in another state; `at` (RFC 3339) becomes its time of deployment, or of deletion."""
    changed = replace(release, status=status, description=description)
    if status is Status.UNINSTALLED:
        return replace(changed, deleted=at)
    if status in (Status.SUPERSEDED, Status.UNINSTALLING):
        return changed
    return replace(changed, last_deployed=at, first_deployed=release.first_deployed or at)


def begin(release: Release, step: str) -> Release:
    """The revision at the start of a step: a hook event, whose hooks then count as not run, or `apply`, or empty."""
    hooks = tuple(replace(hook, last_run=LastRun()) if step in hook.events else hook for hook in release.hooks)
    return replace(release, hooks=hooks, progress=step)


def with_run(release: Release, index: int, run: LastRun) -> Release:
    """The revision with the last run of one hook noted."""
    hooks = list(release.hooks)
    hooks[index] = replace(hooks[index], last_run=run)
    return replace(release, hooks=tuple(hooks))


def _our_labels(release: Release) -> dict[str, str]:
    """Our labels, bound to their revision: `0123456789abcdef.v3`."""
    own = {INPUT_LABEL: release.input_digest, PROGRESS_LABEL: release.progress}
    return {key: f"{value}.v{release.revision}" for key, value in own.items() if value}


def _own(labels: Mapping[str, str], key: str, revision: int) -> str:
    """The value of one of our labels; empty when it was made for another revision."""
    value, _, bound = labels.get(key, "").rpartition(".v")
    return value if bound == str(revision) else ""


def _payload(release: Release) -> bytes:
    """Helm's base64 of the gzipped JSON, made to fit into a Secret."""
    chart = dict(release.chart)
    for shed in ((), ("files",), ("templates",), ("schema",)):
        for key in shed:
            if chart.get(key):
                chart[key] = None
        document = _document(release, chart)
        for level in (QUICK, BEST):
            payload = base64.b64encode(gzip.compress(document, compresslevel=level, mtime=0))
            if len(payload) <= MAX_RECORD_BYTES:
                return payload
    raise RenderError(
        f"release {release.namespace}/{release.name}: its record takes {len(payload)} bytes, "
        f"a Secret holds {MAX_RECORD_BYTES}",
        reason="ReleaseTooLarge",
        hint="split the chart, or move large static content out of its templates",
    )


def _document(release: Release, chart: Mapping[str, Any]) -> bytes:
    info = {
        "first_deployed": release.first_deployed,
        "last_deployed": release.last_deployed,
        "deleted": release.deleted,
        "description": release.description,
        "status": release.status.value,
        "notes": release.notes,
        **release.info_extra,
    }
    document = {
        "name": release.name,
        "info": {key: value for key, value in info.items() if value},
        "chart": chart,
        "config": release.config,
        "manifest": release.manifest,
        "hooks": [_hook_document(hook) for hook in release.hooks],
        "version": release.revision,
        "namespace": release.namespace,
        "apply_method": release.apply_method,
        **release.extra,
    }
    filled = {key: value for key, value in document.items() if value or value == 0}
    return json.dumps(filled, separators=(",", ":"), ensure_ascii=False).encode()


def _hook_document(hook: Hook) -> dict[str, Any]:
    run = {"started_at": hook.last_run.started_at, "completed_at": hook.last_run.completed_at}
    document = {
        "name": hook.name,
        "kind": hook.kind,
        "path": hook.path,
        "manifest": hook.manifest,
        "events": list(hook.events),
        "weight": hook.weight,
        "delete_policies": list(hook.delete_policies),
        "output_log_policies": list(hook.output_log_policies),
    }
    filled: dict[str, Any] = {key: value for key, value in document.items() if value}
    times = {key: value for key, value in run.items() if value}
    return {**filled, "last_run": {**times, "phase": hook.last_run.phase.value}}


_RELEASE_KEYS = frozenset(
    {"name", "info", "chart", "config", "manifest", "hooks", "version", "namespace", "apply_method"}
)
_INFO_KEYS = frozenset({"first_deployed", "last_deployed", "deleted", "description", "status", "notes"})


def _release_of(document: Mapping[str, Any], labels: Mapping[str, str]) -> Release:
    info, revision = document.get("info") or {}, int(document["version"])
    return Release(
        name=document["name"],
        namespace=document.get("namespace") or "",
        revision=revision,
        status=Status(info.get("status") or "unknown"),
        chart=document.get("chart") or {},
        config=document.get("config") or {},
        manifest=document.get("manifest") or "",
        hooks=tuple(hook_of(hook) for hook in document.get("hooks") or ()),
        description=info.get("description") or "",
        notes=info.get("notes") or "",
        first_deployed=info.get("first_deployed") or "",
        last_deployed=info.get("last_deployed") or "",
        deleted=info.get("deleted") or "",
        # unset means client-side apply, Helm 3's only way
        apply_method=document.get("apply_method") or "csa",
        input_digest=_own(labels, INPUT_LABEL, revision),
        progress=_own(labels, PROGRESS_LABEL, revision),
        labels={key: value for key, value in labels.items() if key not in _RESERVED_LABELS},
        extra={key: value for key, value in document.items() if key not in _RELEASE_KEYS},
        info_extra={key: value for key, value in info.items() if key not in _INFO_KEYS},
    )
