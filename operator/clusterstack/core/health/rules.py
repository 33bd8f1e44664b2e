"""Health rules: CEL expressions per kind. One schema for the bundled library and for users, Flux's own shape included.

    for: [cert-manager.io/Certificate]   group/Kind, group/*, *.parent.group/* or v1/Kind for the core group
    from: cert-manager v1.19 …           the upstream types that the rule and its samples were written from
    like: ready                          takes what it does not say itself from a named shape of library/shapes.yaml
    current: "…"                         mandatory; besides: inProgress, failed, degraded, suspended
    requires: [{kind: group/Kind, name: <CEL>, namespace: <CEL>}]     other objects that must be Current as well
    children: [apps/Deployment]          owned objects that must be Current as well
    events: true                         its controller tells what is wrong in Events only
    t: {current: [{status: …}], …}       samples, for the tests; a sample's own `for` and `from` narrow the rule's,
                                         `alone: true` leaves out what it requires

Users' rules may have Flux's shape instead, `apiVersion` and `kind` for `for`, with degraded, suspended and message too.

A RuleSet holds rules on four levels; on each, an exact kind beats a group, a group beats those that it is part of
(`*.services.k8s.aws/*`), and the first match in order wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from clusterstack.core.health.cel import Compiler, EvaluationError, Program, Roots, merge_roots, project
from clusterstack.core.health.fields import section, text
from clusterstack.core.health.verdict import GRACE, State
from clusterstack.core.objects import GroupKind, Manifest, group_of
from clusterstack.core.yaml import load_value
from clusterstack.errors import SpecError

ANY = "*"

ORDER = (
    ("in_progress", State.IN_PROGRESS),
    ("failed", State.FAILED),
    ("suspended", State.SUSPENDED),
    ("current", State.CURRENT),
    ("degraded", State.DEGRADED),
)
"""The expressions in the order in which they are asked; the first that holds decides."""

_FIELDS = MappingProxyType({state: to_camel(name) for name, state in ORDER})

_COMPLAINTS = MappingProxyType({"missing": "is missing", "extra_forbidden": "is no field of a health rule"})


class Level(IntEnum):
    """Who a rule comes from; a lower level wins."""

    LAYER = 0
    STACK = 1
    CLUSTER = 2
    BUNDLED = 3


class RequirementSpec(BaseModel):
    """Another object that must be Current; name and namespace are CEL on the judged object."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    name: str
    namespace: str = "has(metadata.namespace) ? metadata.namespace : ''"


class RuleSpec(BaseModel):
    """One rule as written; every expression is CEL."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    kinds: list[str] = Field(alias="for", min_length=1)
    source: str = Field(default="", alias="from")
    name: str = ANY
    namespace: str = ANY
    when: str | None = None
    current: str
    in_progress: str | None = None
    failed: str | None = None
    degraded: str | None = None
    suspended: str | None = None
    info: str | None = None
    message: str | None = None
    ignore_observed_generation: bool = False
    requires: list[RequirementSpec] = []
    children: list[str] = []
    events: bool = False
    grace: float = Field(default=GRACE, ge=0, le=3600)
    t: dict[str, list[dict[str, Any]]] = {}


class FluxSpec(BaseModel):
    """One of Flux's `healthCheckExprs`, or one with more to say; without a kind it is for the whole group."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    api_version: str
    kind: str = ANY
    current: str
    in_progress: str | None = None
    failed: str | None = None
    degraded: str | None = None
    suspended: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Requirement:
    """Another object that must be Current, once its name can be told."""

    kind: GroupKind
    name: Program
    namespace: Program


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule. `checks` are its expressions in the order of asking; `flux`: on the bare object, like Flux."""

    label: str
    kinds: tuple[GroupKind, ...]
    checks: tuple[tuple[State, Program], ...]
    current: Program
    roots: Roots
    name: str = ANY
    namespace: str = ANY
    when: Program | None = None
    info: Program | None = None
    message: Program | None = None
    ignore_observed_generation: bool = False
    requires: tuple[Requirement, ...] = ()
    children: tuple[GroupKind, ...] = ()
    events: bool = False
    grace: float = GRACE
    flux: bool = False
    defaults: tuple[str, ...] = ()

    @property
    def constant(self) -> bool:
        """Whether the rule needs no look at the object: it is Current once it exists."""
        return len(self.checks) == 1 and self.current.constant is True and not self.info

    def data(self, obj: Manifest) -> dict[str, Any]:
        """The part of an object that the rule's expressions look at."""
        return project(obj, self.roots, defaults=self.defaults)


