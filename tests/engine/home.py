"""The engine's surroundings in a test, and the objects that tests are about."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from clusterstack.api.spec import LayerSpec, parse_layer, parse_stack
from clusterstack.core.content import Claim, Desired, Mode, Problem, content_digest
from clusterstack.core.gates import LayerFacts
from clusterstack.core.health import Policy, RuleSet
from clusterstack.core.inventory import Entry, Inventory, Origin, decode
from clusterstack.core.objects import Manifest, ObjectRef, ref_of
from clusterstack.core.ownership import DIGEST_ANNOTATION, MANAGER
from clusterstack.engine.contents import Content, ReleaseContent
from clusterstack.engine.context import Context, Installation
from clusterstack.engine.judge import Judge
from clusterstack.engine.keeper import Keeper, Terms
from clusterstack.engine.layer import Layer
from clusterstack.engine.ledger import Ledger, Store
from clusterstack.engine.publish import LayerPublisher
from clusterstack.engine.rules import RuleBook, StackRules
from clusterstack.engine.stack import Stack
from clusterstack.engine.webhooks import Webhooks
from clusterstack.helm.spec import ActionSpec, ReleaseSpec, RepoChart
from clusterstack.render.pool import RendererPool
from clusterstack.sources.fetcher import Fetcher as RealFetcher
from clusterstack.sources.fetcher import ResolvedChart
from tests.engine.charts import Chart, Fetcher, Renderers
from tests.engine.clock import FakeClock, settle
from tests.engine.cluster import Call, ScriptedCluster

NAMESPACE = "operator"
STACK = "home"


class Inline(ThreadPoolExecutor):
    """Runs what is meant for a thread at once: threads would make the order of things a matter of luck."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Home:
    """A scripted cluster, a clock, charts, and one stack's context over them. Make it in a running loop."""

    def __init__(self, rules: RuleSet, root: Path) -> None:
        asyncio.get_running_loop().set_default_executor(Inline())
        self.clock = FakeClock()
        self.cluster = ScriptedCluster(self.clock)
        self.charts: dict[str, Chart] = {}
        self.renderers = Renderers(self.charts)
        self.fetcher = Fetcher(self.charts, root)
        self.rules = rules
        self.context = self._context()
        self.store = Store(self.cluster, namespace=NAMESPACE, stack=STACK)

    def restart(self) -> None:
        """The process ends and starts again: only what is in the cluster is left."""
        self.cluster.close()
        self.context = self._context()
        self.store = Store(self.cluster, namespace=NAMESPACE, stack=STACK)

    def _context(self) -> Context:
        self.book = RuleBook(self.cluster, self.clock, self.rules, namespace=NAMESPACE)
        return Context(
            stack=STACK,
            installation=Installation(NAMESPACE, "installation-1", b"key"),
            cluster=self.cluster,
            clock=self.clock,
            renderers=cast("RendererPool", self.renderers),
            fetcher=cast("RealFetcher", self.fetcher),
            rules=StackRules(self.book, self.cluster.facts, STACK),
            webhooks=Webhooks(self.cluster, self.clock),
        )

    def desire(
        self, manifest: Manifest, *, layer: str = "base", mode: Mode = Mode.APPLY, manager: str = MANAGER
    ) -> Desired:
        ref = ref_of(manifest)
        stamped, want = self.context.stamp(manifest, ref, layer)
        return Desired.of(ref, stamped, want, mode=mode, manager=manager)

    async def ledger(
        self, layer: str = "base", *, others: Callable[[ObjectRef, str], Entry | None] | None = None
    ) -> Ledger:
        """A layer's ledger, as a start reads it from the cluster."""
        found = await self.store.load()
        return Ledger(
            self.store, self.clock, found.get(layer) or Inventory(layer), inherit=others or (lambda ref, name: None)
        )

    def judge(self, policy: Policy = Policy.STRICT) -> Judge:
        return Judge(self.cluster, self.clock, rules=self.context.rules.now, policy=policy)

    def content(
        self,
        *manifests: Manifest,
        layer: str = "base",
        releases: Sequence[ReleaseContent] = (),
        broken: Problem | None = None,
        revision: str = "r1",
        claims: tuple[Claim, ...] = (),
        **spec: Any,
    ) -> Content:
        desired = tuple(self.desire(manifest, layer=layer) for manifest in manifests)
        digest = content_digest((item.want for item in desired), (item.digest for item in releases), ())
        return Content(
            layer_spec(layer, **spec),
            revision,
            "" if broken else digest,
            () if broken else desired,
            () if broken else tuple(releases),
            claims=claims,
            broken=broken,
        )

    def release(self, name: str, *, layer: str = "base", **fields: Any) -> ReleaseContent:
        """A release of the chart of the same name, in the namespace `apps`."""
        spec = release_spec(name, layer=layer, **fields)
        chart = self.charts[name]
        resolved = ResolvedChart(name, chart.version, f"https://charts/{name}", f"sha256:{name}{chart.version}")
        return ReleaseContent(spec, resolved, None, f"{name}-{chart.version}-{hash(str(fields)) & 0xFFFF:x}")


