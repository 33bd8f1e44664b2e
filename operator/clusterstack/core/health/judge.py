"""Judging an object: who decides (annotation, rules, kstatus), and what time and other objects add."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from clusterstack.core.health import autoscaler, builtin, explain, kstatus
from clusterstack.core.health.cel import EvaluationError, Program
from clusterstack.core.health.events import with_events
from clusterstack.core.health.fields import last_change, section, text
from clusterstack.core.health.hints import with_hint
from clusterstack.core.health.rules import Level, Requirement, Rule, RuleSet
from clusterstack.core.health.verdict import GRACE, ChildQuery, Context, Policy, State, Verdict, one_line
from clusterstack.core.objects import GroupKind, Manifest, ObjectRef, group_of, ref_of

ANNOTATION = "clusterstack.dev/health"
"""Set on an object, to `ignore`, `exists`, `kstatus` or `strict`, it decides instead of the layer's policy."""

_POLICIES = {"exists": Policy.EXISTS, "kstatus": Policy.KSTATUS, "strict": Policy.STRICT}


def judge(obj: Manifest, context: Context) -> Verdict:
    """The health of a live object. Never raises: what cannot be read is Unknown."""
    try:
        verdict = with_hint(obj, with_events(obj, _judge(obj, context), context), context)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        verdict = Verdict(
            State.UNKNOWN, "MalformedObject", f"cannot be judged: {type(error).__name__}: {error}", "generic"
        )
    message = one_line(verdict.message) if verdict.message else ""
    return verdict if message == verdict.message else replace(verdict, message=message)


def related_refs(obj: Manifest, rules: RuleSet) -> tuple[ObjectRef, ...]:
    """The other objects that the verdict on this one depends on, as it is now."""
    refs: list[ObjectRef] = []
    if GroupKind(group_of(obj["apiVersion"]), obj["kind"]) == builtin.CLAIM:
        storage_class = builtin.storage_class_of(obj)
        refs += [storage_class] if storage_class else []
    rule = rules.find(obj)
    if rule is not None and rule.requires:
        refs += [ref for entry in rule.requires if (ref := _required(entry, rule, obj, rules))]
    return tuple(refs)


def child_query(obj: Manifest, rules: RuleSet) -> ChildQuery | None:
    """Which children say more about an object: a workload's Pods, or what a rule counts on its owner having made."""
    rule = rules.find(obj)
    if rule is not None and rule.children:
        metadata = section(obj, "metadata")
        return ChildQuery(rule.children, text(metadata, "namespace"), "", text(metadata, "uid"))
    return builtin.pods_of(obj)


def _judge(obj: Manifest, context: Context) -> Verdict:
    metadata = section(obj, "metadata")
    wish = text(section(metadata, "annotations"), ANNOTATION).lower()
    if wish == "ignore":
        return Verdict(State.CURRENT, "Ignored", "", "annotation")
    if metadata.get("deletionTimestamp"):
        return _terminating(obj)
    if wish and wish not in _POLICIES:
        note = f"annotation {ANNOTATION} is {wish[:40]!r}, none of ignore, {', '.join(_POLICIES)}: it has no effect"
        return replace(_by_policy(obj, context.policy, context, annotated=False), note=note)
    return _by_policy(obj, _POLICIES.get(wish, context.policy), context, annotated=bool(wish))


def _by_policy(obj: Manifest, policy: Policy, context: Context, *, annotated: bool) -> Verdict:
    match policy:
        case Policy.EXISTS:
            return Verdict(State.CURRENT, "Exists", "", "annotation" if annotated else "exists")
        case Policy.KSTATUS:
            return _as_flux(obj, context, annotated=annotated)
        case Policy.STRICT:
            return _strict(obj, context)


def _terminating(obj: Manifest) -> Verdict:
    metadata = section(obj, "metadata")
    finalizers = [name for name in metadata.get("finalizers") or () if isinstance(name, str)]
    remaining = builtin.remaining(obj)
    message = "is being deleted" + (f", held by finalizer {', '.join(finalizers)}" if finalizers else "")
    message += f": {remaining}" if remaining else ""
    return Verdict(State.TERMINATING, "Terminating", message, "generic")


def _as_flux(obj: Manifest, context: Context, *, annotated: bool) -> Verdict:
    """The layer's own expressions and the stack's, else kstatus with Flux's rule for Jobs."""
    rule = None if annotated else context.rules.find(obj, lowest=Level.STACK)
    if rule is not None:
        return by_rule(rule, obj, context)
    verdict = kstatus.compute(obj, now=context.now)
    if (group_of(obj["apiVersion"]), obj["kind"]) == ("batch", "Job") and kstatus.preliminary(obj) is None:
        verdict = kstatus.flux_job(obj)
    return builtin.with_pods(obj, verdict, context)


