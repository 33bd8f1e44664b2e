"""Who has an object that several units render."""

from __future__ import annotations

from clusterstack.core.objects import ObjectRef
from clusterstack.engine.claims import Claims, Holder

PAGE, OTHER = ObjectRef("", "ConfigMap", "web", "page"), ObjectRef("", "ConfigMap", "web", "other")
MANIFESTS, ONE, TWO = Holder("base", ""), Holder("apps", "web/one"), Holder("apps", "web/two")


def test_the_first_release_that_renders_an_object_has_it() -> None:
    claims = Claims()
    assert claims.claim(ONE, [PAGE]) == {}
    assert claims.claim(TWO, [PAGE, OTHER]) == {PAGE: ONE}
    assert claims.claim(ONE, [PAGE]) == {}


def test_manifests_take_an_object_from_a_release_which_hears_of_it() -> None:
    claims = Claims()
    claims.claim(ONE, [PAGE])
    assert claims.claim(MANIFESTS, [PAGE]) == {}
    assert claims.news() == {"web/one"}
    assert claims.claim(ONE, [PAGE]) == {PAGE: MANIFESTS}


def test_what_a_unit_no_longer_renders_is_free_for_the_next() -> None:
    claims = Claims()
    claims.claim(ONE, [PAGE, OTHER])
    claims.claim(ONE, [OTHER])
    assert claims.news() == {""}
    assert claims.news() == frozenset()
    assert claims.claim(TWO, [PAGE]) == {}


def test_a_unit_that_is_no_more_claims_nothing() -> None:
    claims = Claims()
    claims.claim(ONE, [PAGE])
    claims.keep([TWO])
    assert claims.news() == {""}
    assert claims.claim(TWO, [PAGE]) == {}


def test_what_the_inventory_knew_at_the_start_holds() -> None:
    claims = Claims()
    claims.seed(PAGE, ONE)
    claims.seed(PAGE, TWO)
    assert claims.claim(TWO, [PAGE]) == {PAGE: ONE}
    claims.claim(ONE, [])
    assert claims.claim(TWO, [PAGE]) == {}
