"""Hooks: their order, their delete policies, their failures, and what a crash in the middle of one comes to."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.chartserver import chart

from .bed import Bed, Manifest, release

pytestmark = pytest.mark.e2e

# A hook Job whose pod fits no node until a node gets the label, so that the test decides when the hook ends.
HOOKS = """
{{- range $name, $hook := .Values.hooks }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $name }}
  annotations:
    helm.sh/hook: {{ $hook.on }}
    helm.sh/hook-weight: {{ $hook.weight | default 0 | quote }}
    {{- with $hook.delete }}
    helm.sh/hook-delete-policy: {{ . }}
    {{- end }}
spec:
  backoffLimit: 0
  {{- with $hook.deadline }}
  activeDeadlineSeconds: {{ . }}
  {{- end }}
  template:
    spec:
      restartPolicy: Never
      {{- with $hook.gate }}
      nodeSelector: { {{ . | quote }}: open }
      {{- end }}
      containers: [{name: main, image: registry.example.com/hook}]
{{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: page}
data: {text: "{{ .Values.text }}"}
"""
ACCOUNT = """
apiVersion: v1
kind: ServiceAccount
metadata:
  name: runner
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-weight: "-10"}
"""


@pytest.fixture
def hooked(bed: Bed) -> str:
    """A namespace for the chart `hooked`, which is published."""
    files = {"templates/hooks.yaml": HOOKS, "templates/account.yaml": ACCOUNT, "values.yaml": "hooks: {}\ntext: hi\n"}
    bed.charts.publish(chart("hooked", "1.0.0", files))
    return bed.namespace()


def app(bed: Bed, ns: str, hooks: Manifest, text: str = "hi", **fields: Any) -> list[Manifest]:
    return [release(bed, "hooked", ns, values={"hooks": hooks, "text": text}, **fields)]


def open_gate(bed: Bed, gate: str) -> None:
    patch = {"metadata": {"labels": {gate: "open"}}}
    bed.api.request("PATCH", "/api/v1/nodes/node-0", patch, content_type="application/merge-patch+json")


def jobs(bed: Bed, ns: str) -> set[str]:
    return {item["metadata"]["name"] for item in bed.api.get(f"/apis/batch/v1/namespaces/{ns}/jobs")["items"]}


def job_path(ns: str, name: str) -> str:
    return f"/apis/batch/v1/namespaces/{ns}/jobs/{name}"


def page_path(ns: str) -> str:
    return f"/api/v1/namespaces/{ns}/configmaps/page"


def record(bed: Bed, ns: str) -> str:
    """The newest record's revision and status."""
    found = bed.api.get(f"/api/v1/namespaces/{ns}/secrets?labelSelector=owner%3Dhelm,name%3Dhooked")["items"]
    labels = [item["metadata"]["labels"] for item in found]
    newest: dict[str, str] = max(labels, key=lambda item: int(item["version"]), default={})
    return f"{newest.get('version', '')} {newest.get('status', '')}".strip()


def test_hooks_run_by_weight_around_the_objects_and_are_deleted_as_they_say(bed: Bed, hooked: str) -> None:
    hooks = {
        "second": {"on": "pre-install", "weight": 5, "delete": "hook-succeeded"},
        "first": {"on": "pre-install", "weight": -5},
        "third": {"on": "post-install", "delete": "before-hook-creation"},
        "never": {"on": "pre-rollback"},
    }
    since = bed.plane.audit_offset()
    stack = bed.stack({"name": "app", "charts": app(bed, hooked, hooks)})
    stack.ready()
    writes = [line.replace(f"{hooked}/", "") for line in bed.writes(since) if hooked in line and "secrets" not in line]
    assert writes == [
        "create serviceaccounts runner",
        "create jobs first",
        "create jobs second",
        "delete jobs second",
        "patch configmaps page",
        "create jobs third",
    ]
    assert jobs(bed, hooked) == {"first", "third"}
    assert record(bed, hooked) == "1 deployed"


def test_the_record_is_pending_and_the_layer_names_the_hook_while_it_runs(bed: Bed, hooked: str) -> None:
    gate = f"gate.example.com/{hooked}"
    stack = bed.stack({"name": "app", "charts": app(bed, hooked, {"slow": {"on": "pre-install", "gate": gate}})})
    bed.until(job_path(hooked, "slow"), bool)
    assert "slow" in stack.phase("app", "Progressing", says="hook")["message"]
    assert record(bed, hooked) == "1 pending-install"
    assert bed.api.find(page_path(hooked)) is None
    open_gate(bed, gate)
    stack.ready()
    assert record(bed, hooked) == "1 deployed"


