"""The cache: newest wins, in whatever order news arrives."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from clusterstack.core.objects import ObjectRef
from clusterstack.kube.facts import Bus, object_key
from clusterstack.kube.live import Live, project
from clusterstack.kube.resource import Resource
from clusterstack.kube.store import Store, View

KIND = Resource("example.dev", "v1", "Thing", "things", namespaced=True)
OTHER_VERSION = Resource("example.dev", "v2", "Thing", "things", namespaced=True)
REF = ObjectRef("example.dev", "Thing", "shop", "web")


def thing(revision: int, *, uid: str = "u1", managed: bool = True, resource: Resource = KIND) -> Live:
    labels = {"managed": "yes"} if managed else {}
    metadata = {"namespace": "shop", "name": "web", "uid": uid, "resourceVersion": str(revision), "labels": labels}
    return project(resource, {"metadata": metadata, "spec": {"revision": revision}})


def managed_view() -> View:
    return View(KIND.group_kind, lambda live: "managed" in live.labels)


def opened() -> tuple[Store, View, Bus]:
    bus = Bus()
    store, view = Store(bus), managed_view()
    store.open(view)
    return store, view, bus


def test_older_news_is_dropped_and_told_to_nobody() -> None:
    store, view, bus = opened()
    assert store.put(view, thing(5))
    seen = bus.now
    assert not store.put(view, thing(4))
    assert not store.put(view, thing(5))
    assert not bus.changed_since(object_key(REF), seen)
    assert store.get(REF) == thing(5)


def test_the_answer_of_a_write_is_known_before_its_event() -> None:
    store, view, _bus = opened()
    store.put(view, thing(5))
    assert store.absorb(thing(7)) == thing(7)
    assert not store.put(view, thing(6))
    assert store.get(REF) == thing(7)
    assert store.absorb(thing(6)) == thing(7)


def test_the_watch_s_version_replaces_the_same_state_in_another_version() -> None:
    store, view, _bus = opened()
    store.absorb(thing(7, resource=OTHER_VERSION))
    assert store.put(view, thing(7))
    known = store.get(REF)
    assert known is not None
    assert known.api_version == "example.dev/v1"


def test_what_no_watch_would_see_is_not_kept() -> None:
    store, _view, _bus = opened()
    foreign = thing(7, managed=False)
    assert store.absorb(foreign) == foreign
    assert store.get(REF) is None


def test_a_late_event_cannot_raise_the_dead() -> None:
    store, view, bus = opened()
    store.put(view, thing(5))
    seen = bus.now
    store.forget(REF, "u1")
    assert bus.changed_since(object_key(REF), seen)
    assert not store.put(view, thing(6))
    assert store.absorb(thing(8)) is None
    assert store.get(REF) is None
    assert store.put(view, thing(9, uid="u2"))  # somebody made it anew
    assert store.tombstone(REF) is None


def test_forgetting_one_object_does_not_touch_its_successor() -> None:
    store, view, _bus = opened()
    store.put(view, thing(9, uid="u2"))
    store.forget(REF, "u1")
    assert store.get(REF) == thing(9, uid="u2")


def test_a_stripped_label_looks_like_a_deletion_and_can_come_back() -> None:
    store, view, _bus = opened()
    store.put(view, thing(5))
    store.remove(view, REF, 6)
    assert store.get(REF) is None
    grave = store.tombstone(REF)
    assert grave is not None
    assert not grave.final
    assert not store.put(view, thing(5))
    assert store.put(view, thing(7))


def test_how_a_job_was_last_seen_is_remembered_and_of_others_only_that_they_are_gone() -> None:
    jobs = Resource("batch", "v1", "Job", "jobs", namespaced=True)
    store, view = Store(Bus()), View(jobs.group_kind, lambda _: True)
    store.open(view)
    store.put(view, thing(5, resource=jobs))
    store.put(view, thing(6, resource=jobs))
    store.remove(view, thing(6, resource=jobs).ref, 7)
    grave = store.tombstone(thing(6, resource=jobs).ref)
    assert grave is not None
    assert grave.last == thing(6, resource=jobs)
    other, managed, _bus = opened()
    other.put(managed, thing(5))
    other.remove(managed, REF, 6)
    grave = other.tombstone(REF)
    assert grave is not None
    assert grave.last is None


def test_an_object_seen_by_two_watches_stays_until_neither_sees_it() -> None:
    store, view, _bus = opened()
    by_name = View(KIND.group_kind, lambda live: live.ref.name == "web")
    store.open(by_name)
    store.put(view, thing(5))
    store.put(by_name, thing(5))
    store.remove(view, REF, 6)
    assert store.get(REF) == thing(5)
    assert store.members(view) == ()
    store.remove(by_name, REF, 6)
    assert store.get(REF) is None


def test_a_list_begun_before_a_write_does_not_delete_what_was_written() -> None:
    store, view, _bus = opened()
    store.put(view, thing(5))
    store.absorb(thing(9))
    store.relisted(view, (), 8)
    assert store.get(REF) == thing(9)
    store.relisted(view, (), 10)
    assert store.get(REF) is None


def test_a_server_restored_from_a_backup_is_believed() -> None:
    store, view, bus = opened()
    store.put(view, thing(50))
    store.forget(ObjectRef("example.dev", "Thing", "shop", "other"), "u9")
    seen = bus.now
    store.rewind(view)
    assert store.get(REF) is None
    assert bus.changed_since(object_key(REF), seen)
    assert store.put(view, thing(5))


def test_a_closed_watch_leaves_nothing() -> None:
    store, view, _bus = opened()
    store.put(view, thing(5))
    store.close(view)
    assert store.get(REF) is None
    assert (store._kinds, store._views) == ({}, {})


@settings(deadline=None)
@given(st.lists(st.sampled_from(["write", "delete"]), min_size=1, max_size=12), st.integers(0, 2**32), st.booleans())
def test_shuffled_answers_among_ordered_events_end_at_the_truth(
    history: list[str], seed: int, answers_last: bool
) -> None:
    """Events come in order, answers of our writes at any time after the write: the end is what the server has."""
    store, view, _bus = opened()
    chance = random.Random(seed)
    events: list[tuple[str, Live]] = []
    truth: Live | None = None
    uid = 0
    for revision, step in enumerate(history, start=10):
        if step == "write":
            uid += truth is None
            truth = thing(revision, uid=f"u{uid}")
            events.append(("put", truth))
        elif truth is not None:
            events.append(("remove", thing(revision, uid=truth.uid)))
            truth = None
    answers = [live for kind, live in events if kind == "put"]
    for kind, live in events:
        while not answers_last and answers and answers[0].revision <= live.revision and chance.random() < 0.5:
            store.absorb(answers.pop(0))
        if kind == "put":
            store.put(view, live)
        else:
            store.remove(view, live.ref, live.revision)
    chance.shuffle(answers)
    for live in answers:
        store.absorb(live)
    assert store.get(REF) == truth
