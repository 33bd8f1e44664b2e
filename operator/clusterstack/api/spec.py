"""The spec of a ClusterStack, field by field as users write it, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from clusterstack.api.common import (
    PRESERVE,
    DnsLabel,
    Duration,
    LayerName,
    Model,
    Path,
    SecretName,
    Text,
    atomic,
    keyed,
    rules,
    stored_default,
    unique,
)
from clusterstack.api.reading import explain
from clusterstack.api.references import (
    Chart,
    CommonMetadata,
    Decryption,
    Drift,
    Health,
    Image,
    ObjectReference,
    Patch,
    PostBuild,
    Prune,
    SecretRef,
)
from clusterstack.errors import SpecError

MAX_LAYERS = 256
MAX_NAME = 40


class DeletionPolicy(StrEnum):
    """What becomes of the objects when their stack is deleted."""

    ORPHAN = "Orphan"
    DELETE = "Delete"


class ServiceAccountRef(Model):
    """The account that acts for a stack."""

    name: SecretName = Field(description="Name of the ServiceAccount.")
    namespace: DnsLabel = Field(description="Namespace of the ServiceAccount.")

    @property
    def username(self) -> str:
        """The user name that the API server knows it by."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"


class GitRef(Model):
    """Which commit: the first that is given of commit, name, semver, tag, branch."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "[has(self.tag), has(self.semver), has(self.name), has(self.commit)].filter(given, given).size() <= 1",
                "at most one of tag, semver, name and commit",
            )
        )
    )

    branch: Text | None = Field(None, description="Branch to follow. Default: master.")
    tag: Text | None = Field(None, description="Tag to use.")
    semver: Text | None = Field(None, description="Range of versions, such as 1.x; the highest tag in it is used.")
    name: Text | None = Field(None, description="Full name of a reference, such as refs/pull/420/head.")
    commit: str | None = Field(
        None, pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$", max_length=64, description="Commit to stay at."
    )


class GitSource(Model):
    """A Git repository."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!self.url.matches('^https?://[^/]*@')",
                "a URL must not hold credentials: put them into a Secret and name it in secretRef",
            )
        )
    )

    url: str = Field(
        min_length=1,
        max_length=2048,
        pattern=r"^(https?|ssh|file)://[^\s]+$",
        description="URL of the repository: https://, http:// or ssh:// (file:// for tests).",
    )
    ref: GitRef = Field(GitRef(), description="Which commit of the repository.")
    secret_ref: SecretRef | None = Field(
        None,
        description="Secret in the operator's namespace: username and password, bearerToken, or identity and "
        "known_hosts; ca.crt for a private certificate authority.",
    )


