"""Helm's marks on objects."""

from __future__ import annotations

from typing import Any

import pytest

from clusterstack.helm.ownership import conflict, kept, owner, stamp, with_common

DEPLOYMENT: dict[str, Any] = {
    "kind": "Deployment",
    "metadata": {"name": "x", "labels": {"app": "x", "app.kubernetes.io/managed-by": "other"}},
    "spec": {"template": {"metadata": {"labels": {"app": "x"}}}},
}


def test_a_stamped_object_belongs_to_its_release() -> None:
    stamped = stamp(DEPLOYMENT, release_name="web", release_namespace="apps")
    assert owner(stamped) == ("apps", "web")
    assert conflict(stamped, release_name="web", release_namespace="apps") == ""
    assert conflict(stamped, release_name="web", release_namespace="other") == "apps/web"
    assert stamped["metadata"]["labels"]["app"] == "x"


def test_stamping_changes_neither_the_original_nor_the_pod_template() -> None:
    stamped = with_common(DEPLOYMENT, {"team": "a"}, {"note": "b"})
    assert "team" not in DEPLOYMENT["metadata"]["labels"]
    assert stamped["spec"] == DEPLOYMENT["spec"]
    assert stamped["metadata"]["annotations"] == {"note": "b"}


@pytest.mark.parametrize("missing", ["label", "name", "namespace"])
def test_an_object_without_all_marks_belongs_to_nobody(missing: str) -> None:
    stamped: dict[str, Any] = stamp({"kind": "X"}, release_name="web", release_namespace="apps")
    if missing == "label":
        stamped["metadata"]["labels"].clear()
    else:
        del stamped["metadata"]["annotations"][f"meta.helm.sh/release-{missing}"]
    assert owner(stamped) is None
    assert conflict(stamped, release_name="x", release_namespace="y") == ""


@pytest.mark.parametrize(("policy", "expected"), [("keep", True), (" Keep ", True), ("delete", False), (None, False)])
def test_keep_is_read_whatever_its_case(policy: str | None, expected: bool) -> None:
    annotations = {} if policy is None else {"helm.sh/resource-policy": policy}
    assert kept({"metadata": {"annotations": annotations}}) is expected