Table = Mapping[GroupKind, tuple[Rule, ...]]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules that apply to a layer's objects. Immutable; `with_*` give extended copies.

    `warnings` tell which of the users' expressions fail on an object without status, where a `has()` would help.
    """

    compiler: Compiler
    levels: tuple[Table, Table, Table, Table] = ({}, {}, {}, {})
    warnings: tuple[str, ...] = field(default=())

    @classmethod
    def bundled(cls) -> RuleSet:
        """The library that ships with ClusterStack: make one per process."""
        compiler = Compiler()
        rules = [_compiled(spec, compiler, f"bundled:{spec.kinds[0]}") for spec in library()]
        return cls(compiler, ({}, {}, {}, _table({}, rules)))

    def with_expressions(self, expressions: Sequence[Mapping[str, Any]], *, source: str) -> RuleSet:
        """Add a layer's `healthCheckExprs`, Flux's shape or ours; raises SpecError `RuleInvalid`."""
        return self.with_rules(expressions, source=source, level=Level.LAYER)

    def with_rules(self, rules: Sequence[Mapping[str, Any]], *, source: str, level: Level = Level.STACK) -> RuleSet:
        """Add users' rules on a level; `source` says where they are from, in errors. Raises SpecError `RuleInvalid`."""
        return self._grown([self._compile(raw, f"{source}[{index}]") for index, raw in enumerate(rules)], level)

    def with_valid(
        self, rules: Sequence[Mapping[str, Any]], *, source: str, level: Level
    ) -> tuple[RuleSet, tuple[str, ...]]:
        """Add those of users' rules that are in order; and what is wrong with each of the others."""
        compiled: list[Rule] = []
        problems: list[str] = []
        for index, raw in enumerate(rules):
            try:
                compiled.append(self._compile(raw, f"{source}[{index}]"))
            except SpecError as error:
                problems.append(str(error))
        return self._grown(compiled, level), tuple(problems)

    def _grown(self, compiled: Sequence[Rule], level: Level) -> RuleSet:
        levels = list(self.levels)
        levels[level] = _table(levels[level], compiled)
        first, second, third, fourth = levels
        warnings = (*self.warnings, *(warning for rule in compiled for warning in self._rehearse(rule)))
        return replace(self, levels=(first, second, third, fourth), warnings=warnings)

    def find(self, obj: Manifest, *, lowest: Level = Level.BUNDLED) -> Rule | None:
        """The rule for an object; `lowest` ends the search at that level."""
        keys = _keys(group_of(obj["apiVersion"]), obj["kind"])
        for table in self.levels[: lowest + 1]:
            for key in keys if table else ():
                for rule in table.get(key, ()):
                    if self._selects(rule, obj):
                        return rule
        return None

    def _compile(self, raw: Mapping[str, Any], where: str) -> Rule:
        flux = "for" not in raw
        try:
            return (
                _flux(FluxSpec.model_validate(raw), self.compiler, where) if flux else _ours(raw, self.compiler, where)
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            at = ".".join(str(part) for part in first["loc"])
            says = _COMPLAINTS.get(first["type"], first["msg"])
            raise SpecError(f"{where}: {at}: {says}", reason="RuleInvalid") from None

    def _selects(self, rule: Rule, obj: Manifest) -> bool:
        if rule.name == ANY and rule.namespace == ANY and rule.when is None:
            return True
        metadata = section(obj, "metadata")
        if not fnmatchcase(text(metadata, "name"), rule.name) or not fnmatchcase(
            text(metadata, "namespace"), rule.namespace
        ):
            return False
        if rule.when is None:
            return True
        try:
            return rule.when.holds(self.compiler.activation(rule.data(obj)))
        except EvaluationError:
            return False

    def _rehearse(self, rule: Rule) -> Iterator[str]:
        activation = self.compiler.activation({"metadata": {"name": "x", "generation": 1}, "spec": {}, "status": {}})
        for state, program in rule.checks:
            try:
                program.holds(activation)
            except EvaluationError as error:
                yield f"{rule.label}.{_FIELDS[state]}: fails on an object without status ({error}); guard it with has()"


@lru_cache(maxsize=4096)
def _keys(group: str, kind: str) -> tuple[GroupKind, ...]:
    """Under what a kind's rules are filed, the closest first: `a.b/Kind`, `a.b/*`, `*.b/*`."""
    parents = [f"{ANY}.{parent}" for parent in _parents(group)]
    return (GroupKind(group, kind), GroupKind(group, ANY), *(GroupKind(parent, ANY) for parent in parents))


def _parents(group: str) -> Iterator[str]:
    while "." in group:
        group = group.partition(".")[2]
        yield group


def library() -> Iterator[RuleSpec]:
    """The bundled rules as written, samples included."""
    for name, document in _documents():
        if name != "shapes.yaml":
            yield from (RuleSpec.model_validate(raw) for raw in document["rules"])


def _documents() -> Iterator[tuple[str, dict[str, Any]]]:
    folder = resources.files("clusterstack.core.health") / "library"
    shapes = shapes_of_library()
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".yaml"):
            document = load_value(entry.read_bytes(), source=entry.name)
            if "rules" in document:
                document["rules"] = [_shaped(raw, shapes, entry.name) for raw in document["rules"]]
            yield entry.name, document


