"""Charts, resolved and fetched for every release; a chart that cannot be had is that release's problem alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from clusterstack.core.content import Problem
from clusterstack.core.objects import digest
from clusterstack.engine.contents import ReleaseContent
from clusterstack.engine.context import Context
from clusterstack.errors import ClusterStackError, SourceError
from clusterstack.helm.digest import spec_digest
from clusterstack.helm.spec import GitChart, OciArtifact, ReleaseSpec, RepoChart, SecretRef
from clusterstack.helm.values import data_of
from clusterstack.sources.fetcher import ChartRef, Credentials, GitSpec, OciSpec, ResolvedChart

AT_ONCE = 8


async def resolve(context: Context, specs: Sequence[ReleaseSpec]) -> dict[str, ReleaseContent]:
    """Every release with its chart, by id; the charts are in the cache afterwards."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(spec: ReleaseSpec) -> ReleaseContent:
        async with slots:
            return await _content(context, spec)

    contents = await asyncio.gather(*(one(spec) for spec in specs))
    return {content.spec.id: content for content in contents}


async def _content(context: Context, spec: ReleaseSpec) -> ReleaseContent:
    wanted = spec_digest(spec, key=context.installation.key)
    try:
        chart = await _chart(context, spec)
    except ClusterStackError as error:
        hint = f" ({error.hint})" if error.hint else ""
        problem = Problem(error.reason, f"release {spec.id}: {error}{hint}", unit=spec.id, retryable=True)
        return ReleaseContent(spec, None, problem, digest([wanted, problem.reason]))
    return ReleaseContent(spec, chart, None, digest([wanted, chart.digest]))


async def _chart(context: Context, spec: ReleaseSpec) -> ResolvedChart:
    fetcher = context.fetcher
    match spec.chart:
        case RepoChart() as source:
            credentials = await _credentials(context, source.secret)
            repo = source.url
            ref = ChartRef(repo, source.chart, source.version, source.pass_credentials)
            chart = await fetcher.resolve_chart(ref, credentials)
        case OciArtifact() as source:
            credentials = await _credentials(context, source.secret)
            artifact = await fetcher.resolve_oci(
                OciSpec(
                    source.url,
                    tag=source.tag,
                    semver=source.semver,
                    semver_filter=source.semver_filter,
                    digest=source.digest,
                    layer_media_type=source.media_type,
                    operation=source.operation,
                ),
                credentials,
            )
            chart = await fetcher.chart_from_artifact(artifact, credentials)
        case GitChart() as source:
            credentials = await _credentials(context, source.secret)
            git = GitSpec(
                source.url,
                branch=source.branch,
                tag=source.tag,
                semver=source.semver,
                name=source.name,
                commit=source.commit,
            )
            snapshot = await fetcher.fetch_git(git, await fetcher.resolve_git(git, credentials), credentials)
            return await fetcher.chart_from_directory(snapshot, source.path)
    await fetcher.fetch_chart(chart, credentials)
    return chart


async def _credentials(context: Context, secret: SecretRef | None) -> Credentials | None:
    if secret is None:
        return None
    found = await context.cluster.get("v1", "Secret", secret.namespace, secret.name, account=context.account)
    if found is None:
        raise SourceError(
            f"Secret {secret.namespace}/{secret.name} with the repository's credentials does not exist",
            reason="CredentialsMissing",
        )
    return Credentials.from_secret(data_of(found))
