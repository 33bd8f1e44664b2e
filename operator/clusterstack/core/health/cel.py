"""CEL for health rules: compile once, look at no more of an object than the expressions name, never run away.

The dialect is Flux's (`fluxcd/pkg/runtime/cel`): parse-only, an object's top-level fields are the variables, with the
string, set and encoder extensions and optional values. An evaluation may iterate 10,000 times (the engine's own
budget) and regular expressions are linear, so that neither can stall the process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_encoders, ext_optional, ext_strings

from clusterstack.errors import SpecError

LENGTH_LIMIT = 10_000
"""Longest expression, in characters."""

PROGRAMS = 4096
"""Programs that a compiler keeps: many rules say the same."""

Roots = Mapping[str, frozenset[str] | None]
"""Top-level field → the fields below it that are looked at; None: all of it."""

_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_NAME = re.compile(r"(?<![\w.?])[A-Za-z_]\w*")
_SELECT = re.compile(r"\s*\.\s*([A-Za-z_]\w*)(?!\w)(?!\s*\()")
_NEGATION = re.compile(r"!\s*(?!has\()[\w.]*\(")
_MISSING = re.compile(r'Key not found in map : "?([^"]*)"?|No value with name "([^"]*)"')


class EvaluationError(Exception):
    """An expression could not be evaluated on an object; `missing` names the absent field, if that was the cause."""

    def __init__(self, message: str, missing: str = "") -> None:
        super().__init__(message)
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled expression. `constant` short-cuts the literals true and false.

    `wanted` and `unwanted` are its string literals outside and only inside of negations, for messages.
    """

    text: str
    roots: Roots
    wanted: frozenset[str]
    unwanted: frozenset[str]
    constant: bool | None
    _expression: Any

    def value(self, activation: Any) -> Any:
        """Evaluate to a plain value; raises EvaluationError."""
        try:
            result = self._expression.eval(activation)
            if result.type() == cel.Type.ERROR:
                raise _explained(str(result.value()))
            return result.plain_value()
        except RuntimeError as error:
            raise _explained(str(error)) from None

    def holds(self, activation: Any) -> bool:
        """Evaluate to a truth value; raises EvaluationError, also for any other value."""
        if self.constant is not None:
            return self.constant
        result = self.value(activation)
        if not isinstance(result, bool):
            raise EvaluationError(f"gives {type(result).__name__}, not a bool")
        return result


class Compiler:
    """Compiles expressions in one environment; safe to share."""

    def __init__(self) -> None:
        self._env = cel.NewEnv(
            extensions=[ext_strings.ExtStrings(), ext_optional.ExtOptional(), ext_encoders.ExtEncoders()],
            functions=_set_functions(),
        )
        self._known: dict[str, Program] = {}

    def compile(self, text: str, *, where: str) -> Program:
        """Compile one expression; raises SpecError that names `where`, the expression and the position of the fault."""
        known = self._known.get(text)
        if known is None:
            known = self._compiled(text, where)
            if len(self._known) < PROGRAMS:
                self._known[text] = known
        return known

    def _compiled(self, text: str, where: str) -> Program:
        if len(text) > LENGTH_LIMIT:
            raise SpecError(f"{where}: expression is longer than {LENGTH_LIMIT} characters", reason="RuleInvalid")
        try:
            expression = self._env.compile(text, disable_check=True)
        except (RuntimeError, TypeError, ValueError) as error:
            raise SpecError(
                f"{where}: {_fault(str(error))} in CEL expression {_short(text)}",
                reason="RuleInvalid",
                hint="correct the expression; a field that may be absent is tested with has(status.field)",
            ) from None
        bare = text.strip()
        constant = bare == "true" if bare in ("true", "false") else None
        wanted = literals_of(without_negations(text))
        return Program(text, roots_of(text), wanted, literals_of(text) - wanted, constant, expression)

    def activation(self, data: Mapping[str, Any]) -> Any:
        """Bind an object's fields for several programs; each field is converted at most once, when first used."""
        return self._env.Activation(dict(data))


