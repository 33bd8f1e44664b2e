"""Why a rule decided as it did, in the object's own words: the condition, or the field, that made the verdict."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clusterstack.core.health.cel import Compiler, EvaluationError, Program
from clusterstack.core.health.fields import Fields, entries, section, text

Why = tuple[str, str]
"""A reason in CamelCase, and a message."""

_COMPARED = re.compile(
    r"\bstatus((?:\.[A-Za-z]\w*)+?)(?:\s*(==|!=|in)\s*('[^']*'|\[[^\]]*\])|\.(?:matches|startsWith)\()"
)
_NEEDED = re.compile(r"(?<!!)\bhas\(status((?:\.[A-Za-z]\w*)+)\)|\bsize\(status((?:\.[A-Za-z]\w*)+)\) > 0")
_CONDITION = re.compile(r"\btype == '(\w+)' && \w+\.status == 'True'")
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9]*")
TEXTS = ("message", "reason", "error", "errorMessage", "lastError")


def decisive(program: Program, data: Mapping[str, Any], compiler: Compiler) -> Why | None:
    """The condition that alone makes a program hold, or else a field of status; None when neither can be told."""
    for entry, thinned in _alternatives(data):
        if _holds(program, thinned, compiler):
            return words(entry) if entry is not None else state(program, data, holding=True)
    return state(program, data, holding=True)


def lacking(program: Program, data: Mapping[str, Any]) -> Why | None:
    """Why a program does not hold yet: a condition, a state, or what nobody has reported."""
    named = [entry for entry in _all_conditions(data) if entry.get("type") in program.wanted]
    for entry in named:
        if entry.get("status") != "True":
            return words(entry)
    for entry in entries(section(data, "status"), "conditions"):
        if entry.get("type") in program.unwanted and entry.get("status") == "True":
            return words(entry)
    return state(program, data, holding=False) or _unreported(program, data, named)


def state(program: Program, data: Mapping[str, Any], *, holding: bool) -> Why | None:
    """A status field, such as a phase, whose comparison holds, or does not; with the status's own message."""
    status = section(data, "status")
    told = next((text(status, name) for name in TEXTS if text(status, name)), "")
    for path, operator, operand in _COMPARED.findall(program.text):
        value = _at(status, path)
        if isinstance(value, str) and value and _compares(value, operator, operand) in (holding, None):
            name = path.rpartition(".")[2]
            reason = value if _REASON.fullmatch(value) else name
            return reason[0].upper() + reason[1:], f"{path[1:]} is {value}" + (
                f": {told}" if told not in ("", value) else ""
            )
    return None


def _compares(value: str, operator: str, operand: str) -> bool | None:
    """Whether `value == 'x'`, `!= 'x'` or `in ['x']` holds; None for anything else."""
    words_named = re.findall(r"'([^']*)'", operand)
    match operator:
        case "==" | "in":
            return value in words_named
        case "!=":
            return value not in words_named
        case _:
            return None


def _unreported(program: Program, data: Mapping[str, Any], named: Sequence[Fields]) -> Why | None:
    status = section(data, "status")
    if not any(name not in TEXTS for name in status):
        return "NoStatus", "its controller has not reported a status yet"
    for path, listed in _NEEDED.findall(program.text):
        if not _at(status, path or listed):
            return "NotReported", f"status{path or listed} is not reported yet"
    if any("observedGeneration" in entry for entry in named):
        return "LatestGenerationNotObserved", "its conditions are of an earlier generation"
    reported = {entry.get("type") for entry in entries(status, "conditions")}
    missing = next((kind for kind in _CONDITION.findall(program.text) if kind not in reported), None)
    return ("NotReported", f"condition {missing} is not reported yet") if missing else None


def _at(status: Fields, path: str) -> object:
    value: object = status
    for name in path.strip(".").split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def words(entry: Fields) -> Why:
    """A condition's reason and message."""
    kind, status = text(entry, "type") or "Condition", text(entry, "status")
    reason = text(entry, "reason")
    return reason or kind, text(entry, "message") or f"{kind} is {status}" + (f" ({reason})" if reason else "")


def _alternatives(data: Mapping[str, Any]) -> Iterator[tuple[Fields | None, Mapping[str, Any]]]:
    """The object without any condition, then with each one alone: first those of status, then those of its entries."""
    status = section(data, "status")
    lists = [name for name, value in status.items() if isinstance(value, list)]
    nested = [name for name in lists if any("conditions" in entry for entry in entries(status, name))]
    without = {**status, **{name: [] for name in nested}, **({"conditions": []} if "conditions" in status else {})}
    yield None, {**data, "status": without}
    for entry in entries(status, "conditions"):
        yield entry, {**data, "status": {**without, "conditions": [entry]}}
    for name in nested:
        for item in entries(status, name):
            for entry in entries(item, "conditions"):
                yield entry, {**data, "status": {**without, name: [{**item, "conditions": [entry]}]}}


def _all_conditions(data: Mapping[str, Any]) -> Iterator[Fields]:
    status = section(data, "status")
    yield from entries(status, "conditions")
    for name, value in status.items():
        if name != "conditions" and isinstance(value, list):
            for item in entries(status, name):
                yield from entries(item, "conditions")


def _holds(program: Program, data: Mapping[str, Any], compiler: Compiler) -> bool:
    try:
        return program.holds(compiler.activation(data))
    except EvaluationError:
        return False
