"""From a chart and its inputs to the release record that is about to be carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from clusterstack.core.objects import Manifest
from clusterstack.core.timeline import micro_time
from clusterstack.engine.context import Context
from clusterstack.engine.records import RELEASE_LAYER, RELEASE_OF
from clusterstack.errors import ApiError, TransportError
from clusterstack.helm.record import Hook, LastRun, Phase, Release, Status
from clusterstack.helm.spec import ReleaseSpec
from clusterstack.render.protocol import HelmRendered, HelmRequest, HookSource, Lookup, LookupAnswer, PostRender
from clusterstack.sources.fetcher import ResolvedChart


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What one revision is rendered from."""

    spec: ReleaseSpec
    chart: ResolvedChart
    values: Mapping[str, Any]
    revision: int
    upgrade: bool
    digest: str


@dataclass(frozen=True, slots=True)
class Rendering:
    """The record to be, and the chart's `crds/`, which it does not hold."""

    release: Release
    crds: tuple[Manifest, ...]


async def render(context: Context, blueprint: Blueprint, *, account: str) -> Rendering:
    """Render against the cluster as it is now. Raises RenderError, LookupFailed, ChartError."""
    path = await context.fetcher.fetch_chart(blueprint.chart)
    spec = blueprint.spec
    action = spec.upgrade if blueprint.upgrade else spec.install
    request = HelmRequest(
        chart=path,
        release=spec.release_name,
        namespace=spec.namespace,
        values=blueprint.values,
        revision=blueprint.revision,
        upgrade=blueprint.upgrade,
        kube_version=context.cluster.server_version(),
        api_versions=tuple(context.cluster.api_versions()),
        skip_schema=action.disable_schema_validation,
        post_render=PostRender(
            kustomizations=tuple(spec.post_renderers),
            strategy=spec.post_render_strategy,
            labels=spec.common_labels,
            annotations=spec.common_annotations,
        ),
    )
    rendered = await context.renderers.helm(request, lookup=_lookup(context, account))
    return Rendering(_record(context, blueprint, rendered), rendered.crds)


def reissue(context: Context, release: Release, revision: int) -> Release:
    """A revision's content once more, as a later revision: nothing is rendered, so random values stay."""
    now = micro_time(context.clock.wall())
    return replace(
        release,
        revision=revision,
        status=Status.PENDING_UPGRADE,
        description=f"Back to revision {release.revision}",
        last_deployed=now,
        progress="",
        hooks=tuple(replace(hook, last_run=LastRun()) for hook in release.hooks),
    )


def _record(context: Context, blueprint: Blueprint, rendered: HelmRendered) -> Release:
    now = micro_time(context.clock.wall())
    return Release(
        name=blueprint.spec.release_name,
        namespace=blueprint.spec.namespace,
        revision=blueprint.revision,
        status=Status.PENDING_UPGRADE if blueprint.upgrade else Status.PENDING_INSTALL,
        chart=rendered.chart,
        config=dict(blueprint.values),
        manifest=rendered.manifest,
        hooks=tuple(_hook(hook) for hook in rendered.hooks),
        description="Initial install underway" if not blueprint.upgrade else "Preparing upgrade",
        notes=rendered.notes,
        first_deployed=now,
        last_deployed=now,
        deleted="",
        input_digest=blueprint.digest,
        labels={
            RELEASE_OF: context.stack,
            RELEASE_LAYER: blueprint.spec.layer,
        },
    )


def _hook(source: HookSource) -> Hook:
    return Hook(
        name=source.name,
        kind=source.kind,
        path=source.path,
        manifest=source.manifest,
        events=source.events,
        weight=source.weight,
        delete_policies=source.delete_policies,
        output_log_policies=source.output_log_policies,
        last_run=LastRun(Phase.NONE, "", ""),
    )


def _lookup(context: Context, account: str) -> Lookup:
    """Answers a chart's `lookup` with a read under the stack's account; what is not there is empty, as with Helm."""

    async def answer(api_version: str, kind: str, namespace: str, name: str) -> LookupAnswer:
        try:
            if name:
                found = await context.cluster.get(api_version, kind, namespace, name, account=account)
                return LookupAnswer(object=found)
            items = await context.cluster.list(api_version, kind, namespace, account=account)
            return LookupAnswer(items=tuple(items))
        except (ApiError, TransportError) as error:
            return LookupAnswer(error=f"{kind} {namespace}/{name}: {error}")

    return answer
