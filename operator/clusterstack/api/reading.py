"""Validation errors as people need them: which field, what is wrong with it, what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_SHOWN = 5


def explain(error: ValidationError, model: type[BaseModel], data: Mapping[str, Any], *, root: str) -> str:
    """One line for the first few problems: `spec.layers[base].dependson: unknown field, did you mean dependsOn?`."""
    problems = error.errors(include_url=False, include_context=False)
    lines = [f"{_path(problem['loc'], data, root)}: {_what(problem, model)}" for problem in problems[:_SHOWN]]
    more = len(problems) - _SHOWN
    return "; ".join([*lines, *([f"and {more} more"] if more > 0 else [])])


def _path(loc: Sequence[str | int], data: Any, root: str) -> str:
    """The field's path; items of lists by their name, where they have one."""
    text = root
    for step in loc:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            data = None
        if isinstance(step, int):
            name = data.get("name") if isinstance(data, Mapping) else None
            text += f"[{name if isinstance(name, str) and name else step}]"
        else:
            text += f".{step}"
    return text


def _what(problem: ErrorDetails, model: type[BaseModel]) -> str:
    match problem["type"]:
        case "extra_forbidden":
            return _unknown(problem["loc"], model)
        case "missing":
            return "is required"
        case "value_error":
            return problem["msg"].removeprefix("Value error, ")
        case "tuple_type":
            return "must be a list"
        case "string_type":
            return "must be text"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "must be a map of fields"
        case "string_pattern_mismatch":
            return f"{str(problem['input'])[:80]!r} is not valid here"
        case _:
            return problem["msg"][0].lower() + problem["msg"][1:]


def _unknown(loc: Sequence[str | int], model: type[BaseModel]) -> str:
    owner = _model_at(model, loc[:-1])
    known = [field.alias or name for name, field in owner.model_fields.items()] if owner else []
    folded = {name.lower().replace("_", ""): name for name in known}
    close = difflib.get_close_matches(str(loc[-1]).lower().replace("_", ""), list(folded), n=1)
    return f"unknown field, did you mean {folded[close[0]]}?" if close else "unknown field"


def _model_at(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for step in loc:
        if isinstance(step, int) or current is None:
            continue
        annotation = next(
            (field.annotation for name, field in current.model_fields.items() if step in (name, field.alias)), None
        )
        current = _model_in(annotation)
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, tuple):
        return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)
    return None
