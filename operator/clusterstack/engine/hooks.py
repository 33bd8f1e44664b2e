"""Runs a release's hooks: in order, with their delete policies, resuming after a crash by what the record says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from clusterstack.core.health import Policy, State
from clusterstack.core.objects import GroupKind, Manifest, ObjectRef, group_of
from clusterstack.core.outcome import Park, classify
from clusterstack.core.ownership import HELM_MANAGER
from clusterstack.core.scope import place
from clusterstack.core.timeline import micro_time
from clusterstack.core.yaml import load_all
from clusterstack.engine.context import Context
from clusterstack.engine.judge import Judge
from clusterstack.engine.wait import changed_or_later
from clusterstack.errors import ApiError, ClusterStackError, RenderError
from clusterstack.helm.hooks import Do, HookStep, after_failure, after_success, completes, failed, in_order, plan
from clusterstack.helm.record import LastRun, Phase, Release, begin, with_run
from clusterstack.kube.facts import object_key

RECHECK = 30.0
PROBE = 1.0


class HookFailed(ClusterStackError):  # noqa: N818 - reads as what happened
    """A hook did not succeed; the release is tried again after a back-off."""

    reason = "HookFailed"


class HookRunner:
    """Runs the hooks of one revision; `release` is its record as last written.

    `save` writes the record, so that a crash resumes where it was; `waiting` hears a reason and what a hook waits for.
    """

    def __init__(
        self,
        context: Context,
        release: Release,
        *,
        namespace: str,
        timeout: float,
        save: Callable[[Release], Awaitable[None]],
        waiting: Callable[[str, str], None],
    ) -> None:
        self.release = release
        self._context, self._namespace, self._timeout = context, namespace, timeout
        self._save, self._waiting = save, waiting
        self._judge = Judge(context.cluster, context.clock, rules=context.rules.now, policy=Policy.STRICT)

    def has(self, event: str) -> bool:
        """Whether any hook runs for this event."""
        return bool(in_order(self.release.hooks, event))

    async def run(self, event: str) -> None:
        """Run all hooks of `event` to success. Raises HookFailed; the record then says so too.

        An event starts its hooks afresh, also those that ran for an earlier event; after a crash in the middle of it,
        `progress` says so, and it goes on where it was.
        """
        if not self.has(event):
            return
        if self.release.progress != event:
            self.release = begin(self.release, event)
        while steps := plan(self.release.hooks, event):
            await self._step(event, steps[0])
        if broken := failed(self.release.hooks, event):  # noted before a crash
            raise HookFailed(f"hook {broken.kind} {broken.name} ({broken.path}) failed")
        for step in after_success(self.release.hooks, event):
            await self._delete(step)

    async def _step(self, event: str, step: HookStep) -> None:
        match step.do:
            case Do.DELETE:
                await self._delete(step)
                await self._create(step)
            case Do.CREATE:
                await self._create(step)
            case Do.AWAIT:
                await self._await(event, step)

    async def _create(self, step: HookStep) -> None:
        self.release = with_run(self.release, step.index, LastRun(Phase.RUNNING, self._now(), ""))
        if completes(step.hook):  # what is done once it is there is simply made again after a crash
            await self._save(self.release)
        await self._make(step)

    async def _make(self, step: HookStep) -> None:
        """Create a hook's object; what it needs and is not there yet is waited for, within the time-out."""
        ref, manifest = self._object(step)
        clock = self._context.clock
        deadline = clock.now() + self._timeout
        while True:
            since = self._context.cluster.facts.now
            try:
                await self._context.cluster.create(manifest, manager=HELM_MANAGER, account=self._context.account)
            except ApiError as error:
                if error.status == 409 and error.reason == "AlreadyExists":
                    return None
                outcome = classify(error, ref)
                if not isinstance(outcome, Park) or clock.now() >= deadline:
                    return await self._failed(step, f"cannot be created: {error}")
                self._waiting(outcome.reason, f"hook {ref}: {outcome.message}")
                await changed_or_later(self._context.cluster.facts, outcome.keys, since, clock, PROBE)
            else:
                return None

    async def _await(self, event: str, step: HookStep) -> None:
        ref, manifest = self._object(step)
        outcome = ""
        if completes(step.hook):
            found = await self._context.cluster.get(manifest["apiVersion"], ref.kind, ref.namespace, ref.name)
            if found is None:
                await self._make(step)
            outcome = await self._outcome(ref, manifest)
        if outcome:
            for left in after_failure(self.release.hooks, event, step.index):
                await self._delete(left)
            await self._failed(step, outcome)
        started = self.release.hooks[step.index].last_run.started_at
        self.release = with_run(self.release, step.index, LastRun(Phase.SUCCEEDED, started, self._now()))
        if completes(step.hook):
            await self._save(self.release)

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
                    done = verdict.state is State.CURRENT  # a suspended Job is healthy, but not done
                    if done and not (ref.kind == "Pod" and _phase(live.manifest()) != "Succeeded"):
                        return ""
                    self._waiting(verdict.reason, f"hook {ref}: {verdict.message or verdict.reason}")
                left = deadline - clock.now()
                if left <= 0:
                    return f"did not finish within {self._timeout:.0f}s"
                await changed_or_later(cluster.facts, [object_key(ref), watch.key], since, clock, min(left, RECHECK))
        finally:
            watch.release()

    async def _failed(self, step: HookStep, why: str) -> None:
        run = self.release.hooks[step.index].last_run
        self.release = with_run(self.release, step.index, replace(run, phase=Phase.FAILED, completed_at=self._now()))
        await self._save(self.release)
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
                await changed_or_later(cluster.facts, [object_key(ref)], since, clock, PROBE)

    def _object(self, step: HookStep) -> tuple[ObjectRef, Manifest]:
        found = load_all(step.hook.manifest, source=step.hook.path)
        if not found:
            raise RenderError(f"hook {step.hook.name} ({step.hook.path}) holds no object", reason="InvalidYAML")
        kind = GroupKind(group_of(found[0]["apiVersion"]), found[0]["kind"])
        return place(found[0], namespaced=self._context.namespaced(kind), default=self._namespace)

    def _now(self) -> str:
        return micro_time(self._context.clock.wall())


def _phase(manifest: Manifest) -> str:
    return str((manifest.get("status") or {}).get("phase", ""))
