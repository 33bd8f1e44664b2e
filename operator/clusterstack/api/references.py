"""Small building blocks of a layer: references to objects, and Flux's build fields by Flux's names."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import ConfigDict, Field

from clusterstack.api.common import (
    PRESERVE,
    AnnotationValue,
    ApiVersion,
    DnsLabel,
    Duration,
    Expression,
    Kind,
    LabelValue,
    Model,
    ObjectName,
    Path,
    SecretName,
    Text,
    atomic,
    rules,
)


class ObjectReference(Model):
    """One object in the cluster."""

    api_version: ApiVersion = Field(description="API version of the object, such as v1 or apps/v1.")
    kind: Kind = Field(description="Kind of the object.")
    name: ObjectName = Field(description="Name of the object.")
    namespace: DnsLabel | None = Field(None, description="Namespace of the object; absent for cluster-scoped kinds.")


class Selector(Model):
    """Which of a layer's objects are meant; what is absent matches everything (kustomize's target)."""

    group: Text | None = Field(None, description="API group; a regular expression, matched as a whole.")
    version: Text | None = Field(None, description="API version; a regular expression, matched as a whole.")
    kind: Text | None = Field(None, description="Kind; a regular expression, matched as a whole.")
    name: Text | None = Field(None, description="Name; a regular expression, matched as a whole.")
    namespace: Text | None = Field(None, description="Namespace; a regular expression, matched as a whole.")
    label_selector: Text | None = Field(None, description="Label selector, as for kubectl get -l.")
    annotation_selector: Text | None = Field(
        None, description="Selector over annotations, written like a label selector."
    )


class Patch(Model):
    """A kustomize patch."""

    patch: str = Field(
        min_length=1,
        max_length=131072,
        description="A strategic merge patch or a JSON 6902 patch, as YAML or JSON text.",
    )
    target: Selector | None = Field(
        None, description="Objects to patch. A strategic merge patch may instead name its object itself."
    )


class Image(Model):
    """Replaces one container image."""

    name: Text = Field(min_length=1, description="Image as the manifests write it, without its tag.")
    new_name: Text | None = Field(None, description="Image to use instead.")
    new_tag: Text | None = Field(None, description="Tag to use instead.")
    digest: Text | None = Field(None, description="Digest to use instead of a tag; it wins over newTag.")


class CommonMetadata(Model):
    """Labels and annotations that every object of a layer gets."""

    labels: dict[str, LabelValue] = Field({}, max_length=64, description="Labels to set on every object.")
    annotations: dict[str, AnnotationValue] = Field(
        {}, max_length=64, description="Annotations to set on every object."
    )


class SubstituteReference(Model):
    """A ConfigMap or Secret whose keys are variables."""

    kind: Literal["ConfigMap", "Secret"] = Field(description="ConfigMap or Secret.")
    name: SecretName = Field(description="Name of the ConfigMap or Secret.")
    namespace: DnsLabel | None = Field(None, description="Its namespace. Default: the operator's own.")
    optional: bool = Field(
        False, description="Go on without it when it does not exist. Otherwise the layer waits for it."
    )


class SubstituteStrategy(StrEnum):
    """When variables are replaced."""

    WITH_VARIABLES = "WithVariables"
    ALWAYS = "Always"


class PostBuild(Model):
    """Replaces ${variables} in the built manifests."""

    substitute: dict[str, Text] = Field(
        {}, max_length=256, description="Variables and their values; they win over those of substituteFrom."
    )
    substitute_from: tuple[SubstituteReference, ...] = Field(
        (),
        max_length=64,
        description="ConfigMaps and Secrets with variables; a later one wins.",
        json_schema_extra=atomic(),
    )
    substitute_strategy: SubstituteStrategy = Field(
        SubstituteStrategy.WITH_VARIABLES,
        description="WithVariables: only when variables are given here. Always: also without. Default WithVariables.",
    )


class SecretRef(Model):
    """A Secret in the operator's namespace."""

    name: SecretName = Field(description="Name of the Secret.")


class Decryption(Model):
    """How encrypted files of a layer are decrypted."""

    provider: Literal["sops"] = Field("sops", description="What encrypted the files: sops.")
    secret_ref: SecretRef | None = Field(
        None, description="Secret with the private keys (*.agekey, *.asc), in the operator's namespace."
    )


class HealthPolicy(StrEnum):
    """How strictly the health of objects is judged."""

    STRICT = "Strict"
    KSTATUS = "KStatus"
    EXISTS = "Exists"


class HealthExpression(Model):
    """CEL expressions that judge the objects of one kind: Flux's healthCheckExprs, and what they cannot say."""

    api_version: ApiVersion = Field(description="API version of the kind; its group is what counts.")
    kind: Kind | None = Field(None, description="Kind to judge. Absent: every kind of the group.")
    current: Expression = Field(description="True when the object is healthy.")
    in_progress: Expression | None = Field(None, description="True while the object is still on its way; asked first.")
    failed: Expression | None = Field(None, description="True when the object has failed; asked before current.")
    degraded: Expression | None = Field(
        None, description="True when something is wrong that may mend itself: shown at once, waited for; asked last."
    )
    suspended: Expression | None = Field(
        None, description="True when the object is switched off on purpose, which counts as healthy."
    )
    message: Expression | None = Field(
        None, description="Text to show while the object is not healthy; gives a string."
    )