def test_an_operator_killed_in_the_middle_of_a_hook_goes_on_with_it(bed: Bed, hooked: str) -> None:
    gate = f"gate.example.com/{hooked}"
    hooks = {"fast": {"on": "pre-install", "weight": -1}, "slow": {"on": "pre-install", "gate": gate}}
    stack = bed.stack({"name": "app", "charts": app(bed, hooked, hooks)})
    before = bed.until(job_path(hooked, "slow"), bool)["metadata"]["uid"]
    fast = bed.api.get(job_path(hooked, "fast"))["metadata"]["uid"]
    bed.restart(crash=True)
    stack.phase("app", "Progressing", says="slow")
    open_gate(bed, gate)
    stack.ready()
    assert bed.api.get(job_path(hooked, "slow"))["metadata"]["uid"] == before
    assert bed.api.get(job_path(hooked, "fast"))["metadata"]["uid"] == fast
    assert record(bed, hooked) == "1 deployed"


def test_the_operator_ends_at_once_in_the_middle_of_a_hook(bed: Bed, hooked: str) -> None:
    gate = f"gate.example.com/{hooked}"
    stack = bed.stack({"name": "app", "charts": app(bed, hooked, {"slow": {"on": "pre-install", "gate": gate}})})
    bed.until(job_path(hooked, "slow"), bool)
    assert bed.operator.stop() == 0
    open_gate(bed, gate)
    bed.operator.start()
    stack.ready()


def test_a_failing_hook_is_retried_as_a_new_revision_and_heals_with_its_values(bed: Bed, hooked: str) -> None:
    broken = {"check": {"on": "pre-install,pre-upgrade", "gate": "gate.example.com/never", "deadline": 1}}
    stack = bed.stack({"name": "app", "charts": app(bed, hooked, broken)})
    status = stack.phase("app", "Failed", says="check")
    assert "deadline" in status["message"].lower()
    bed.until(stack.layer_path("app"), lambda found: "attempt 2" in found["status"]["message"])
    assert record(bed, hooked) in ("2 failed", "3 pending-install", "3 failed")
    assert bed.api.find(page_path(hooked)) is None
    stack.edit("app", charts=app(bed, hooked, {"check": {"on": "pre-install,pre-upgrade"}}))
    stack.ready()
    assert record(bed, hooked).endswith("deployed")
    assert bed.api.get(page_path(hooked))["data"] == {"text": "hi"}


def test_a_hook_that_fails_on_an_upgrade_leaves_the_old_revision_in_place(bed: Bed, hooked: str) -> None:
    stack = bed.stack({"name": "app", "charts": app(bed, hooked, {})})
    stack.ready()
    broken = {"check": {"on": "pre-upgrade", "gate": "gate.example.com/never", "deadline": 1}}
    stack.edit("app", charts=app(bed, hooked, broken, text="new"))
    stack.phase("app", "Failed", says="check")
    assert bed.api.get(page_path(hooked))["data"] == {"text": "hi"}
    bed.api.delete(page_path(hooked))  # what is deployed is still kept
    bed.until(page_path(hooked), lambda found: found is not None and found["data"] == {"text": "hi"})
    stack.edit("app", charts=app(bed, hooked, {}, text="newer"))
    stack.ready()
    assert bed.api.get(page_path(hooked))["data"] == {"text": "newer"}


def test_a_removed_release_is_uninstalled_with_its_hooks(bed: Bed, hooked: str) -> None:
    gate = f"gate.example.com/{hooked}"
    hooks = {"bye": {"on": "pre-delete", "gate": gate}, "gone": {"on": "post-delete", "delete": "hook-succeeded"}}
    stack = bed.stack(
        {"name": "base", "manifests": [_page("stays", hooked)]},
        {"name": "app", "charts": app(bed, hooked, hooks)},
    )
    stack.ready()
    stack.edit("app", charts=[], manifests=[_page("other", hooked)])
    bed.until(job_path(hooked, "bye"), bool)
    assert record(bed, hooked) == "1 uninstalling"
    assert bed.api.find(page_path(hooked)) is not None
    open_gate(bed, gate)
    bed.until(page_path(hooked), lambda found: found is None)
    wait = f"/api/v1/namespaces/{hooked}/secrets/sh.helm.release.v1.hooked.v1"
    bed.until(wait, lambda found: found is None)
    assert jobs(bed, hooked) == {"bye"}
    stack.ready()


def _page(name: str, ns: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": ns}}