def project(obj: Mapping[str, Any], roots: Roots, *, defaults: Iterable[str] = ()) -> dict[str, Any]:
    """The part of an object that `roots` names; `defaults` are top-level fields that are empty mappings when absent.

    With defaults, a field that is null is absent as well: Go writes an empty list so, and has() would hold for it.
    """
    data: dict[str, Any] = {name: {} for name in defaults}
    nulls = not data
    for name, fields in roots.items():
        value = obj.get(name)
        if value is None:
            continue
        if fields is not None and isinstance(value, dict):
            value = {
                field: value[field] for field in fields if (field in value if nulls else value.get(field) is not None)
            }
        data[name] = value
    return data


def merge_roots(programs: Iterable[Program]) -> Roots:
    """What several programs look at together."""
    merged: dict[str, frozenset[str] | None] = {}
    for program in programs:
        for name, fields in program.roots.items():
            known = merged.get(name, frozenset())
            merged[name] = None if fields is None or known is None else known | fields
    return merged


def roots_of(text: str) -> Roots:
    """What an expression may look at, read off its text: too much at worst, never too little.

    `status.phase` needs one field of status; a `status` that stands alone, is indexed or has a method called needs all.
    """
    bare = _STRING.sub("''", text)
    roots: dict[str, frozenset[str] | None] = {}
    for match in _NAME.finditer(bare):
        name, select = match.group(), _SELECT.match(bare, match.end())
        known = roots.get(name, frozenset())
        roots[name] = known | {select.group(1)} if select and known is not None else None
    return roots


def literals_of(text: str) -> frozenset[str]:
    """The string literals of an expression."""
    return frozenset(match[1:-1] for match in _STRING.findall(text))


def without_negations(text: str) -> str:
    """An expression less its negated groups: `a && !b.exists(c, …)` is `a && `; has() is left alone."""
    bare = _STRING.sub(lambda match: "'" + "_" * (len(match.group()) - 2) + "'", text)
    kept, position = "", 0
    for found in _NEGATION.finditer(bare):
        if found.start() < position:
            continue
        depth, end = 1, found.end()
        while end < len(bare) and depth:
            depth += {"(": 1, ")": -1}.get(bare[end], 0)
            end += 1
        kept, position = kept + text[position : found.start()], end
    return kept + text[position:]


def _explained(error: str) -> EvaluationError:
    missing = _MISSING.search(error)
    if missing:
        name = missing.group(1) or missing.group(2) or "?"
        return EvaluationError(f"no field {name!r}", name)
    return EvaluationError(re.sub(r"^[A-Z_]+: ", "", error.splitlines()[0] if error else "failed"))


def _fault(error: str) -> str:
    """`line 1, column 4: Syntax error: …` out of the compiler's report."""
    found = re.search(r"<input>:(\d+):(\d+): (.*)", error)
    if found:
        line, column, says = found.groups()
        says = re.sub(r" expecting \{.*", "", says)[:120]  # a list of everything that could stand there
        return says if int(line) > LENGTH_LIMIT else f"line {line}, column {column}: {says}"
    return error.splitlines()[0][:160] if error else "cannot be compiled"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= 120 else flat[:119] + "…")


def _set_functions() -> list[Any]:
    """CEL's set library, which the engine lacks: sets are lists, compared by membership."""

    def contains(left: list[Any], right: list[Any]) -> bool:
        return all(item in _plain(left) for item in _plain(right))

    def equivalent(left: list[Any], right: list[Any]) -> bool:
        return contains(left, right) and contains(right, left)

    def intersects(left: list[Any], right: list[Any]) -> bool:
        return any(item in _plain(left) for item in _plain(right))

    functions: dict[str, Callable[[list[Any], list[Any]], bool]] = {
        "contains": contains,
        "equivalent": equivalent,
        "intersects": intersects,
    }
    return [
        cel.FunctionDecl(
            f"sets.{name}",
            [
                cel.Overload(
                    f"sets_{name}", return_type=cel.Type.BOOL, parameters=[cel.Type.LIST, cel.Type.LIST], impl=function
                )
            ],
        )
        for name, function in functions.items()
    ]


def _plain(values: list[Any]) -> list[Any]:
    return [value.plain_value() if isinstance(value, cel.Value) else value for value in values]
