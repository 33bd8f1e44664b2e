"""Runs a release's hooks: in order, with their delete policies, resuming after a crash by what the record says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from clusterstack.core.health import Policy, RuleSet
from clusterstack.core.objects import GroupKind, Manifest, ObjectRef
from clusterstack.core.ownership import HELM_MANAGER
from clusterstack.core.scope import place
from clusterstack.core.yaml import load_all
from clusterstack.engine.context import Context
from clusterstack.engine.judge import Judge
from clusterstack.engine.wait import changed_or_later
from clusterstack.errors import ApiError, ClusterStackError
from clusterstack.helm.hooks import Do, HookStep, after_failure, after_success, completes, in_order, plan
from clusterstack.helm.record import LastRun, Phase, Release, begin, with_run
from clusterstack.kube.facts import object_key

RECHECK = 30.0


class HookFailed(ClusterStackError):  # noqa: N818 - reads as what happened
    """A hook did not succeed; the release is tried again after a back-off."""

    reason = "HookFailed"


class HookRunner:
    """Runs the hooks of one event. `save` writes the record, so that a crash resumes where it was."""

    def __init__(
        self,
        context: Context,
        *,
        namespace: str,
        timeout: float,
        save: Callable[[Release], Awaitable[None]],
        waiting: Callable[[str, str], None],
    ) -> None:
        self._context, self._namespace, self._timeout = context, namespace, timeout
        self._save, self._waiting = save, waiting
        rules: RuleSet = context.rules
        self._judge = Judge(context.cluster, context.clock, rules=rules, policy=Policy.STRICT)

    async def run(self, release: Release, event: str) -> Release:
        """The record after all hooks of `event` have succeeded. Raises HookFailed; the record then says so too.

        An event starts its hooks afresh, also those that ran for an earlier event; after a crash in the middle of it,
        `progress` says so, and it goes on where it was.
        """
        if not in_order(release.hooks, event):
            return release
        if release.progress != event:
            release = begin(release, event)
        while steps := plan(release.hooks, event):
            release = await self._step(release, event, steps[0])
        for step in after_success(release.hooks, event):
            await self._delete(step)
        return release

    async def _step(self, release: Release, event: str, step: HookStep) -> Release:
        match step.do:
            case Do.DELETE:
                await self._delete(step)
                return await self._create(release, step)
            case Do.CREATE:
                return await self._create(release, step)
            case Do.AWAIT:
                return await self._await(release, event, step)

    async def _create(self, release: Release, step: HookStep) -> Release:
        release = with_run(release, step.index, LastRun(Phase.RUNNING, self._now(), ""))
        if completes(step.hook):  # what is done once it is there is simply made again after a crash
            await self._save(release)
        return await self._make(release, step)

    async def _make(self, release: Release, step: HookStep) -> Release:
        _, manifest = self._object(step)
        try:
            await self._context.cluster.create(manifest, manager=HELM_MANAGER, account=self._context.account)
        except ApiError as error:
            if error.status != 409:
                return await self._failed(release, step, f"cannot be created: {error}")
        return release

    async def _await(self, release: Release, event: str, step: HookStep) -> Release:
        ref, manifest = self._object(step)
        outcome = ""
        if completes(step.hook):
            found = await self._context.cluster.get(manifest["apiVersion"], ref.kind, ref.namespace, ref.name)
            if found is None:
                release = await self._make(release, step)
            outcome = await self._outcome(ref, manifest)
        run = release.hooks[step.index].last_run
        if outcome:
            for left in after_failure(release.hooks, event, step.index):
                await self._delete(left)
            return await self._failed(release, step, outcome)
        release = with_run(release, step.index, LastRun(Phase.SUCCEEDED, run.started_at, self._now()))
        if completes(step.hook):
            await self._save(release)
        return release

    async def _outcome(self, ref: ObjectRef, manifest: Manifest) -> str:
        """Wait until a hook's object is done: empty, or why it failed."""
        cluster, clock = self._context.cluster, self._context.clock
        resource = await cluster.resource(manifest["apiVersion"], ref.kind)
        if resource is None:
            return f"kind {ref.group_kind} is not served"
        deadline = clock.now() + self._timeout
        watch = cluster.watch_object(resource, ref.namespace, ref.name)
        try:
            while True:
                since = cluster.facts.now
                live = cluster.live(ref)
                if live is not None:
                    verdict = self._judge.judge(live)
                    if verdict.failed:
                        return verdict.message or verdict.reason
                    if verdict.healthy and not (ref.kind == "Pod" and _phase(live.manifest()) != "Succeeded"):
                        return ""
                    self._waiting(verdict.reason, f"hook {ref}: {verdict.message or verdict.reason}")
                left = deadline - clock.now()
                if left <= 0:
                    return f"did not finish within {self._timeout:.0f}s"
                await changed_or_later(cluster.facts, [object_key(ref), watch.key], since, clock, min(left, RECHECK))
        finally:
            watch.release()

    async def _failed(self, release: Release, step: HookStep, why: str) -> Release:
        run = release.hooks[step.index].last_run
        release = with_run(release, step.index, replace(run, phase=Phase.FAILED, completed_at=self._now()))
        await self._save(release)
        raise HookFailed(
            f"hook {step.hook.kind} {step.hook.name} ({step.hook.path}): {why}",
            hint=f"kubectl -n {self._namespace} describe {step.hook.kind.lower()} {step.hook.name}",
        )

    async def _delete(self, step: HookStep) -> None:
        """Delete a hook's object and wait until it is gone."""
        ref, manifest = self._object(step)
        cluster, clock = self._context.cluster, self._context.clock
        gone = await cluster.delete(manifest["apiVersion"], ref, account=self._context.account)
        deadline = clock.now() + self._timeout
        while not gone and clock.now() < deadline:
            since = cluster.facts.now
            found = await cluster.get(
                manifest["apiVersion"], ref.kind, ref.namespace, ref.name, account=self._context.account
            )
            gone = found is None
            if not gone:
                await changed_or_later(cluster.facts, [object_key(ref)], since, clock, 1.0)

    def _object(self, step: HookStep) -> tuple[ObjectRef, Manifest]:
        (manifest,) = load_all(step.hook.manifest, source=step.hook.path)[:1]
        kind = GroupKind(manifest["apiVersion"].rpartition("/")[0], manifest["kind"])
        return place(manifest, namespaced=self._context.namespaced(kind), default=self._namespace)

    def _now(self) -> str:
        return self._context.clock.wall().strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _phase(manifest: Manifest) -> str:
    return str((manifest.get("status") or {}).get("phase", ""))
