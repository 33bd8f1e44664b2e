"""A Helm release as it is wanted, whoever declared it: a Flux HelmRelease or a layer's own `charts:` entry."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from clusterstack.core.objects import Manifest, ObjectRef

DEFAULT_TIMEOUT = 300.0
DEFAULT_MAX_HISTORY = 5
MAX_RELEASE_NAME = 53

_DURATION = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class CrdsPolicy(StrEnum):
    """What happens to a chart's `crds/` directory; nothing in it is ever deleted."""

    SKIP = "Skip"
    CREATE = "Create"
    CREATE_REPLACE = "CreateReplace"


@dataclass(frozen=True, slots=True)
class SecretRef:
    """A Secret that holds credentials, by name."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class RepoChart:
    """A chart in a Helm repository: HTTP, or OCI when `oci` (then the chart's name is appended to `url`)."""

    url: str
    chart: str
    version: str = "*"
    oci: bool = False
    secret: SecretRef | None = None
    cert_secret: SecretRef | None = None
    insecure: bool = False
    pass_credentials: bool = False
    provider: str = "generic"

    @property
    def reference(self) -> str:
        """The OCI reference of the chart, without its tag."""
        return f"{self.url.rstrip('/')}/{self.chart}"

    @property
    def where(self) -> str:
        return f"{self.reference} {self.version}" if self.oci else f"{self.url} {self.chart} {self.version}"


@dataclass(frozen=True, slots=True)
class GitChart:
    """A chart directory in a Git repository; commit counts before name, semver, tag and branch."""

    url: str
    path: str
    branch: str = ""
    tag: str = ""
    semver: str = ""
    name: str = ""
    commit: str = ""
    secret: SecretRef | None = None
    reconcile: Literal["ChartVersion", "Revision"] = "ChartVersion"
    repository: ObjectRef | None = None

    @property
    def where(self) -> str:
        ref = self.commit or self.name or self.semver or self.tag or self.branch or "HEAD"
        return f"{self.url}@{ref} {self.path}"


@dataclass(frozen=True, slots=True)
class OciArtifact:
    """A chart that is an OCI artifact of its own (Flux's OCIRepository); precedence: digest, semver, tag."""

    url: str
    tag: str = ""
    semver: str = ""
    semver_filter: str = ""
    digest: str = ""
    secret: SecretRef | None = None
    cert_secret: SecretRef | None = None
    insecure: bool = False
    provider: str = "generic"
    media_type: str = ""
    operation: str = "extract"

    @property
    def where(self) -> str:
        return f"{self.url} {self.digest or self.semver or self.tag or 'latest'}"


ChartSource = RepoChart | GitChart | OciArtifact


@dataclass(frozen=True, slots=True)
class ValuesReference:
    """Values that a ConfigMap or Secret holds; with `target_path`, one value, else a YAML document."""

    kind: str
    namespace: str
    name: str
    key: str = "values.yaml"
    target_path: str = ""
    optional: bool = False
    literal: bool = False

    @property
    def source(self) -> tuple[str, str, str]:
        return self.kind, self.namespace, self.name


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """How an install or an upgrade is carried out; times in seconds."""

    timeout: float = DEFAULT_TIMEOUT
    crds: CrdsPolicy = CrdsPolicy.CREATE
    disable_wait: bool = False
    disable_wait_for_jobs: bool = False
    disable_hooks: bool = False
    disable_schema_validation: bool = False
    take_ownership: bool = True
    retries: int = 0
    retry_forever: bool = False
    retry_interval: float = 300.0
    remediation: Literal["", "rollback", "uninstall"] = ""
    force: bool = False
    cleanup_on_fail: bool = False
    replace: bool = False


@dataclass(frozen=True, slots=True)
class UninstallSpec:
    """How a release is taken away; times in seconds."""

    timeout: float = DEFAULT_TIMEOUT
    keep_history: bool = False
    disable_wait: bool = False
    disable_hooks: bool = False
    propagation: Literal["Background", "Foreground", "Orphan"] = "Background"


@dataclass(frozen=True, slots=True)
class TestSpec:
    """Whether `helm test` runs after an install or upgrade; filters are (name, exclude)."""

    __test__ = False  # not a test case, whatever its name

    enable: bool = False
    timeout: float = DEFAULT_TIMEOUT
    ignore_failures: bool = False
    filters: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class ReleaseSpec:
    """One release. `id` is `namespace/name` of what declares it: the unit's name, and what `dependsOn` refers to."""

    id: str
    layer: str
    origin: ObjectRef
    release_name: str
    namespace: str
    storage_namespace: str
    chart: ChartSource
    values: Manifest = field(default_factory=dict)
    values_from: tuple[ValuesReference, ...] = ()
    values_files: tuple[str, ...] = ()
    ignore_missing_values_files: bool = False
    depends_on: tuple[str, ...] = ()
    timeout: float = DEFAULT_TIMEOUT
    install: ActionSpec = field(default_factory=ActionSpec)
    upgrade: ActionSpec = field(default_factory=ActionSpec)
    uninstall: UninstallSpec = field(default_factory=UninstallSpec)
    test: TestSpec = field(default_factory=TestSpec)
    create_namespace: bool = False
    max_history: int = DEFAULT_MAX_HISTORY
    suspend: bool = False
    post_renderers: tuple[Manifest, ...] = ()
    post_render_strategy: Literal["combined", "nohooks", "separate"] = "combined"
    common_labels: dict[str, str] = field(default_factory=dict)
    common_annotations: dict[str, str] = field(default_factory=dict)
    drift: Literal["", "Correct", "Report", "Ignore"] = ""
    drift_ignore: tuple[Manifest, ...] = ()
    health_expressions: tuple[Manifest, ...] = ()
    service_account: str = ""
    interval: float = 600.0

    @property
    def record_namespace(self) -> str:
        """Where the release record lives."""
        return self.storage_namespace

    @property
    def key(self) -> tuple[str, str]:
        """What Helm tells releases apart by: storage namespace and release name."""
        return self.storage_namespace, self.release_name


def parse_duration(text: str) -> float:
    """Seconds of a Go duration such as `1h30m`; `ValueError` for anything else, also negative ones."""
    if text == "0":
        return 0.0
    parts = _DURATION.findall(text)
    if not parts or "".join(parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 10m or 1h30m")
    total = 0.0
    for part in parts:
        number = part.rstrip("nsuµμmh")
        total += float(number) * _UNITS[part[len(number) :]]
    return total


def short_release_name(name: str) -> str:
    """A release name within Helm's 53 characters: Flux keeps 40 and appends 12 digits of the name's SHA-256."""
    if len(name) <= MAX_RELEASE_NAME:
        return name
    return f"{name[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def plain(value: Any) -> Any:
    """A copy of JSON-like data that shares no mutable part with the original."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