class KeeperBench:
    """A keeper at work."""

    def __init__(self, home: Home, ledger: Ledger, terms: Terms, policy: Policy) -> None:
        self.home, self.ledger, self.changes = home, ledger, 0
        self.keeper = Keeper(
            home.context,
            terms=terms,
            ledger=ledger,
            judge=home.judge(policy),
            changed=self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1

    async def want(self, *desired: Desired) -> None:
        await self.ledger.announce("", desired)
        self.keeper.want(desired)
        await settle()

    def message(self, ref: ObjectRef) -> str:
        """What is said of an object; empty when it is as it should be."""
        blocker = self.keeper.board.blockers.get(ref)
        return "" if blocker is None else f"{blocker.reason}: {blocker.message}"

    def reason(self, ref: ObjectRef) -> str:
        return self.message(ref).partition(":")[0]

    @property
    def healthy(self) -> bool:
        board = self.keeper.board
        return board.total > 0 and board.healthy and not board.unapplied


@contextlib.asynccontextmanager
async def keeping(
    home: Home, *desired: Desired, terms: Terms | None = None, policy: Policy = Policy.STRICT
) -> AsyncIterator[KeeperBench]:
    """A keeper of these objects, announced and running; it must have ended well in the end."""
    bench = KeeperBench(home, await home.ledger(), terms or Terms(account="", lane=""), policy)
    await bench.ledger.announce("", desired)
    bench.keeper.want(desired)
    async with running(bench.keeper.run()):
        yield bench


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """Work in the background; what it raises, the test raises."""
    task = asyncio.ensure_future(work)
    await settle()
    try:
        yield task
    finally:
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=2.0)
        assert done, "cancelled, and still running: it waits for something that no script will do"
        with contextlib.suppress(asyncio.CancelledError):
            task.result()


class LayerBench:
    """A layer at work, with its publisher, as the stack runs it."""

    def __init__(self, home: Home, layer: Layer, publisher: LayerPublisher, heard: dict[str, LayerFacts]) -> None:
        self.home, self.layer, self.publisher, self.heard = home, layer, publisher, heard

    @property
    def phase(self) -> str:
        return str(self.layer.assess().phase)

    @property
    def published(self) -> str:
        """The phase that the cluster shows."""
        found = self.home.cluster.objects[ObjectRef("clusterstack.dev", "StackLayer", "", f"{STACK}.{self.layer.name}")]
        return str((found.get("status") or {}).get("phase", ""))

    @property
    def message(self) -> str:
        return self.layer.assess().message

    async def ready(self, *, limit: float = 3600.0) -> float:
        return await self.home.clock.until(lambda: self.layer.facts.done, limit=limit)

    async def put(self, content: Content) -> None:
        self.layer.contents.put(content)
        await settle()


@contextlib.asynccontextmanager
async def layering(
    home: Home, name: str = "base", *, neighbours: dict[str, LayerFacts] | None = None, ledger: Ledger | None = None
) -> AsyncIterator[LayerBench]:
    """A layer without content yet. `neighbours` is shared by the layers of a stack, and heard from them."""
    facts = {} if neighbours is None else neighbours
    publisher = LayerPublisher(home.cluster, home.clock, stack=STACK, uid="stack-uid", layer=name)
    await publisher.start()

    def told(which: str) -> None:
        facts[which] = made.facts
        if made.facts.done:
            all_applied(home, made)

    made = Layer(
        home.context,
        name,
        ledger=ledger or await home.ledger(name),
        publisher=publisher,
        neighbours=facts,
        told=told,
    )
    async with running(publisher.run()), running(made.live()):
        yield LayerBench(home, made, publisher, facts)


