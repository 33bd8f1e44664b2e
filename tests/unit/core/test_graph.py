"""The layers' graph: order, cycles, and mistakes that a schema cannot see."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterstack.api.spec import StackSpec, parse_layer, parse_stack
from clusterstack.core.graph import Graph, Problem, find_cycle, validate
from clusterstack.errors import SpecError

SOURCE = {"name": "infra", "git": {"url": "https://example.com/infra"}}


def spec(*layers: dict[str, Any], **fields: Any) -> StackSpec:
    given = {"sources": [SOURCE], "layers": [{"path": "p", **layer} for layer in layers], **fields}
    return parse_stack({"metadata": {"name": "s"}, "spec": given}).spec


def graph(**edges: tuple[str, ...]) -> Graph:
    return Graph.of([parse_layer({"name": name, "dependsOn": list(targets)}) for name, targets in edges.items()])


def reasons(problems: tuple[Problem, ...]) -> list[str]:
    return [problem.reason for problem in problems]


@st.composite
def acyclic(draw: st.DrawFn) -> Graph:
    size = draw(st.integers(1, 12))
    names = draw(st.permutations([f"l{n}" for n in range(size)]))
    edges = {
        name: tuple(draw(st.lists(st.sampled_from(names[:rank]), unique=True, max_size=4))) if rank else ()
        for rank, name in enumerate(names)
    }
    declared = draw(st.permutations(list(names)))
    return Graph({name: edges[name] for name in declared})


@given(acyclic())
def test_each_layer_comes_after_what_it_depends_on(g: Graph) -> None:
    order = g.topological()
    assert sorted(order) == sorted(g.names)
    for name in g.names:
        assert all(order.index(target) < order.index(name) for target in g.dependencies(name))


@given(acyclic())
def test_levels_hold_each_layer_once_and_reversed_tear_down_dependants_first(g: Graph) -> None:
    depth = {name: number for number, level in enumerate(g.levels()) for name in level}
    assert set(depth) == set(g.names)
    for name in g.names:
        assert depth[name] == max((depth[target] + 1 for target in g.dependencies(name)), default=0)


@given(acyclic())
def test_without_a_cycle_none_is_found_and_nothing_is_broken(g: Graph) -> None:
    assert g.cycle() == ()
    assert g.broken() == frozenset()


@given(acyclic(), st.data())
def test_closing_a_chain_makes_a_cycle_that_follows_real_edges(g: Graph, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(g.names))
    target = data.draw(st.sampled_from(sorted(g.descendants(name) | {name})))
    closed = g.extended({name: (target,)})
    cycle = closed.cycle()
    assert cycle[0] == cycle[-1]
    assert all(after in closed.dependencies(before) for before, after in pairwise(cycle))
    assert set(cycle) <= closed.broken()
    with pytest.raises(SpecError, match="wait for each other") as caught:
        closed.topological()
    assert caught.value.reason == "DependencyCycle"


@given(acyclic())
def test_dependants_are_dependencies_read_backwards(g: Graph) -> None:
    for name in g.names:
        assert set(g.dependants(name)) == {other for other in g.names if name in g.dependencies(other)}
        assert g.descendants(name) == {other for other in g.names if name in g.ancestors(other)}


def test_ties_keep_the_order_of_declaration() -> None:
    assert graph(z=(), a=(), m=("z",), b=("z",)).topological() == ("z", "a", "m", "b")


def test_a_cycle_is_told_in_order_from_the_layer_declared_first() -> None:
    assert graph(x=("a",), a=("b",), b=("c",), c=("a",)).cycle() == ("a", "b", "c", "a")
    assert find_cycle({"a": ("a",)}) == ("a", "a")


def test_layers_that_wait_for_a_cycle_are_broken_and_others_are_not() -> None:
    g = graph(free=(), a=("b",), b=("a",), behind=("a", "free"))
    assert g.broken() == {"a", "b", "behind"}


def test_edges_between_releases_can_close_a_cycle_that_layers_alone_do_not() -> None:
    g = graph(apps=("base",), base=())
    assert g.extended({"base": ("apps",)}).cycle() == ("apps", "base", "apps")
    assert g.cycle() == ()


def test_after_orders_like_depends_on() -> None:
    layers = [parse_layer({"name": "b", "after": ["a"]}), parse_layer({"name": "a"})]
    assert Graph.of(layers).topological() == ("a", "b")


def test_a_thousand_layers_in_a_row_are_ordered_at_once() -> None:
    names = [f"l{n}" for n in range(1000)]
    g = Graph({name: (names[n - 1],) if n else () for n, name in enumerate(names)})
    assert g.topological() == tuple(names)
    assert len(g.descendants("l0")) == 999


def test_a_sound_spec_has_no_problems() -> None:
    assert validate(spec({"name": "a"}, {"name": "b", "dependsOn": ["a"], "after": ["a"]})) == ()


def test_a_cycle_is_reported_with_its_layers() -> None:
    (problem,) = validate(
        spec({"name": "a", "dependsOn": ["b"]}, {"name": "b", "after": ["c"]}, {"name": "c", "dependsOn": ["a"]})
    )
    assert problem.reason == "DependencyCycle"
    assert "a → b → c → a" in problem.message


def test_a_self_dependency_is_reported_once_and_not_also_as_a_cycle() -> None:
    assert reasons(validate(spec({"name": "a", "dependsOn": ["a"]}))) == ["SelfDependency"]


def test_an_unknown_dependency_names_layer_and_target() -> None:
    (problem,) = validate(spec({"name": "a", "dependsOn": ["gone"]}))
    assert (problem.reason, problem.layer, problem.path) == ("UnknownDependency", "a", "spec.layers[a].dependsOn")
    assert "gone" in str(problem)


def test_a_layer_with_nothing_in_it_is_reported() -> None:
    assert reasons(validate(spec({"name": "a", "path": None}))) == ["EmptyLayer"]
    assert validate(spec({"name": "a", "path": None, "manifests": [{"kind": "A"}]})) == ()


def test_duplicate_names_are_reported() -> None:
    assert reasons(validate(spec({"name": "a"}, {"name": "a"}))) == ["DuplicateName"]
    assert reasons(validate(spec({"name": "a"}, sources=[SOURCE, SOURCE]))) == ["DuplicateName"]


def test_sources_must_be_known_and_unambiguous() -> None:
    two = [SOURCE, {**SOURCE, "name": "apps"}]
    assert reasons(validate(spec({"name": "a", "source": "x"}))) == ["UnknownSource"]
    assert reasons(validate(spec({"name": "a"}, sources=[]))) == ["UnknownSource"]
    assert reasons(validate(spec({"name": "a"}, sources=two))) == ["AmbiguousSource"]
    assert validate(spec({"name": "a"}, sources=two, defaults={"source": "apps"})) == ()
    assert validate(spec({"name": "a", "source": "apps"}, sources=two)) == ()


def test_exactly_one_of_layers_and_flux_is_needed() -> None:
    flux = {"path": "clusters/home"}
    assert reasons(validate(spec({"name": "a"}, flux=flux))) == ["LayersAndFlux"]
    only_flux = parse_stack({"metadata": {}, "spec": {"sources": [SOURCE], "flux": flux}}).spec
    assert validate(only_flux) == ()
    assert reasons(validate(parse_stack({"metadata": {}, "spec": {}}).spec)) == ["NoLayers"]
    assert reasons(validate(parse_stack({"metadata": {}, "spec": {"flux": flux}}).spec)) == ["UnknownSource"]


def test_the_layers_of_a_flux_tree_are_checked_like_declared_ones() -> None:
    tree = parse_stack({"metadata": {}, "spec": {"sources": [SOURCE], "flux": {"path": "c"}}}).spec
    (problem,) = validate(tree, [parse_layer({"name": "apps", "path": "apps", "dependsOn": ["infra"]})])
    assert (problem.reason, problem.path) == ("UnknownDependency", "flux[apps].dependsOn")