class Health(Model):
    """When a layer counts as healthy."""

    policy: HealthPolicy = Field(
        HealthPolicy.STRICT,
        description="What keeps the layer from being Ready; the condition Healthy shows the strict verdict always. "
        "Strict: bundled rules for known kinds, and a status for those that report one. KStatus: as Flux judges. "
        "Exists: an object is healthy once it exists. Default Strict; KStatus for a Flux tree's layers that wait.",
    )
    checks: tuple[ObjectReference, ...] = Field(
        (),
        max_length=512,
        description="Further objects that must be healthy, also objects that this layer does not apply.",
        json_schema_extra=atomic(),
    )
    expressions: tuple[HealthExpression, ...] = Field(
        (),
        max_length=64,
        description="CEL expressions for kinds that the bundled rules judge wrongly, or not at all.",
        json_schema_extra=atomic(),
    )


class DriftMode(StrEnum):
    """What happens when somebody else changes an object."""

    CORRECT = "Correct"
    REPORT = "Report"
    IGNORE = "Ignore"


class IgnoreRule(Model):
    """Fields that others may change."""

    paths: tuple[Path, ...] = Field(
        min_length=1, max_length=64, description="JSON pointers, such as /spec/replicas.", json_schema_extra=atomic()
    )
    target: Selector | None = Field(None, description="Objects that this holds for. Absent: every object of the layer.")


class Drift(Model):
    """What happens when somebody else changes an object of the layer."""

    mode: DriftMode = Field(
        DriftMode.CORRECT,
        description="Correct: put it right at once. Report: show it in status. Ignore: do neither. Default Correct.",
    )
    ignore: tuple[IgnoreRule, ...] = Field(
        (), max_length=64, description="Fields that others may change.", json_schema_extra=atomic()
    )


class Prune(Model):
    """What happens to objects that a layer no longer contains."""

    enabled: bool = Field(True, description="Delete them. Otherwise they are left in the cluster. Default true.")
    max_objects: int = Field(
        5, ge=0, le=100000, description="More objects than this are deleted only after approval. Default 5."
    )
    max_percent: int = Field(
        20,
        ge=0,
        le=100,
        description="A larger share of the layer's objects is deleted only after approval. Default 20.",
    )


class ValuesReference(Model):
    """A ConfigMap or Secret with Helm values."""

    kind: Literal["ConfigMap", "Secret"] = Field(description="ConfigMap or Secret.")
    name: SecretName = Field(description="Name, in the namespace of the chart's release.")
    values_key: Text | None = Field(None, description="Key that holds the values. Default values.yaml.")
    target_path: Text | None = Field(
        None,
        description="Path, such as auth.password, that gets the key's text as its value. Absent: the text is YAML.",
    )
    optional: bool = Field(
        False, description="Go on without it when it does not exist. Otherwise the release waits for it."
    )
    literal: bool = Field(False, description="Take the text for targetPath as it is, without Helm's --set syntax.")


class ReleaseReference(Model):
    """Another release of the same stack."""

    name: SecretName = Field(description="Name of the release.")
    namespace: DnsLabel | None = Field(None, description="Its namespace. Default: the same.")


class KustomizeRenderer(Model):
    """Changes rendered manifests as kustomize does."""

    patches: tuple[Patch, ...] = Field(
        (), max_length=64, description="Patches for the rendered objects.", json_schema_extra=atomic()
    )
    images: tuple[Image, ...] = Field(
        (), max_length=64, description="Images to replace in the rendered objects.", json_schema_extra=atomic()
    )


class PostRenderer(Model):
    """Changes what a chart renders."""

    kustomize: KustomizeRenderer = Field(description="Patches and images, as in a kustomization.")


class Chart(Model):
    """A Helm chart that is a release of this layer."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.timeout) == false || duration(self.timeout) > duration('0s')",
                "timeout must be longer than zero",
            )
        )
    )

    name: SecretName = Field(max_length=53, description="Name of the release.")
    namespace: DnsLabel = Field(description="Namespace that the release lives in.")
    repo: str = Field(
        max_length=2048,
        pattern=r"^(https?|oci)://[^\s]+$",
        description="URL of the chart repository, https:// or oci://.",
    )
    chart: Text = Field(min_length=1, description="Name of the chart in its repository.")
    version: Text = Field(
        "*", description="Version of the chart, or a range such as 1.x or ^1.19.0. Default: the newest."
    )
    secret_ref: SecretRef | None = Field(
        None, description="Secret with username and password for the repository, in the operator's namespace."
    )
    values: dict[str, Any] = Field(
        {}, description="Values for the chart; they win over those of valuesFrom.", json_schema_extra=PRESERVE
    )
    values_from: tuple[ValuesReference, ...] = Field(
        (),
        max_length=64,
        description="ConfigMaps and Secrets with values; a later one wins. The release waits for them.",
        json_schema_extra=atomic(),
    )
    depends_on: tuple[ReleaseReference, ...] = Field(
        (), max_length=64, description="Releases of this stack that must be ready first.", json_schema_extra=atomic()
    )
    create_namespace: bool = Field(False, description="Create the namespace when it does not exist.")
    crds: Literal["Skip", "Create", "CreateReplace"] | None = Field(
        None,
        description="What to do with the chart's crds/. Default: Create on install, Skip on upgrade, as Helm does.",
    )
    disable_wait: bool = Field(
        False, description="Count the release as ready once it is applied, without judging health."
    )
    disable_hooks: bool = Field(False, description="Do not run the chart's hooks.")
    disable_schema_validation: bool = Field(False, description="Do not check the values against the chart's schema.")
    max_history: int | None = Field(
        None, ge=0, le=1000, description="Revisions of the release to keep, 0 for all. Default 5."
    )
    post_renderers: tuple[PostRenderer, ...] = Field(
        (), max_length=16, description="Changes to what the chart renders, in order.", json_schema_extra=atomic()
    )
    suspend: bool = Field(False, description="Leave the release as it is.")
    timeout: Duration | None = Field(
        None, description="Time for hooks and health of the release. Default: the layer's."
    )