def all_applied(home: Home, layer: Layer) -> None:
    """Whoever hears that a layer is done may rely on it: every object is there, and is what was wanted."""
    assert layer.content is not None
    for item in layer.content.desired:
        stored = home.cluster.objects.get(item.ref)
        assert stored is not None, f"{layer.name} says it is done, and {item.ref} is not there"
        assert stored["metadata"]["annotations"].get(DIGEST_ANNOTATION) == item.want, f"{item.ref} is not as wanted"


class StackBench:
    """A stack at work."""

    def __init__(self, home: Home, stack: Stack, body: Manifest) -> None:
        self.home, self.stack, self.body = home, stack, body

    async def update(self, layers: Sequence[Manifest] | None = None, **spec: Any) -> None:
        """The user edits the ClusterStack."""
        wanted = {**self.body["spec"], **spec}
        if layers is not None:
            wanted["layers"] = list(layers)
        self.body = {**self.body, "spec": wanted}
        self.body["metadata"]["generation"] += 1
        self.stack.want(parse_stack(self.body))
        await settle()

    async def annotate(self, **annotations: str) -> None:
        self.body["metadata"]["annotations"] = annotations
        self.stack.want(parse_stack(self.body))
        await settle()

    async def delete(self) -> None:
        """The user deletes the ClusterStack."""
        found = self.home.cluster.objects[ref_of(self.body)]["metadata"]
        self.body["metadata"] = {**found, "deletionTimestamp": self.home.clock.text()}
        self.home.cluster.put(self.body)
        self.stack.want(parse_stack(self.body))
        await settle()

    async def ready(self, *names: str, limit: float = 3600.0) -> float:
        """Until the cluster shows these layers Ready."""
        return await self.home.clock.until(lambda: self.shown(*names), limit=limit)

    def shown(self, *names: str) -> bool:
        found = self.layers()
        return all(found.get(name) == "Ready" for name in names)

    def inventory(self, layer: str) -> dict[str, Origin]:
        """What a layer's inventory in the cluster holds, by name."""
        ref = ObjectRef("", "ConfigMap", NAMESPACE, f"clusterstack.{STACK}.{layer}.0")
        stored = self.home.cluster.objects.get(ref)
        if stored is None:
            return {}
        entries = decode([base64.b64decode(stored["binaryData"]["inventory"])]).entries
        return {entry.ref.name: entry.origin for entry in entries.values()}

    def status(self) -> dict[str, Any]:
        return dict(self.home.cluster.objects[ref_of(self.body)].get("status") or {})

    def layers(self) -> dict[str, str]:
        """Phases as the cluster shows them."""
        return {
            ref.name.removeprefix(f"{STACK}."): str((found.get("status") or {}).get("phase", ""))
            for ref, found in sorted(self.home.cluster.objects.items())
            if ref.kind == "StackLayer"
        }


@contextlib.asynccontextmanager
async def stacking(home: Home, *layers: Manifest, **spec: Any) -> AsyncIterator[StackBench]:
    """A stack of these layers, as its supervisor runs it."""
    body = stack_body(*layers, **spec)
    if ref_of(body) not in home.cluster.objects:
        home.cluster.put(body)
    body = home.cluster.objects[ref_of(body)]
    stack = Stack(home.context, uid=body["metadata"]["uid"], announce=lambda *_: None, observe=lambda *_: None)
    stack.want(parse_stack(body))
    async with running(stack.live()):
        yield StackBench(home, stack, copy.deepcopy(body))


def stack_body(*layers: Manifest, **spec: Any) -> Manifest:
    return {
        "apiVersion": "clusterstack.dev/v1alpha1",
        "kind": "ClusterStack",
        "metadata": {"name": STACK},
        "spec": {"layers": list(layers), **spec},
    }


def layer(name: str, *manifests: Manifest, **spec: Any) -> Manifest:
    """A layer as users write it."""
    return {"name": name, **({"manifests": list(manifests)} if manifests else {}), **spec}


def layer_spec(name: str, **spec: Any) -> LayerSpec:
    return parse_layer({"name": name, "manifests": [], **spec})


