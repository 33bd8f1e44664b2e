"""`clusterstack judge`: the verdict on every object of a stream, offline."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clusterstack.cli.output import DONE, NO, USAGE, CliError, coloured, emit, note, table
from clusterstack.core.objects import Manifest

if TYPE_CHECKING:
    from clusterstack.core.health import RuleSet, Verdict

HELP = "tell how healthy objects are, from a file or kubectl's output"
DESCRIPTION = """\
Judge every object of a YAML or JSON stream as the operator would, without a cluster. Objects of the same stream that
a verdict needs (a workload's Pods, a Subscription's CSV) are looked at; others count as not known.
"""
EXAMPLES = """\
examples:
  kubectl get deployments,pods -A -o yaml | clusterstack judge
  clusterstack judge -f kafka.yaml --rules my-rules.yaml -o json
a rules file is one {apiVersion, kind, current, inProgress, failed, degraded, suspended, message} with CEL
expressions on the object's fields, as Flux's healthCheckExprs, a list of these, or the ConfigMap of the cluster's rules
"""
FIELDS = ("apiVersion", "kind", "namespace", "name", "state", "reason", "message", "rule")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--filename", metavar="FILE", default="-", help="default: standard input")
    parser.add_argument(
        "--policy", default="Strict", metavar="POLICY", help="Strict, KStatus or Exists (default: Strict)"
    )
    parser.add_argument("--rules", metavar="FILE", help="rules that go before those that come with ClusterStack")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="json: one object a line")
    parser.add_argument("--exit-code", action="store_true", help="exit 1 when an object is not healthy")


def run(args: argparse.Namespace) -> int:
    from clusterstack.cli.files import read_objects
    from clusterstack.core.health import Policy

    policy = next((policy for policy in Policy if policy.value.lower() == args.policy.lower()), None)
    if policy is None:
        raise CliError(f"--policy {args.policy} is not one of {', '.join(Policy)}", code=USAGE)
    if args.filename == "-" and sys.stdin.isatty():
        note("reading objects from standard input; end with Ctrl-D")
    objects = read_objects(args.filename)
    verdicts = verdicts_of(objects, _rules(args.rules), policy=policy.value, now=time.time())
    _notes(objects, verdicts)
    rows = [row(obj, verdict) for obj, verdict in zip(objects, verdicts, strict=True)]
    if args.output == "json":
        emit(json.dumps(found, ensure_ascii=False) for found in rows)
    else:
        emit(picture(rows, colour=coloured(sys.stdout)))
    return NO if args.exit_code and not all(verdict.healthy for verdict in verdicts) else DONE


def _rules(name: str | None) -> RuleSet:
    from clusterstack.cli.files import read_text
    from clusterstack.core.health import Level, RuleSet
    from clusterstack.core.health.rulefile import read_rules, texts_of

    rules = RuleSet.bundled()
    if name is None:
        return rules
    listed = read_rules(read_text(name), source=name)
    sources = [(name, listed)]
    if len(listed) == 1 and listed[0].get("kind") == "ConfigMap" and "current" not in listed[0]:
        sources = [(key, read_rules(text, source=key)) for key, text in texts_of(dict(listed[0]))]
    for source, found in sources:
        rules = rules.with_rules(found, source=source, level=Level.LAYER)
    for warning in rules.warnings:
        note(f"warning: {warning}")
    return rules


def verdicts_of(objects: Sequence[Manifest], rules: RuleSet, *, policy: str, now: float) -> list[Verdict]:
    """The verdict on each object, with the others of the sequence as its surroundings."""
    from clusterstack.core.health import Context, Policy, judge, related_refs
    from clusterstack.core.objects import ref_of

    known = {ref_of(obj): obj for obj in objects if (obj.get("metadata") or {}).get("name")}
    found: list[Verdict] = []
    for obj in objects:
        context = Context(
            rules=rules,
            policy=Policy(policy),
            now=now,
            related={ref: known[ref] for ref in related_refs(obj, rules) if ref in known},
            children=_children(obj, objects, rules),
        )
        found.append(judge(obj, context))
    return found


def _notes(objects: Sequence[Manifest], verdicts: Sequence[Verdict]) -> None:
    from clusterstack.core.objects import ref_of

    for obj, verdict in zip(objects, verdicts, strict=True):
        if verdict.note:
            note(f"warning: {ref_of(obj)}: {verdict.note}")


def _children(obj: Manifest, objects: Sequence[Manifest], rules: RuleSet) -> Sequence[Manifest] | None:
    """The children that the stream holds; None, not known, when it holds no object of their kinds."""
    from clusterstack.core.health import child_query
    from clusterstack.core.objects import ref_of

    query = child_query(obj, rules)
    if query is None:
        return None
    peers = [peer for peer in objects if ref_of(peer).group_kind in query.kinds]
    if not peers:
        return None
    return [
        peer
        for peer in peers
        if ref_of(peer).namespace == query.namespace
        and (_owned(peer, query.owner_uid) if query.owner_uid else _selected(peer, query.selector))
    ]


def _owned(peer: Manifest, uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in peer["metadata"].get("ownerReferences") or ())


def _selected(peer: Manifest, selector: str) -> bool:
    from clusterstack.cli.selectors import matches

    return matches(selector, peer["metadata"].get("labels") or {})


def row(obj: Manifest, verdict: Verdict) -> dict[str, Any]:
    """One verdict as JSON shows it."""
    metadata = obj.get("metadata") or {}
    values = (
        obj["apiVersion"],
        obj["kind"],
        metadata.get("namespace") or "",
        metadata.get("name") or "",
        str(verdict.state),
        verdict.reason,
        verdict.message,
        verdict.rule,
    )
    return dict(zip(FIELDS, values, strict=True))


def picture(rows: Sequence[dict[str, Any]], *, colour: bool = False) -> list[str]:
    """The verdicts for people, and a last line that counts them."""
    if not rows:
        return ["no objects"]
    cells = [("OBJECT", "STATE", "REASON", "MESSAGE", "RULE")]
    for found in rows:
        name = f"{found['namespace']}/{found['name']}" if found["namespace"] else found["name"]
        cells.append((f"{found['kind']} {name}", found["state"], found["reason"], found["message"], found["rule"]))
    counts: dict[str, int] = {}
    for found in rows:
        counts[found["state"]] = counts.get(found["state"], 0) + 1
    total = f"{len(rows)} object{'' if len(rows) == 1 else 's'}: "
    return [
        *table(cells, painted=1, colour=colour),
        total + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())),
    ]