def _strict(obj: Manifest, context: Context) -> Verdict:
    """Users' rules, bundled rules, Kubernetes' own kinds, and kstatus with patience for the rest."""
    rule = context.rules.find(obj)
    if rule is not None:
        obj = autoscaler.complete(obj)
        verdict = by_rule(rule, obj, context)
        return verdict if rule.constant else builtin.with_pods(obj, _amended(obj, verdict, context), context)
    settled = kstatus.preliminary(obj)
    if settled is not None:
        return settled
    verdict_or_none = builtin.check(obj, context)
    if verdict_or_none is not None:
        return builtin.with_pods(obj, verdict_or_none, context)
    return _patient(obj, kstatus.generic(obj), context, GRACE)


def _amended(obj: Manifest, verdict: Verdict, context: Context) -> Verdict:
    """What a rule cannot know: that a claim is bound only once a Pod uses it, and how long ago metrics went missing."""
    waits = verdict.state is State.IN_PROGRESS and verdict.rule.startswith("bundled:v1/PersistentVolumeClaim")
    if waits and builtin.awaits_consumer(obj, context):
        return Verdict(State.CURRENT, "WaitForFirstConsumer", "is bound when a Pod first uses it", verdict.rule)
    return autoscaler.patient(obj, verdict, context)


def by_rule(rule: Rule, obj: Manifest, context: Context) -> Verdict:
    """The verdict of one rule, with what it requires of others."""
    if not rule.ignore_observed_generation:
        stale = kstatus.unobserved(obj)
        if stale is not None:
            return _paused(rule, obj, context) or replace(stale, rule=rule.label)
    verdict = Verdict(State.CURRENT, "Current", "", rule.label) if rule.constant else _evaluated(rule, obj, context)
    if not rule.flux and not rule.constant:
        verdict = _patient(obj, verdict, context, rule.grace)
    if verdict.state is State.CURRENT and rule.requires:
        verdict = _with_required(rule, obj, verdict, context)
    if verdict.state is State.CURRENT and rule.children and context.children is not None:
        verdict = _with_children(rule, obj, verdict, context)
    return verdict


def _paused(rule: Rule, obj: Manifest, context: Context) -> Verdict | None:
    """Suspended if all but the status says so: a controller that is told to pause may never observe that generation."""
    program = next((program for state, program in rule.checks if state is State.SUSPENDED), None)
    wish = {**obj, "status": {}}
    if program is None or not _holds(program, context.rules.compiler.activation(rule.data(wish))):
        return None
    return _reasoned(rule, program, State.SUSPENDED, wish, context)


def _evaluated(rule: Rule, obj: Manifest, context: Context) -> Verdict:
    activation = context.rules.compiler.activation(rule.data(obj))
    for state, program in rule.checks:
        try:
            holds = program.holds(activation)
        except EvaluationError as error:
            return _unanswered(rule, state, error)
        if holds:
            return _reasoned(rule, program, state, obj, context)
    stale = kstatus.unobserved(obj) if rule.ignore_observed_generation else None
    return replace(stale, rule=rule.label) if stale else _reasoned(rule, rule.current, None, obj, context)


def _unanswered(rule: Rule, state: State, error: EvaluationError) -> Verdict:
    """An expression that fails because a field is not there yet waits, as with Flux; any other fault is Unknown."""
    if error.missing:
        return Verdict(
            State.IN_PROGRESS, "FieldMissing", f"field {error.missing} is not there yet (rule for {state})", rule.label
        )
    return Verdict(State.UNKNOWN, "RuleError", f"rule for {state} cannot be evaluated: {error}", rule.label)


def _reasoned(rule: Rule, program: Program, state: State | None, obj: Manifest, context: Context) -> Verdict:
    """Word a verdict. `state` None: no expression holds, and `program` (current) is what is lacking."""
    if state is State.CURRENT and rule.info is None:
        return Verdict(State.CURRENT, "Current", "", rule.label)
    data = rule.data(obj)
    activation = context.rules.compiler.activation(data)
    told = section(obj, "status")
    data["status"] = {**{name: told[name] for name in explain.TEXTS if name in told}, **section(data, "status")}
    if state is State.CURRENT:
        assert rule.info is not None
        why = explain.decisive(rule.info, data, context.rules.compiler) if _holds(rule.info, activation) else None
        reason, message = why or ("Current", "")
    else:
        why = (
            explain.lacking(program, data) if state is None else explain.decisive(program, data, context.rules.compiler)
        )
        reason, message = why or _plain(state)
    if rule.message is not None:
        message = _message(rule.message, activation) or message
    return Verdict(state or State.IN_PROGRESS, reason, message, rule.label)


