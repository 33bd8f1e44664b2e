"""The generated CRDs: committed as generated, described and bounded everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterstack.api import schema

ROOT = Path(__file__).parents[3]
Node = dict[str, Any]


def nodes(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from nodes(node[key], f"{path}[]")


def all_nodes() -> list[tuple[str, Node]]:
    found: list[tuple[str, Node]] = []
    for crd in (schema.cluster_stack(), schema.stack_layer()):
        root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for part in ("spec", "status"):
            if part in root["properties"]:
                found.extend(nodes(root["properties"][part], f"{crd['spec']['names']['kind']}.{part}"))
    return found


def test_the_committed_crds_are_what_the_models_say(capsys: pytest.CaptureFixture[str]) -> None:
    copies = [str(ROOT / directory) for directory in schema.COPIES]
    assert schema.main(["--check", *copies]) == 0, capsys.readouterr().err


def test_a_stale_file_fails_the_check_and_writing_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.main(["--check", str(tmp_path)]) == 1
    assert schema.main(["--write", str(tmp_path)]) == 0
    assert schema.main(["--check", str(tmp_path)]) == 0
    (tmp_path / "clusterstack.dev_stacklayers.yaml").write_text("edited by hand")
    assert schema.main(["--check", str(tmp_path)]) == 1
    assert "clusterstack.dev_stacklayers.yaml: differs from the models" in capsys.readouterr().err


def test_every_field_is_described_in_a_sentence() -> None:
    for path, node in all_nodes():
        if not path.endswith("[]"):
            assert node.get("description", "").endswith("."), path


def test_every_list_map_and_text_has_a_limit() -> None:
    for path, node in all_nodes():
        match node.get("type"):
            case "array":
                assert "maxItems" in node, path
                assert node["x-kubernetes-list-type"] in ("map", "set", "atomic"), path
            case "string":
                assert "maxLength" in node or "enum" in node, path
            case "object" if "additionalProperties" in node:
                assert "maxProperties" in node, path
            case "object":
                assert "properties" in node or node.get("x-kubernetes-preserve-unknown-fields"), path


def test_the_schema_is_structural() -> None:
    for path, node in all_nodes():
        assert node.get("type"), path
        assert not {"$ref", "anyOf", "allOf", "oneOf", "title", "nullable", "const"} & node.keys(), path
        assert not ("properties" in node and "additionalProperties" in node), path


def test_nothing_that_defaults_may_set_is_stored_by_the_api_server() -> None:
    stored = {path for path, node in all_nodes() if "default" in node}
    assert stored == {
        "ClusterStack.spec.interval",
        "ClusterStack.spec.deletionPolicy",
        "ClusterStack.spec.sources[].interval",
        "ClusterStack.spec.sources[].timeout",
        "ClusterStack.status",
        "ClusterStack.status.observedGeneration",
        "StackLayer.status",
        "StackLayer.status.observedGeneration",
    }


def test_columns_come_in_the_order_that_people_read_them() -> None:
    columns = [
        [column["name"] for column in crd["spec"]["versions"][0]["additionalPrinterColumns"]]
        for crd in (schema.cluster_stack(), schema.stack_layer())
    ]
    assert columns == [
        ["Ready", "Status", "Layers", "Current", "Revision", "Age"],
        ["Ready", "Status", "Phase", "Objects", "Revision", "Age"],
    ]


def test_rules_are_per_item_or_between_fields_that_exclude_each_other() -> None:
    for path, node in all_nodes():
        for rule in node.get("x-kubernetes-validations", ()):
            assert rule["message"], path
            assert "layers.all" not in rule["rule"], path
