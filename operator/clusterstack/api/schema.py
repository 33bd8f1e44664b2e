"""From the models to the CRDs: `python -m clusterstack.api.schema --write|--check [DIRECTORY]`.

Structural OpenAPI v3 as the API server wants it: no references, no unions; a description on every field; a limit on
every list, map and text. Defaults are left to the operator, except those marked as stored.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel

from clusterstack.api.common import GROUP, VERSION, rules
from clusterstack.api.spec import MAX_NAME, StackSpec
from clusterstack.api.status import StackLayerStatus, StackStatus

Schema = dict[str, Any]

COPIES: Final = (Path("crds"), Path("deploy/base/crds"))

_DROPPED: Final = frozenset({"title", "additionalProperties", "default", "$defs", "x-stored-default", "const"})
_CONDITION: Final = '.status.conditions[?(@.type=="{}")].status'

STACK_COLUMNS: Final = (
    ("Ready", _CONDITION.format("Ready"), "Whether every layer is applied and healthy."),
    ("Status", ".status.summary.message", "What keeps the stack from being Ready: the root cause, in one line."),
    ("Layers", ".status.summary.layers", "Layers that are Ready, of how many."),
    ("Current", ".status.summary.current", "Layers at work."),
    ("Revision", ".status.summary.revision", "Revision being rolled out."),
)
LAYER_COLUMNS: Final = (
    ("Ready", _CONDITION.format("Ready"), "Whether every object of the layer is applied and healthy."),
    ("Status", ".status.message", "What the layer waits for, or why it failed, in one line."),
    ("Phase", ".status.phase", "Pending, Waiting, Progressing, Ready, Failed or Suspended."),
    ("Objects", ".status.progress", "Objects that are healthy, of how many."),
    ("Revision", ".status.revision", "Revision that the layer's content changed in last."),
)
AGE: Final = ("Age", ".metadata.creationTimestamp", "Time since it was created.")


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of a model, with everything that it refers to put in place."""
    raw = model.model_json_schema(by_alias=True)
    return _convert(raw, raw.get("$defs", {}))


def _convert(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Schema:
    node = _resolve(node, defs)
    schema = {key: value for key, value in node.items() if key not in _DROPPED}
    if node.get("x-stored-default"):
        schema["default"] = node["default"]
    if "const" in node:
        schema["enum"] = [node["const"]]
    if "properties" in node:
        schema["properties"] = {name: _convert(child, defs) for name, child in node["properties"].items()}
    elif isinstance(node.get("additionalProperties"), Mapping):
        schema["additionalProperties"] = _convert(node["additionalProperties"], defs)
    if "items" in node:
        schema["items"] = _convert(node["items"], defs)
    return schema


def _resolve(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """A node without references and without `| None`: absent is the only way to leave a field out."""
    while "$ref" in node or "anyOf" in node:
        if "$ref" in node:
            target = defs[node["$ref"].removeprefix("#/$defs/")]
        else:
            (target,) = (option for option in node["anyOf"] if option.get("type") != "null")
        node = {**target, **{key: value for key, value in node.items() if key not in ("$ref", "anyOf")}}
    return node


def _crd(kind: str, plural: str, *, short: str, columns: Sequence[tuple[str, str, str]], schema: Schema) -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "clusterstack", "app.kubernetes.io/part-of": "clusterstack"},
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                # not "clusterstack": as a kind's own name it would make `kubectl describe clusterstack NAME` fail
                "categories": ["clusterstack-all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in (*columns, AGE)],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _object(description: str, *, required: Sequence[str] = (), properties: Schema, **extra: Any) -> Schema:
    return {
        "type": "object",
        "description": description,
        **({"required": list(required)} if required else {}),
        "properties": {**_TYPE, **properties},
        **extra,
    }


_TYPE: Final[Schema] = {
    "apiVersion": {"type": "string", "description": "Version of the schema: clusterstack.dev/v1alpha1."},
    "kind": {"type": "string", "description": "Kind of the object."},
    "metadata": {"type": "object"},  # the API server knows it better, and refuses anything more here
}


def _column(name: str, path: str, description: str) -> Schema:
    type_ = "date" if name == AGE[0] else "string"
    return {"name": name, "type": type_, "jsonPath": path, "description": description}


def _status(model: type[BaseModel]) -> Schema:
    """A new object's status says that nobody has looked at it yet, so that kstatus does not take it for current."""
    return {**structural(model), "default": {"observedGeneration": -1}}


def cluster_stack() -> Schema:
    """The CRD of ClusterStack."""
    named = rules(
        (
            f"self.metadata.name.size() <= {MAX_NAME} && !self.metadata.name.contains('.')",
            f"the name must be at most {MAX_NAME} characters long and hold no dot",
        )
    )
    schema = _object(
        "A cluster, from its first namespace to its last workload: layers of objects out of Git, each started the "
        "moment everything that it depends on is healthy.",
        required=["spec"],
        properties={"spec": structural(StackSpec), "status": _status(StackStatus)},
        **named,
    )
    return _crd("ClusterStack", "clusterstacks", short="cst", columns=STACK_COLUMNS, schema=schema)


def stack_layer() -> Schema:
    """The CRD of StackLayer."""
    schema = _object(
        "The state of one layer of a ClusterStack. The operator writes it; users read it, and may annotate it with "
        "clusterstack.dev/reconcileAt.",
        properties={"status": _status(StackLayerStatus)},
    )
    return _crd("StackLayer", "stacklayers", short="csl", columns=LAYER_COLUMNS, schema=schema)


class _Dumper(yaml.SafeDumper):
    """Block style without anchors, and lists indented as people do."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - likewise
        super().increase_indent(flow, False)


def documents() -> dict[str, str]:
    """File name to content, as they stand in `crds/`."""
    return {
        f"{GROUP}_{crd['spec']['names']['plural']}.yaml": "# Made by `python -m clusterstack.api.schema --write`.\n"
        + yaml.dump(crd, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
        for crd in (cluster_stack(), stack_layer())
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the CRDs, or say which of them are not what the models say."""
    parser = argparse.ArgumentParser(prog="python -m clusterstack.api.schema", description=__doc__.splitlines()[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the CRDs")
    action.add_argument("--check", action="store_true", help="exit 1 when a file differs from the models")
    parser.add_argument("directories", nargs="*", type=Path, default=COPIES, help="default: crds and deploy/base/crds")
    options = parser.parse_args(arguments)
    stale = [
        (directory / name, text)
        for directory in options.directories
        for name, text in documents().items()
        if not (directory / name).is_file() or (directory / name).read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if options.write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        sys.stderr.write(f"{path}: {'written' if options.write else 'differs from the models, run with --write'}\n")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
