"""The bundled library as its own test: `python -m clusterstack.core.health.samples` judges every sample of every rule.

A kind counts once one of its samples shows what plain kstatus gets wrong, or a failure that is final. Prints one JSON
line `{"kinds", "rules", "samples", "failed"}`; what fails is told on stderr, and the exit code is 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from clusterstack.core.health import kstatus
from clusterstack.core.health.judge import judge, related_refs
from clusterstack.core.health.rules import ANY, RuleSet, RuleSpec, library
from clusterstack.core.health.verdict import Context, State, Verdict
from clusterstack.core.objects import Manifest, ObjectRef

STATES: Mapping[str, State] = MappingProxyType(
    {
        "current": State.CURRENT,
        "inProgress": State.IN_PROGRESS,
        "degraded": State.DEGRADED,
        "failed": State.FAILED,
        "suspended": State.SUSPENDED,
    }
)
"""Under which name a rule lists the samples of a state."""

NOW = 1e9
"""When samples are judged, in unix seconds."""

_ABOUT = frozenset({"for", "from", "children", "alone"})
"""What a sample says besides the object: the kinds it is for, where it is from, what the object owns, and whether what
it requires is not there."""

_SAME = frozenset({(State.DEGRADED, State.IN_PROGRESS), (State.SUSPENDED, State.CURRENT)})
"""What kstatus has no word for, and may call otherwise without being wrong."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An object of one kind, with the state that it is a sample of and the upstream types it was written from."""

    name: str
    kind: str
    state: State
    source: str
    obj: Manifest
    children: Sequence[Manifest] | None = None
    alone: bool = False

    @property
    def concrete(self) -> bool:
        """Of a kind that exists, not of any one that a wildcard stands for."""
        return ANY not in self.kind

    @property
    def telling(self) -> bool:
        """Whether plain kstatus judges it wrong, or it is final."""
        plain = kstatus.compute(self.obj, now=NOW).state
        return self.state is State.FAILED or (plain is not self.state and (self.state, plain) not in _SAME)


def samples() -> Iterator[Sample]:
    """Every sample of the library, once for each kind that it is for."""
    for spec in library():
        yield from samples_of(spec)


def samples_of(spec: RuleSpec) -> Iterator[Sample]:
    """One rule's samples."""
    for name, listed in spec.t.items():
        for index, sample in enumerate(listed):
            for kind in sample.get("for", spec.kinds):
                fields = {field: value for field, value in sample.items() if field not in _ABOUT}
                source, children = sample.get("from", spec.source), sample.get("children")
                made, alone = instance(kind, fields), sample.get("alone", False)
                yield Sample(f"{kind}-{name}-{index}", kind, STATES[name], source, made, children, alone)


def instance(kind: str, fields: Mapping[str, Any]) -> Manifest:
    """A sample's fields as an object of generation 2."""
    group, _, name = kind.rpartition("/")
    group = group.replace(ANY, "sample")
    made: Manifest = {
        "apiVersion": "v1" if group == "v1" else f"{group}/v1",
        "kind": "Anything" if name == ANY else name,
        "metadata": {"name": "sample", "namespace": "ns", "generation": 2},
        "spec": {},
        "status": {},
    }
    for field, value in fields.items():
        made[field] = {**made[field], **value}
    return made


def judged(sample: Sample, rules: RuleSet, *, now: float = NOW) -> Verdict:
    """The verdict on a sample at a time in unix seconds; what else it requires is there and well, or not there."""
    related = {} if sample.alone else {ref: _well(ref) for ref in related_refs(sample.obj, rules)}
    return judge(sample.obj, Context(rules=rules, related=related, children=sample.children, now=now))


def _well(ref: ObjectRef) -> Manifest:
    version = f"{ref.group}/v1" if ref.group else "v1"
    metadata = {"name": ref.name, "namespace": ref.namespace}
    conditions = [{"type": name, "status": "True"} for name in ("Ready", "Complete", "Available")]
    status = {"phase": "Active" if ref.kind == "Namespace" else "Succeeded", "conditions": conditions}
    return {"apiVersion": version, "kind": ref.kind, "metadata": metadata, "status": status}


def counted(known: list[Sample]) -> set[str]:
    """The kinds that count."""
    return {sample.kind for sample in known if sample.concrete and sample.telling}


def main() -> int:
    """Judge all samples and report; 1 when a verdict is not the one expected."""
    rules, known = RuleSet.bundled(), list(samples())
    wrong = [(sample, verdict) for sample in known if (verdict := judged(sample, rules)).state is not sample.state]
    for sample, verdict in wrong:
        sys.stderr.write(f"{sample.name}: {verdict.state} ({verdict.reason}: {verdict.message})\n")
    report = {
        "kinds": len(counted(known)),
        "rules": sum(1 for _ in library()),
        "samples": len(known),
        "failed": len(wrong),
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