def shapes_of_library() -> Mapping[str, Mapping[str, Any]]:
    """Named sets of expressions that rules refer to with `like`."""
    path = resources.files("clusterstack.core.health") / "library" / "shapes.yaml"
    shapes: Mapping[str, Mapping[str, Any]] = load_value(path.read_bytes(), source="shapes.yaml")["shapes"]
    return shapes


def _shaped(raw: Mapping[str, Any], shapes: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, Any]:
    shape = raw.get("like")
    if shape is None:
        return dict(raw)
    if shape not in shapes:
        raise SpecError(f"{where}: like: {shape!r} is none of {', '.join(sorted(shapes))}", reason="RuleInvalid")
    return {**shapes[shape], **{key: value for key, value in raw.items() if key != "like"}}


def _ours(raw: Mapping[str, Any], compiler: Compiler, where: str) -> Rule:
    shaped = _shaped(raw, shapes_of_library(), where) if "like" in raw else raw
    return _compiled(RuleSpec.model_validate(shaped), compiler, where)


def _compiled(spec: RuleSpec, compiler: Compiler, label: str) -> Rule:
    def compiled(expression: str, what: str) -> Program:
        return compiler.compile(expression, where=f"{label}.{what}")

    def optional(expression: str | None, what: str) -> Program | None:
        return None if expression is None else compiled(expression, what)

    checks = tuple(
        (state, compiled(expression, to_camel(name)))
        for name, state in ORDER
        if (expression := getattr(spec, name)) is not None
    )
    requires = tuple(
        Requirement(
            kind_of(entry.kind, label),
            compiled(entry.name, "requires.name"),
            compiled(entry.namespace, "requires.namespace"),
        )
        for entry in spec.requires
    )
    when, info, message = optional(spec.when, "when"), optional(spec.info, "info"), optional(spec.message, "message")
    programs = [program for _, program in checks] + [program for program in (when, info, message) if program]
    programs += [program for entry in requires for program in (entry.name, entry.namespace)]
    return Rule(
        label=label,
        kinds=tuple(kind_of(kind, label) for kind in spec.kinds),
        checks=checks,
        current=next(program for state, program in checks if state is State.CURRENT),
        roots=merge_roots(programs),
        name=spec.name,
        namespace=spec.namespace,
        when=when,
        info=info,
        message=message,
        ignore_observed_generation=spec.ignore_observed_generation,
        requires=requires,
        children=tuple(kind_of(kind, label) for kind in spec.children),
        events=spec.events,
        grace=spec.grace,
        defaults=("metadata", "spec", "status"),
    )


def _flux(spec: FluxSpec, compiler: Compiler, label: str) -> Rule:
    """Compile Flux's shape. Flux binds only the fields that an object has: a missing `status` is not Current."""
    expressions = spec.model_dump(exclude={"api_version", "kind"})
    rule = _compiled(RuleSpec(kinds=["x/x"], **expressions), compiler, label)
    return replace(rule, kinds=(GroupKind(group_of(spec.api_version), spec.kind),), flux=True, defaults=())


def kind_of(name: str, where: str) -> GroupKind:
    """`group/Kind`, `group/*`, `*.parent.group/*` or, for the core group, `v1/Kind`."""
    group, slash, kind = name.rpartition("/")
    if not slash or not kind or not group:
        raise SpecError(f"{where}: {name!r} is not group/Kind, group/* or v1/Kind", reason="RuleInvalid")
    return GroupKind("" if group == "v1" else group, kind)


def _table(table: Table, rules: Iterable[Rule]) -> Table:
    """A table with rules added behind those it has."""
    grown: dict[GroupKind, tuple[Rule, ...]] = dict(table)
    for rule in rules:
        for kind in rule.kinds:
            grown[kind] = (*grown.get(kind, ()), rule)
    return grown
