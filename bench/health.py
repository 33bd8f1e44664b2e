"""What judging health costs: a verdict against decoding the same object's JSON, both measured in the same run.

Prints one JSON line. `*_us` are microseconds: the median of many runs, of the dearest kind of its sort. Objects are of
about 20 KB, most of it spec, managed fields and what the rules do not look at. `rss_growth_mib` is over 100,000
verdicts on changing objects, `runaway_ms` what an expression costs that would iterate eight million times.
Exit 1 when a verdict by rule costs more than the decoding, a built-in one more than a tenth of it, memory grows by
more than 8 MiB, or the runaway expression is not stopped or disturbs others.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterstack.core.health import Context, Level, RuleSet, State, judge
from clusterstack.core.health.samples import NOW, Sample, samples
from clusterstack.core.objects import Manifest

OBJECT_BYTES = 20_000
VERDICTS = 100_000
GROWTH_MIB = 8.0
RUNAWAY_MS = 250.0

BY_RULE = (
    "kafka.strimzi.io/Kafka",
    "postgresql.cnpg.io/Cluster",
    "gateway.networking.k8s.io/HTTPRoute",
    "argoproj.io/Application",
    "helm.toolkit.fluxcd.io/HelmRelease",
    "cert-manager.io/Certificate",
    "s3.services.k8s.aws/Bucket",
)


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds, by kind."""

    decode: Mapping[str, float]
    judge: Mapping[str, float]

    @property
    def worst(self) -> str:
        """The kind whose verdict is dearest, measured by the decoding of the same object."""
        return max(self.judge, key=lambda kind: self.judge[kind] / self.decode[kind])

    @property
    def ratio(self) -> float:
        return self.judge[self.worst] / self.decode[self.worst]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a bound is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, help="measurements for a median (default: 300)")
    parser.add_argument("--verdicts", type=int, default=VERDICTS, help=f"verdicts for memory (default: {VERDICTS})")
    args = parser.parse_args(argv)
    rules = RuleSet.bundled()
    by_rule = costs([padded(sample.obj) for sample in _current() if sample.kind in BY_RULE], rules, args.rounds)
    builtin = costs([padded(obj) for obj in _builtin()], rules, args.rounds)
    growth = memory_growth(rules, args.verdicts)
    runaway_ms, stopped = runaway(rules)
    print(
        json.dumps(
            {
                "object_bytes": OBJECT_BYTES,
                "decode_us": round(by_rule.decode[by_rule.worst], 1),
                "rule_us": round(by_rule.judge[by_rule.worst], 1),
                "rule_share": round(by_rule.ratio, 3),
                "rule_worst": by_rule.worst,
                "builtin_us": round(builtin.judge[builtin.worst], 1),
                "builtin_share": round(builtin.ratio, 3),
                "builtin_worst": builtin.worst,
                "verdicts": args.verdicts,
                "rss_growth_mib": round(growth, 2),
                "runaway_ms": round(runaway_ms, 1),
                "runaway_stopped": stopped,
            }
        )
    )
    kept = by_rule.ratio < 1 and builtin.ratio < 0.1 and growth < GROWTH_MIB
    return 0 if kept and stopped and runaway_ms < RUNAWAY_MS else 1


def costs(objects: Sequence[Manifest], rules: RuleSet, rounds: int) -> Costs:
    """Decode and judge each object in turns, so that a busy machine slows both alike."""
    context = Context(rules=rules, now=NOW)
    decode: dict[str, float] = {}
    verdict: dict[str, float] = {}
    for obj in objects:
        text, kind = json.dumps(obj), f"{obj['apiVersion'].rpartition('/')[0]}/{obj['kind']}"
        decoding, judging = [], []
        for _ in range(rounds):
            decoding.append(_timed(lambda text=text: json.loads(text)))  # type: ignore[misc]
            judging.append(_timed(lambda obj=obj: judge(obj, context)))  # type: ignore[misc]
        decode[kind] = statistics.median(decoding) * 1e6
        verdict[kind] = statistics.median(judging) * 1e6
    return Costs(decode, verdict)


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def memory_growth(rules: RuleSet, verdicts: int) -> float:
    """MiB that the process is larger after many verdicts; the first tenth is warming up."""
    objects = [sample.obj for sample in samples()]
    context = Context(rules=rules, now=NOW)
    before = 0.0
    for turn in range(verdicts):
        if turn == verdicts // 10:
            gc.collect()
            before = _rss_mib()
        obj = objects[turn % len(objects)]
        judge({**obj, "metadata": {**obj["metadata"], "resourceVersion": str(turn)}}, context)
    gc.collect()
    return _rss_mib() - before


def _rss_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def runaway(rules: RuleSet) -> tuple[float, bool]:
    """Milliseconds of one expression that never ends by itself, and whether it ended in an error and harmed nobody."""
    loop = "status.n.exists(a, status.n.exists(b, status.n.exists(c, a + b + c < 0)))"
    mine = rules.with_rules([{"for": ["example.com/Loop"], "current": loop}], source="bench", level=Level.STACK)
    obj = {"apiVersion": "example.com/v1", "kind": "Loop", "metadata": {"name": "x"}, "status": {"n": [1] * 200}}
    started = time.perf_counter()
    verdict = judge(obj, Context(rules=mine, now=NOW))
    elapsed = (time.perf_counter() - started) * 1e3
    others = [judge(sample.obj, Context(rules=mine, now=NOW)).state for sample in _current()[:50]]
    return elapsed, verdict.state is State.UNKNOWN and all(state is State.CURRENT for state in others)


def _current() -> list[Sample]:
    """Each kind's first healthy sample, without those that other objects decide about."""
    found: dict[str, Sample] = {}
    for sample in samples():
        if sample.concrete and sample.state is State.CURRENT and sample.kind != "operators.coreos.com/Subscription":
            found.setdefault(sample.kind, sample)
    return list(found.values())


def _builtin() -> list[Manifest]:
    metadata = {"name": "web", "namespace": "shop", "generation": 2}
    counts = {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3, "currentReplicas": 3}
    rolled = [
        {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
        {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"},
    ]
    scheduled = {
        f"{name}": 3
        for name in ("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled", "numberAvailable")
    }
    statuses: dict[str, dict[str, Any]] = {
        "Deployment": {**counts, "conditions": rolled},
        "StatefulSet": {**counts, "currentRevision": "a", "updateRevision": "a"},
        "DaemonSet": {**scheduled, "numberReady": 3},
        "ReplicaSet": {**counts, "fullyLabeledReplicas": 3},
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": metadata,
            "spec": {"replicas": 3},
            "status": {"observedGeneration": 2, **status},
        }
        for kind, status in statuses.items()
    ]


def padded(obj: Manifest) -> Manifest:
    """The object grown to about 20 KB with what live objects carry besides: managed fields, templates, annotations."""
    entries = [_entry(number) for number in range(200)]
    size = len(json.dumps(obj))
    keep = max(0, OBJECT_BYTES - size) // len(json.dumps(entries[0]))
    metadata = {**obj["metadata"], "managedFields": entries[: keep // 2]}
    return {**obj, "metadata": metadata, "spec": {**obj["spec"], "template": entries[keep // 2 : keep]}}


def _entry(number: int) -> dict[str, Any]:
    return {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "time": "2026-01-01T00:00:00Z",
        "fieldsV1": {f"f:field{number:03}": {"f:name": {}, "f:value": {}, "f:enabled": True, "f:count": number}},
    }


if __name__ == "__main__":
    sys.exit(main())