def release_spec(name: str, *, layer: str = "base", **fields: Any) -> ReleaseSpec:
    common: dict[str, Any] = {
        "id": f"apps/{name}",
        "layer": layer,
        "origin": ObjectRef("clusterstack.dev", "Chart", "apps", name),
        "release_name": name,
        "namespace": "apps",
        "storage_namespace": "apps",
        "chart": RepoChart("https://charts", name),
        "install": ActionSpec(timeout=300.0),
        "upgrade": ActionSpec(timeout=300.0),
    }
    return ReleaseSpec(**{**common, **fields})


# Objects.


def config_map(name: str, namespace: str = "apps", **data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def secret(name: str, namespace: str = "apps", **data: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": data}


def namespace(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def deployment(name: str, namespace: str = "apps", image: str = "app:1") -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"spec": {"containers": [{"name": "app", "image": image}]}},
        },
    }


def job(name: str, namespace: str = "apps") -> Manifest:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"backoffLimit": 0},
    }


def crd(kind: str, group: str = "example.com") -> Manifest:
    plural = f"{kind.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True}],
        },
    }


def webhook(name: str) -> Manifest:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [],
    }


def custom(kind: str, name: str, namespace: str = "apps", group: str = "example.com") -> Manifest:
    return {
        "apiVersion": f"{group}/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"size": 1},
    }


# What controllers do.


def available(cluster: ScriptedCluster, ref: ObjectRef) -> None:
    """A Deployment has all its replicas."""
    cluster.status(ref, deployment_status(cluster.objects[ref]["metadata"]["generation"], 1))


def unavailable(cluster: ScriptedCluster, ref: ObjectRef) -> None:
    """A Deployment lost its replica."""
    cluster.status(ref, deployment_status(cluster.objects[ref]["metadata"]["generation"], 0))


def deployment_status(generation: int, ready: int) -> Manifest:
    condition = {"type": "Available", "status": "True" if ready else "False", "reason": "MinimumReplicas"}
    return {
        "observedGeneration": generation,
        "replicas": 1,
        "updatedReplicas": 1,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": 1 - ready,
        "conditions": [condition],
    }


def complete(cluster: ScriptedCluster, ref: ObjectRef) -> None:
    """A Job has succeeded."""
    conditions = [{"type": kind, "status": "True"} for kind in ("SuccessCriteriaMet", "Complete")]
    cluster.status(ref, {"succeeded": 1, "startTime": cluster.clock.text(), "conditions": conditions})


def fail(cluster: ScriptedCluster, ref: ObjectRef) -> None:
    """A Job has failed for good."""
    condition = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "gave up"}
    cluster.status(ref, {"failed": 1, "startTime": cluster.clock.text(), "conditions": [condition]})


def establish(cluster: ScriptedCluster, manifest: Manifest) -> None:
    """A CRD is established, and its kind is served."""
    conditions = [{"type": kind, "status": "True"} for kind in ("NamesAccepted", "Established")]
    cluster.status(ref_of(manifest), {"conditions": conditions})
    cluster.serve(f"{manifest['spec']['group']}/v1", manifest["spec"]["names"]["kind"])


def controllers(cluster: ScriptedCluster, *, delay: float = 1.0, fails: Iterable[str] = ()) -> None:
    """Deployments become available, Jobs end and CRDs are established, `delay` seconds after they were written."""
    failing = set(fails)

    def act(ref: ObjectRef) -> None:
        stored = cluster.objects.get(ref)
        if stored is None:
            return
        match ref.kind:
            case "Deployment":
                available(cluster, ref)
            case "Job" if ref.name in failing:
                fail(cluster, ref)
            case "Job":
                complete(cluster, ref)
            case "CustomResourceDefinition":
                establish(cluster, stored)

    def written(call: Call) -> None:
        controlled = call.ref.kind in ("Deployment", "Job", "CustomResourceDefinition")
        if call.verb in ("apply", "create") and controlled:
            cluster.clock.later(delay, lambda: act(call.ref))

    cluster.committed.append(written)


def settled(manifest: Mapping[str, Any]) -> Manifest:
    """An object without what differs from run to run: identity, versions and times."""
    metadata = {
        key: value
        for key, value in manifest["metadata"].items()
        if key not in ("uid", "resourceVersion", "creationTimestamp", "generation")
    }
    return {**manifest, "metadata": metadata}