def _plain(state: State | None) -> tuple[str, str]:
    """Reason and message where the object itself gives none."""
    if state is None or state is State.IN_PROGRESS:
        return State.IN_PROGRESS.value, "is not ready yet"
    return state.value, f"is {state.lower()}"


def _holds(program: Program, activation: object) -> bool:
    try:
        return program.holds(activation)
    except EvaluationError:
        return False


def _message(program: Program, activation: object) -> str:
    try:
        value = program.value(activation)
    except EvaluationError:
        return ""
    return value if isinstance(value, str) else ""


def _patient(obj: Manifest, verdict: Verdict, context: Context, grace: float) -> Verdict:
    """Distrust what is final but nobody may have looked at: an empty status, or one older than our last change."""
    if verdict.state not in (State.CURRENT, State.FAILED):
        return verdict
    due = last_change(obj, context.applied_at) + grace
    empty = not section(obj, "status")
    if empty and context.status_subresource and verdict.rule == kstatus.RULE:
        if context.now < due:
            return Verdict(
                State.IN_PROGRESS, "NoStatus", "its controller has not reported a status yet", "generic", due
            )
        return replace(verdict, reason="NoStatus", message="no status reported", rule="generic")
    if context.now < due and context.status_subresource and _outdated(obj, context):
        message = "its controller has not looked at the last change yet"
        return Verdict(State.IN_PROGRESS, "StatusOutdated", message, verdict.rule, due)
    return verdict


def _outdated(obj: Manifest, context: Context) -> bool:
    """Whether a status speaks of an older generation; where none is noted in it, the time of its last change decides.

    Only the newest note counts: controllers leave conditions that did not change as they were.
    """
    noted = max(_noted(section(obj, "status")), default=None)
    generation = section(obj, "metadata").get("generation")
    if noted is None or not isinstance(generation, int):
        return noted is None and context.status_outdated
    return noted < generation


def _noted(status: object) -> Iterator[int]:
    """The generations that a status says its controllers have looked at, wherever in it."""
    match status:
        case dict():
            noted = status.get("observedGeneration")
            if isinstance(noted, int):
                yield noted
            for value in status.values():
                yield from _noted(value)
        case list():
            for value in status:
                yield from _noted(value)


def _required(entry: Requirement, rule: Rule, obj: Manifest, rules: RuleSet) -> ObjectRef | None:
    activation = rules.compiler.activation(rule.data(obj))
    name, namespace = _message(entry.name, activation), _message(entry.namespace, activation)
    return ObjectRef(entry.kind.group, entry.kind.kind, namespace, name) if name else None


def _with_required(rule: Rule, obj: Manifest, verdict: Verdict, context: Context) -> Verdict:
    for entry in rule.requires:
        ref = _required(entry, rule, obj, context.rules)
        if ref is None:
            return Verdict(State.IN_PROGRESS, "Waiting", f"waiting for a {entry.kind.kind}", rule.label)
        other = context.related.get(ref)
        if other is None:
            return Verdict(
                State.IN_PROGRESS, f"{ref.kind}Missing", f"waiting for {ref}: does not exist yet", rule.label
            )
        found = _of_other(other, context)
        if not found.healthy:
            return _inherited(rule, ref, found)
    return verdict


def _with_children(rule: Rule, obj: Manifest, verdict: Verdict, context: Context) -> Verdict:
    children = [child for child in context.children or () if child.get("kind") != "Pod"]
    for child in children:
        found = _of_other(child, context)
        if not found.healthy:
            return _inherited(rule, ref_of(child), found)
    due = last_change(obj, context.applied_at) + rule.grace
    if not children and context.now < due:
        return Verdict(State.IN_PROGRESS, "NoChildren", "waiting for its workloads", rule.label, due)
    return verdict


def _of_other(obj: Manifest, context: Context) -> Verdict:
    strict = replace(context, policy=Policy.STRICT, related={}, children=None, events=())
    return judge(obj, replace(strict, applied_at=None, status_outdated=False))


def _inherited(rule: Rule, ref: ObjectRef, found: Verdict) -> Verdict:
    """What another object's trouble is to the one that needs it: its failure is ours, its absence is a wait."""
    state = found.state if found.state in (State.FAILED, State.DEGRADED, State.UNKNOWN) else State.IN_PROGRESS
    return Verdict(state, found.reason, f"{ref}: {found.message}", rule.label, found.recheck_at)
