"""What may be deleted and made anew, because a field of it cannot be changed."""

from __future__ import annotations

import pytest

from clusterstack.core.inventory import Entry, Origin
from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.core.recreate import recreatable

JOB = ObjectRef("batch", "Job", "apps", "migrate")
FORCED: Manifest = {"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/force": "Enabled"}}}


def created(ref: ObjectRef) -> Entry:
    return Entry(ref, "v1", origin=Origin.CREATED, uid="1")


def test_a_job_that_we_created_is_recreated_without_asking() -> None:
    assert recreatable(created(JOB), {}, force=False)


def test_nothing_that_we_did_not_create_is_recreated() -> None:
    assert not recreatable(Entry(JOB, "batch/v1", origin=Origin.ADOPTED, uid="1"), FORCED, force=True)
    assert not recreatable(None, FORCED, force=True)


def test_anything_else_needs_the_layers_or_the_objects_word() -> None:
    service = created(ObjectRef("", "Service", "apps", "web"))
    assert not recreatable(service, {}, force=False)
    assert recreatable(service, {}, force=True)
    assert recreatable(service, FORCED, force=False)


@pytest.mark.parametrize(
    "ref",
    [
        ObjectRef("", "PersistentVolumeClaim", "apps", "data"),
        ObjectRef("apps", "StatefulSet", "apps", "db"),
        ObjectRef("", "Namespace", "", "apps"),
        ObjectRef("apiextensions.k8s.io", "CustomResourceDefinition", "", "things.example.com"),
    ],
    ids=lambda ref: ref.kind,
)
def test_what_holds_data_is_never_recreated(ref: ObjectRef) -> None:
    assert not recreatable(created(ref), FORCED, force=True)