class Source(Model):
    """Where manifests come from."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("!has(self.interval) || duration(self.interval) >= duration('1s')", "interval must be at least 1s")
        )
    )

    name: LayerName = Field(description="Name by which layers refer to this source.")
    interval: Duration = Field(
        Duration("1m"), description="How often to look for a new revision.", json_schema_extra=stored_default()
    )
    timeout: Duration = Field(
        Duration("60s"), description="Time for one look or one fetch.", json_schema_extra=stored_default()
    )
    suspend: bool = Field(False, description="Stay at the revision that was fetched last.")
    git: GitSource = Field(description="A Git repository.")


class Mirror(Model):
    """Where to fetch instead."""

    from_: str = Field(
        alias="from",
        min_length=1,
        max_length=2048,
        pattern=r"^(https?|oci|ssh)://[^\s]+$",
        description="Beginning of the URLs that are meant; the longest match wins.",
    )
    to: str = Field(
        min_length=1,
        max_length=2048,
        pattern=r"^(https?|oci|ssh|file)://[^\s]+$",
        description="What to put in its place.",
    )


class LayerSettings(Model):
    """What `defaults` and a layer have in common."""

    source: LayerName | None = Field(None, description="Source of the path. Default: the stack's only source.")
    interval: Duration | None = Field(
        None, description="How often to verify the whole layer. Default: the stack's interval."
    )
    timeout: Duration = Field(
        Duration("10m"),
        description="Time from the layer's start until it must be Ready. Past it the layer shows Failed with every "
        "unhealthy object, while work on it goes on. Default 10m.",
    )
    retry_interval: Duration = Field(
        Duration("30s"), description="Pause before something that the API server refused is tried again. Default 30s."
    )
    target_namespace: DnsLabel | None = Field(None, description="Namespace to put every namespaced object into.")
    common_metadata: CommonMetadata = Field(CommonMetadata(), description="Labels and annotations for every object.")
    post_build: PostBuild | None = Field(None, description="Variables to replace in the built manifests.")
    decryption: Decryption | None = Field(None, description="How encrypted files are decrypted.")
    health: Health = Field(Health(), description="When the layer counts as healthy.")
    drift: Drift = Field(Drift(), description="What happens when somebody else changes an object.")
    prune: Prune = Field(Prune(), description="What happens to objects that the layer no longer contains.")
    force: bool = Field(
        False, description="Delete and create again an object whose change the API server refuses as immutable."
    )


class LayerDefaults(LayerSettings):
    """Settings for every layer that does not have its own."""


class LayerSpec(LayerSettings):
    """One layer: a set of objects that becomes Ready as a whole."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("!has(self.dependsOn) || !(self.name in self.dependsOn)", "a layer cannot depend on itself"),
            ("!has(self.after) || !(self.name in self.after)", "a layer cannot come after itself"),
        )
    )

    name: LayerName = Field(description="Name of the layer, unique in its stack.")
    depends_on: tuple[LayerName, ...] = Field(
        (),
        max_length=MAX_LAYERS,
        description="Layers that must be Ready, with the content of the same revision, before this one starts.",
        json_schema_extra=unique(),
    )
    after: tuple[LayerName, ...] = Field(
        (),
        max_length=MAX_LAYERS,
        description="Layers to wait for without needing them: this one also starts when they failed, timed out or "
        "are suspended.",
        json_schema_extra=unique(),
    )
    requires: tuple[ObjectReference, ...] = Field(
        (),
        max_length=64,
        description="Objects that must exist and be healthy before this layer starts, whoever creates them.",
        json_schema_extra=atomic(),
    )
    path: Path | None = Field(
        None,
        description="Directory in the source: a kustomization, or plain YAML files. Absent: no files from a source.",
    )
    patches: tuple[Patch, ...] = Field(
        (), max_length=64, description="kustomize patches for the built objects.", json_schema_extra=atomic()
    )
    name_prefix: Text | None = Field(None, description="Text to put before the name of every object.")
    name_suffix: Text | None = Field(None, description="Text to put after the name of every object.")
    components: tuple[Path, ...] = Field(
        (), max_length=64, description="kustomize components to add, relative to the path.", json_schema_extra=atomic()
    )
    ignore_missing_components: bool = Field(False, description="Leave out components whose directory does not exist.")
    images: tuple[Image, ...] = Field(
        (), max_length=128, description="Container images to replace.", json_schema_extra=atomic()
    )
    charts: tuple[Chart, ...] = Field(
        (), max_length=128, description="Helm charts of this layer.", json_schema_extra=keyed("name", "namespace")
    )
    manifests: tuple[dict[str, Any], ...] = Field(
        (),
        max_length=512,
        description="Objects written here instead of in a source.",
        json_schema_extra={
            **atomic(),
            "items": {
                "type": "object",
                "description": "A Kubernetes object.",
                "x-kubernetes-embedded-resource": True,
                **PRESERVE,
            },
        },
    )
    suspend: bool = Field(False, description="Leave the layer as it is; layers that depend on it wait.")


