"""`clusterstack validate`: what is wrong with a ClusterStack, before a cluster sees it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from clusterstack.cli.output import DONE, MISSING, NO, CliError, dump, emit
from clusterstack.core.objects import Manifest

if TYPE_CHECKING:
    from clusterstack.api.spec import StackSpec

HELP = "check ClusterStack files, without a cluster"
DESCRIPTION = """\
Check the ClusterStacks in files against the schema, and their layers for unknown names and cycles, without a cluster.
Other objects in the files are passed over. Exits 1 when something is wrong.
"""
EXAMPLES = "example:\n  clusterstack validate clusterstack.yaml\n"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="YAML or JSON; - reads standard input")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="default: text")


def run(args: argparse.Namespace) -> int:
    results = [result for name in args.files for result in check_file(name)]
    if not results:
        raise CliError(f"no ClusterStack in {', '.join(args.files)}", code=MISSING)
    if args.output == "json":
        emit(dump(results, "json"))
    else:
        emit(line for result in results for line in _lines(result))
    return NO if any(result["problems"] for result in results) else DONE


def check_file(name: str) -> Iterator[dict[str, Any]]:
    """One result for each ClusterStack of a file: file, name, layers, problems {reason, path, message}."""
    from clusterstack.api.common import GROUP
    from clusterstack.cli.files import read_objects

    for manifest in read_objects(name):
        if manifest["kind"] == "ClusterStack" and manifest["apiVersion"].startswith(f"{GROUP}/"):
            yield {"file": name, **_check(manifest)}


def _check(manifest: Manifest) -> dict[str, Any]:
    from clusterstack.api.spec import parse_stack
    from clusterstack.core.graph import Graph, validate
    from clusterstack.errors import SpecError

    metadata = {"uid": "", "generation": 1, **(manifest.get("metadata") or {})}
    result: dict[str, Any] = {"name": metadata.get("name", ""), "layers": [], "problems": []}
    try:
        stack = parse_stack({**manifest, "metadata": metadata})
        result["problems"] = [
            {"reason": found.reason, "path": found.path, "message": found.message} for found in validate(stack.spec)
        ]
        result["problems"] += _rule_problems(stack.spec)
        names = [layer.name for layer in stack.spec.layers]
        result["layers"] = names if result["problems"] else list(Graph.of(stack.spec.layers).topological())
    except SpecError as error:
        result["problems"] = [{"reason": error.reason, "path": "", "message": str(error)}]
    return result


def _rule_problems(spec: StackSpec) -> Iterator[dict[str, str]]:
    """Health rules that do not compile."""
    from clusterstack.core.health.cel import Compiler
    from clusterstack.core.health.rules import RuleSet
    from clusterstack.errors import SpecError

    rules, name = RuleSet(Compiler()), "health.expressions"
    given = [(f"spec.defaults.{name}", spec.defaults), *((f"layer {one.name}: {name}", one) for one in spec.layers)]
    for source, settings in given:
        for index, rule in enumerate(settings.health.expressions):
            try:
                rules.with_expressions([rule.as_input()], source=source)
            except SpecError as error:
                message = str(error).replace(f"{source}[0]", f"{source}[{index}]", 1)
                yield {"reason": error.reason, "path": "", "message": message}


def _lines(result: dict[str, Any]) -> list[str]:
    where = f"{result['file']}: ClusterStack {result['name']}"
    if not result["problems"]:
        layers = result["layers"]
        what = f"{len(layers)} layers: {' → '.join(layers)}" if layers else "its layers come out of Git"
        return [f"{where}: valid, {what}"]
    return [
        f"{where}: {found['reason']}: {found['path'] + ': ' if found['path'] else ''}{found['message']}"
        for found in result["problems"]
    ]
