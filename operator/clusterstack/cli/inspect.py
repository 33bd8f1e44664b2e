"""One live object as the operator would judge it: whose it is, and how healthy."""

from __future__ import annotations

import time
from collections.abc import Sequence

from clusterstack.api.spec import LayerSettings, effective_layer, parse_stack
from clusterstack.cli.cluster import STACK
from clusterstack.cli.output import MISSING, CliError
from clusterstack.core.health import Context, Level, Policy, RuleSet, judge
from clusterstack.core.health.rulefile import load_config_map
from clusterstack.core.objects import Manifest, ref_of
from clusterstack.core.ownership import LAYER_LABEL, STACK_LABEL, owner_of
from clusterstack.engine.rules import CONFIG_MAP_NAME
from clusterstack.errors import ApiError, SpecError
from clusterstack.kube.client import KubeClient
from clusterstack.kube.discovery import Discovery
from clusterstack.kube.facts import Bus
from clusterstack.kube.resource import CONFIG_MAP, Resource


async def inspect(client: KubeClient, parts: Sequence[str]) -> list[str]:
    """Lines about `[kind, namespace, name]` or `[kind, name]`. Raises CliError when there is no such object."""
    from clusterstack.cli.reasons import resource_name

    obj = await _find(client, parts)
    ref = ref_of(obj)
    verdict = judge(obj, await _context(client, obj))
    text = f"{verdict.state}" + (f": {verdict.message}" if verdict.message else "")
    scope = f"-n {ref.namespace} " if ref.namespace else ""
    return [
        f"{ref} is in no layer's way",
        f"   health   {text} ({verdict.rule})",
        f"   owner    {_owner(obj)}",
        "",
        "next:",
        f"  kubectl {scope}describe {resource_name(ref)} {ref.name}",
    ]


async def _context(client: KubeClient, obj: Manifest) -> Context:
    """The rules and the policy that the operator judges an object by, as far as they may be read."""
    rules, policy = RuleSet.bundled(), Policy.STRICT
    owner = owner_of(ref_of(obj), obj["metadata"].get("annotations") or {})
    try:
        for found in await client.list(CONFIG_MAP, field_selector=f"metadata.name={CONFIG_MAP_NAME}"):
            rules = load_config_map(found, over=rules).rules
        stack = parse_stack(await client.get(STACK, "", owner.stack)) if owner is not None else None
    except (ApiError, SpecError):
        stack = None
    if stack is not None and owner is not None:
        policy = Policy(str(stack.spec.defaults.health.policy))
        rules = _with_own(rules, stack.spec.defaults, "stack", Level.STACK)
        for layer in [layer for layer in stack.spec.layers if layer.name == owner.layer]:
            policy = Policy(str(effective_layer(stack.spec, layer).health.policy))
            rules = _with_own(rules, layer, f"layer {layer.name}", Level.LAYER)
    return Context(rules=rules, policy=policy, now=time.time())


def _with_own(rules: RuleSet, settings: LayerSettings, source: str, level: Level) -> RuleSet:
    written = [rule.as_input() for rule in settings.health.expressions]
    return rules.with_valid(written, source=source, level=level)[0]


async def _find(client: KubeClient, parts: Sequence[str]) -> Manifest:
    kind, namespace, name = parts[0], parts[1] if len(parts) == 3 else "", parts[-1]
    async with Discovery(client, Bus()) as discovery:
        await discovery.refresh()
        candidates = [found for found in discovery.resources() if _named(found, kind.lower())]
        preferred = [discovery.preferred(found.group, found.kind) or found for found in candidates]
    if not preferred:
        raise CliError(f"this cluster knows no kind {kind}", hint="kubectl api-resources", code=MISSING)
    for resource in dict.fromkeys(preferred):
        if resource.namespaced and not namespace:
            raise CliError(f"{resource.kind} has a namespace", hint=f"write {kind}/NAMESPACE/{name}", code=MISSING)
        try:
            return await client.get(resource, namespace, name)
        except ApiError as error:
            if error.status != 404:
                raise
    where = f" in namespace {namespace}" if namespace else ""
    raise CliError(f"there is no {kind} {name}{where}", hint="kubectl get " + kind + " -A", code=MISSING)


def _named(resource: Resource, kind: str) -> bool:
    names = (resource.kind.lower(), resource.plural)
    return kind in names or kind in {f"{name}.{resource.group}" for name in names}


def _owner(obj: Manifest) -> str:
    metadata = obj["metadata"]
    owner = owner_of(ref_of(obj), metadata.get("annotations") or {})
    if owner is not None:
        return f"layer {owner.stack}.{owner.layer}"
    labels = metadata.get("labels") or {}
    if STACK_LABEL in labels:
        return f"none: it carries the labels of layer {labels[STACK_LABEL]}.{labels.get(LAYER_LABEL, '')}, but no mark"
    return "none: no ClusterStack has applied it"