class FluxSpec(Model):
    """A Flux repository: its Kustomizations are the layers."""

    source: LayerName | None = Field(None, description="Source that holds the tree. Default: the stack's only source.")
    path: Path = Field(description="Directory that Flux was bootstrapped with, such as clusters/production.")


class StackSpec(Model):
    """What a cluster consists of, layer by layer, and in which order."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.layers) != has(self.flux)", "exactly one of layers and flux"),
            ("!has(self.interval) || duration(self.interval) >= duration('10s')", "interval must be at least 10s"),
        )
    )

    interval: Duration = Field(
        Duration("10m"),
        description="How often everything is verified, besides the watches that notice changes at once.",
        json_schema_extra=stored_default(),
    )
    suspend: bool = Field(False, description="Leave everything as it is.")
    deletion_policy: DeletionPolicy = Field(
        DeletionPolicy.ORPHAN,
        description="What becomes of the objects when this ClusterStack is deleted. Orphan: they stay. Delete: they "
        "are deleted, the last layer first.",
        json_schema_extra=stored_default(),
    )
    service_account: ServiceAccountRef | None = Field(
        None,
        description="Account to act as, for every write and every read that feeds content. Default: the "
        "operator's own.",
    )
    sources: tuple[Source, ...] = Field(
        (), max_length=32, description="Where manifests come from.", json_schema_extra=keyed("name")
    )
    mirrors: tuple[Mirror, ...] = Field(
        (),
        max_length=128,
        description="Other places to fetch from: Git, charts, and files that kustomizations refer to.",
        json_schema_extra=keyed("from"),
    )
    defaults: LayerDefaults = Field(
        LayerDefaults(),
        description="Settings for every layer that does not have its own; merged field by field, lists are replaced. "
        "health.expressions hold in every layer, after its own.",
    )
    layers: tuple[LayerSpec, ...] = Field(
        (), max_length=MAX_LAYERS, description="The layers. Either these or flux.", json_schema_extra=keyed("name")
    )
    flux: FluxSpec | None = Field(None, description="A Flux repository whose Kustomizations are the layers.")


class ClusterStack(Model):
    """A ClusterStack as far as the operator reads it: identity and spec."""

    name: str
    uid: str = ""
    generation: int = 0
    annotations: dict[str, str] = Field(default_factory=dict)
    deleting: bool = False
    spec: StackSpec


def parse_stack(body: Mapping[str, Any]) -> ClusterStack:
    """Read an object of the API server. `SpecError` names every field that is wrong, and what it should be."""
    metadata = body.get("metadata") or {}
    try:
        spec = StackSpec.model_validate(body.get("spec") or {}, by_alias=True, by_name=False)
    except ValidationError as error:
        raise SpecError(explain(error, StackSpec, body.get("spec") or {}, root="spec")) from None
    return ClusterStack(
        name=metadata.get("name", ""),
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 0),
        annotations=metadata.get("annotations") or {},
        deleting=bool(metadata.get("deletionTimestamp")),
        spec=spec,
    )


def parse_layer(layer: Mapping[str, Any], *, where: str = "layer") -> LayerSpec:
    """Read one layer that does not stand in a spec, such as a Kustomization's; `where` names it in a `SpecError`."""
    try:
        return LayerSpec.model_validate(dict(layer), by_alias=True, by_name=False)
    except ValidationError as error:
        raise SpecError(explain(error, LayerSpec, layer, root=where)) from None


def effective_layer(stack: StackSpec, layer: LayerSpec) -> LayerSpec:
    """A layer with the stack's defaults in every field it does not set, down to single fields; lists are not merged."""
    defaults = stack.defaults.as_input()
    defaults.get("health", {}).pop("expressions", None)  # these hold beside a layer's own: they are rules of the stack
    merged = _overlay(defaults, layer.as_input())
    merged.setdefault("interval", str(stack.interval))
    if len(stack.sources) == 1:
        merged.setdefault("source", stack.sources[0].name)
    return LayerSpec.model_validate(merged)


def _overlay(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _overlay(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
