"""`clusterstack judge`: verdicts of a stream."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from clusterstack.cli.main import main
from clusterstack.cli.selectors import matches

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "shop", "generation": 1, "uid": "1"},
    "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}},
    "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "unavailableReplicas": 1},
}
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web-1",
        "namespace": "shop",
        "labels": {"app": "web"},
        "creationTimestamp": "2026-01-01T00:00:00Z",
    },
    "spec": {"containers": [{"name": "web", "image": "example.org/web:1"}]},
    "status": {
        "phase": "Pending",
        "containerStatuses": [
            {"name": "web", "ready": False, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}
        ],
    },
}
READY: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "shop"}}
WIDGET: dict[str, Any] = {
    "apiVersion": "example.org/v1",
    "kind": "Widget",
    "metadata": {"name": "w", "namespace": "shop"},
    "status": {"colour": "red"},
}


def judged(capsys: pytest.CaptureFixture[str], *argv: str, stdin: str = "") -> tuple[int, list[dict[str, Any]]]:
    saved, sys.stdin = sys.stdin, io.StringIO(stdin)
    try:
        code = main(["judge", "-o", "json", *argv])
    finally:
        sys.stdin = saved
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_each_object_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    stream = json.dumps({"apiVersion": "v1", "kind": "List", "items": [DEPLOYMENT, READY]})
    code, found = judged(capsys, stdin=stream)
    assert code == 0
    assert [list(line) for line in found] == [
        ["apiVersion", "kind", "namespace", "name", "state", "reason", "message", "rule"]
    ] * 2
    assert [(line["kind"], line["namespace"], line["name"]) for line in found] == [
        ("Deployment", "shop", "web"),
        ("ConfigMap", "shop", "x"),
    ]
    assert [line["state"] for line in found] == ["InProgress", "Current"]


def test_json_lines_and_yaml_streams_are_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, found = judged(capsys, stdin="\n".join(json.dumps(obj) for obj in (DEPLOYMENT, READY, WIDGET)))
    assert len(found) == 3
    path = tmp_path / "objects.yaml"
    path.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n---\n" + json.dumps(READY))
    assert len(judged(capsys, "-f", str(path))[1]) == 2
    assert judged(capsys, stdin="") == (0, [])


def test_pods_of_the_stream_explain_their_deployment(capsys: pytest.CaptureFixture[str]) -> None:
    alone = judged(capsys, stdin=json.dumps(DEPLOYMENT))[1][0]
    assert "ImagePullBackOff" not in alone["message"]
    with_pod = judged(capsys, stdin=json.dumps(DEPLOYMENT) + json.dumps(POD))[1][0]
    assert "ImagePullBackOff" in with_pod["message"]


def test_the_policy_decides(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = judged(capsys, "--policy", "exists", stdin=json.dumps(DEPLOYMENT))
    assert found[0]["state"] == "Current"


def test_a_rule_of_the_user_s_goes_first(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "- apiVersion: example.org/v1\n  kind: Widget\n  current: status.colour == 'green'\n"
        "  failed: status.colour == 'red'\n"
    )
    _, found = judged(capsys, "--rules", str(rules), stdin=json.dumps(WIDGET))
    assert found[0]["state"] == "Failed"
    assert "rules.yaml" in found[0]["rule"] or "layer" in found[0]["rule"]


def test_the_config_map_of_the_cluster_serves_as_a_rules_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rules = tmp_path / "rules.json"
    text = "- {for: [example.org/Widget], current: \"status.colour == 'green'\", message: \"'it is ' + status.colour\"}"
    rules.write_text(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "data": {"widgets.yaml": text}}))
    _, found = judged(capsys, "--rules", str(rules), stdin=json.dumps(WIDGET))
    assert (found[0]["state"], found[0]["message"]) == ("InProgress", "it is red")
    assert found[0]["rule"] == "widgets.yaml[0]"


def test_an_unknown_annotation_is_warned_of(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "widget.json"
    metadata = {**WIDGET["metadata"], "annotations": {"clusterstack.dev/health": "of course"}}
    path.write_text(json.dumps({**WIDGET, "metadata": metadata}))
    assert main(["judge", "-f", str(path)]) == 0
    assert "'of course'" in capsys.readouterr().err


def test_a_rule_that_does_not_compile_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("- {apiVersion: example.org/v1, kind: Widget, current: 'status.colour =='}\n")
    assert main(["judge", "-f", str(rules), "--rules", str(rules)]) != 0
    path = tmp_path / "widget.json"
    path.write_text(json.dumps(WIDGET))
    assert main(["judge", "-f", str(path), "--rules", str(rules)]) == 2
    assert "rules.yaml" in capsys.readouterr().err


def test_the_exit_code_tells_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert judged(capsys, "--exit-code", stdin=json.dumps(DEPLOYMENT))[0] == 1
    assert judged(capsys, "--exit-code", stdin=json.dumps(READY))[0] == 0


def test_the_table_ends_with_a_count(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "objects.json"
    path.write_text(json.dumps(DEPLOYMENT) + json.dumps(READY))
    assert main(["judge", "-f", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["OBJECT", "STATE", "REASON", "MESSAGE", "RULE"]
    assert lines[-1] == "2 objects: 1 Current, 1 InProgress"


def test_nonsense_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text in ("{", '{"a": 1}', '{"apiVersion": "v1", "kind": "Pod"} nonsense'):
        path.write_text(text)
        assert main(["judge", "-f", str(path)]) == 2
        assert str(path) in capsys.readouterr().err
    assert main(["judge", "-f", str(path), "--policy", "lax"]) == 2


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier!=db", True),
        ("app in (web, api),tier notin (db)", True),
        ("app notin (web)", False),
        ("app in (api)", False),
        ("app", True),
        ("!app", False),
        ("!tier,app=web", True),
        ("tier=db", False),
    ],
)
def test_selectors_match_as_kubernetes_does(selector: str, expected: bool) -> None:
    assert matches(selector, {"app": "web"}) is expected
