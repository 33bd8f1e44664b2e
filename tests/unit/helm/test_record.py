"""The release record: what goes in comes out, byte for byte the same, within a Secret's size."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from typing import Any

import pytest

from clusterstack.errors import RenderError
from clusterstack.helm.record import (
    INPUT_LABEL,
    Head,
    Hook,
    LastRun,
    Phase,
    Release,
    Status,
    begin,
    decode,
    deployed,
    encode,
    head_of,
    latest,
    next_revision,
    selector,
    surplus,
    with_status,
)

HOOK = Hook("job", "Job", "c/templates/job.yaml", "kind: Job\n", ("pre-install",), -5, ("hook-succeeded",), ())
RELEASE = Release(
    name="web",
    namespace="apps",
    revision=3,
    status=Status.DEPLOYED,
    chart={"metadata": {"name": "web", "version": "1.2.3", "appVersion": "9"}, "templates": [], "values": {"a": None}},
    config={"replicas": 2, "nested": {"ü": "<&>"}},
    manifest="---\n# Source: web/templates/x.yaml\nkind: ConfigMap\n",
    hooks=(
        HOOK,
        replace(HOOK, name="two", last_run=LastRun(Phase.SUCCEEDED, "2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z")),
    ),
    description="Upgrade complete",
    notes="Enjoy",
    first_deployed="2026-01-01T00:00:00.000001Z",
    last_deployed="2026-01-02T00:00:00Z",
    input_digest="0123456789abcdef",
    labels={"team": "a"},
)


def content(secret: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"])))
    )
    return document


def test_a_release_survives_the_record_unchanged() -> None:
    assert decode(encode(RELEASE, namespace="apps")) == RELEASE


def test_the_same_release_is_the_same_bytes() -> None:
    assert encode(RELEASE, namespace="apps") == encode(replace(RELEASE), namespace="apps")


def test_the_secret_is_named_typed_and_labelled_as_helm_does() -> None:
    secret = encode(RELEASE, namespace="store", created_at=1700000000)
    assert secret["metadata"] == {
        "name": "sh.helm.release.v1.web.v3",
        "namespace": "store",
        "labels": {
            "name": "web", "owner": "helm", "status": "deployed", "version": "3", "createdAt": "1700000000",
            INPUT_LABEL: "0123456789abcdef.v3", "team": "a",
        },
    }  # fmt: skip
    assert secret["type"] == "helm.sh/release.v1"
    assert selector("web") == "owner=helm,name=web"


def test_keys_are_those_of_helms_structs() -> None:
    document = content(encode(RELEASE, namespace="apps"))
    assert set(document) == {
        "name",
        "info",
        "chart",
        "config",
        "manifest",
        "hooks",
        "version",
        "namespace",
        "apply_method",
    }
    assert set(document["info"]) == {"first_deployed", "last_deployed", "description", "status", "notes"}
    assert document["hooks"][0]["last_run"] == {"phase": ""}
    assert document["apply_method"] == "ssa"


def test_what_a_newer_helm_wrote_besides_is_kept() -> None:
    secret = encode(RELEASE, namespace="apps")
    document = {**content(secret), "sequencing": {"x": 1}}
    document["info"]["resources"] = {"v1/Pod": []}
    secret["data"]["release"] = base64.b64encode(
        base64.b64encode(gzip.compress(json.dumps(document).encode()))
    ).decode()
    again = content(encode(decode(secret), namespace="apps"))
    assert again["sequencing"] == {"x": 1}
    assert again["info"]["resources"] == {"v1/Pod": []}


def test_a_record_without_compression_or_apply_method_is_read_as_helm_does() -> None:
    document = json.dumps({"name": "old", "version": 1, "namespace": "ns", "info": {"status": "deployed"}})
    data = base64.b64encode(base64.b64encode(document.encode())).decode()
    old = decode({"metadata": {"name": "x"}, "data": {"release": data}})
    assert (old.name, old.apply_method, old.input_digest) == ("old", "csa", "")


@pytest.mark.parametrize("data", [{}, {"release": "%%"}, {"release": "Zm9v"}, {"release": ""}])
def test_an_unreadable_record_says_which_secret(data: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"sh\.helm\.release\.v1\.web\.v1"):
        decode({"metadata": {"name": "sh.helm.release.v1.web.v1"}, "data": data})


def noise(size: int) -> str:
    """Text that gzip cannot make much smaller."""
    blocks = [json.dumps(number * 2654435761 % 2**61) for number in range(size // 19)]
    return "".join(blocks)


def test_a_chart_too_large_for_a_secret_loses_its_files_before_its_templates() -> None:
    chart = {**RELEASE.chart, "files": [{"data": noise(3_000_000)}], "templates": [{"name": "x", "data": "eA=="}]}
    document = content(encode(replace(RELEASE, chart=chart), namespace="apps"))
    assert document["chart"]["files"] is None
    assert document["chart"]["templates"] == chart["templates"]
    assert document["chart"]["metadata"] == RELEASE.chart["metadata"]


def test_a_manifest_too_large_for_a_secret_is_an_error_with_a_next_step() -> None:
    with pytest.raises(RenderError) as caught:
        encode(replace(RELEASE, manifest=noise(3_000_000)), namespace="apps")
    assert caught.value.reason == "ReleaseTooLarge"
    assert "apps/web" in str(caught.value)
    assert caught.value.hint


def test_a_head_is_read_from_labels_alone() -> None:
    secret = encode(begin(RELEASE, "post-upgrade"), namespace="apps")
    assert head_of(secret["metadata"]) == Head("web", 3, Status.DEPLOYED, "0123456789abcdef", "post-upgrade")
    assert head_of({"name": "other", "labels": secret["metadata"]["labels"]}) is None
    assert head_of({"name": "x"}) is None


def test_labels_that_helm_copied_to_a_revision_of_its_own_are_not_taken_for_ours() -> None:
    ours = encode(begin(RELEASE, "post-upgrade"), namespace="apps")["metadata"]["labels"]
    copied = encode(replace(RELEASE, revision=4, input_digest=""), namespace="apps")
    copied["metadata"]["labels"].update({key: value for key, value in ours.items() if key.startswith("clusterstack")})
    assert (decode(copied).input_digest, decode(copied).progress) == ("", "")
    assert head_of(copied["metadata"]) == Head("web", 4, Status.DEPLOYED)


def heads(*statuses: Status) -> list[Head]:
    return [Head("web", number, status) for number, status in enumerate(statuses, start=1)]


def test_history_goes_on_after_its_newest_revision() -> None:
    some = heads(Status.SUPERSEDED, Status.DEPLOYED, Status.FAILED)
    assert next_revision([]) == 1
    assert next_revision(some) == 4
    newest, good = latest(some), deployed(some)
    assert newest is not None
    assert good is not None
    assert (newest.revision, good.revision) == (3, 2)


def test_surplus_history_is_the_oldest_but_never_the_last_deployed() -> None:
    some = heads(Status.DEPLOYED, Status.FAILED, Status.FAILED, Status.FAILED)
    assert [head.revision for head in surplus(some, 2)] == [2, 3]
    assert [head.revision for head in surplus(some, 4)] == []
    assert surplus(some, 0) == ()
    assert [head.revision for head in surplus(heads(*[Status.SUPERSEDED] * 3), 2)] == [1]


def test_the_first_deployment_is_remembered() -> None:
    fresh = replace(RELEASE, first_deployed="", last_deployed="", status=Status.PENDING_INSTALL)
    first = with_status(fresh, Status.DEPLOYED, "Install complete", at="2026-01-01T00:00:00Z")
    second = with_status(first, Status.DEPLOYED, "Upgrade complete", at="2026-01-02T00:00:00Z")
    assert (second.first_deployed, second.last_deployed) == ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    gone = with_status(second, Status.UNINSTALLED, "Uninstallation complete", at="2026-01-03T00:00:00Z")
    assert (gone.deleted, gone.last_deployed) == ("2026-01-03T00:00:00Z", "2026-01-02T00:00:00Z")


def test_pending_states_are_told_apart() -> None:
    assert [status for status in Status if status.pending] == [
        Status.PENDING_INSTALL, Status.PENDING_UPGRADE, Status.PENDING_ROLLBACK
    ]  # fmt: skip
