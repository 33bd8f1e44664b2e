"""Charts, resolved and fetched for every release; a chart that cannot be had is that release's problem alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from clusterstack.core.content import Problem
from clusterstack.core.objects import digest
from clusterstack.engine.contents import ReleaseContent
from clusterstack.engine.context import Context
from clusterstack.errors import ClusterStackError, SourceError, SpecError
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
        risky = context.rules.warnings(spec.health_expressions, source="healthCheckExprs")
        chart = await _chart(context, spec)
    except ClusterStackError as error:
        problem = Problem(error.reason, f"release {spec.id}: {error.explained}", unit=spec.id, retryable=True)
        return ReleaseContent(spec, None, problem, digest([wanted, problem.reason]))
    warnings = tuple(f"release {spec.id}: {warning}" for warning in risky)
    return ReleaseContent(spec, chart, None, digest([wanted, chart.digest]), warnings)


async def _chart(context: Context, spec: ReleaseSpec) -> ResolvedChart:
    if spec.values_files:
        raise SpecError(
            f"{spec.origin}: valuesFiles is not supported yet",
            reason="NotSupported",
            hint="put the values into spec.values, or into a ConfigMap that valuesFrom names",
        )
    fetcher = context.fetcher
    match spec.chart:
        case RepoChart() as source:
            credentials = await _credentials(context, source.secret, source.cert_secret)
            ref = ChartRef(source.url, source.chart, source.version, source.pass_credentials, source.insecure)
            chart = await fetcher.resolve_chart(ref, credentials)
        case OciArtifact() as source:
            credentials = await _credentials(context, source.secret, source.cert_secret)
            artifact = await fetcher.resolve_oci(
                OciSpec(
                    source.url,
                    tag=source.tag,
                    semver=source.semver,
                    semver_filter=source.semver_filter,
                    digest=source.digest,
                    layer_media_type=source.media_type,
                    operation=source.operation,
                    insecure=source.insecure,
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


async def _credentials(context: Context, *secrets: SecretRef | None) -> Credentials | None:
    """The credentials that these Secrets hold together. One without a namespace is a source's: in the operator's own
    namespace, and read by the operator itself."""
    data: dict[str, bytes] = {}
    for secret in filter(None, secrets):
        namespace, account = secret.namespace or context.installation.namespace, context.account
        found = await context.cluster.get(
            "v1", "Secret", namespace, secret.name, account=account if secret.namespace else ""
        )
        if found is None:
            raise SourceError(
                f"Secret {namespace}/{secret.name} with the repository's credentials does not exist",
                reason="CredentialsMissing",
            )
        data |= data_of(found)
    return Credentials.from_secret(data) if data else None
