"""Substitution of variables in built objects, as Flux's `postBuild` does it.

An object is written as YAML, references in that text are expanded, and the text is read back: so a value may become a
number or a boolean, and may just as well break the object, which is then an error. Left alone are objects marked
`kustomize.toolkit.fluxcd.io/substitute: disabled` and CustomResourceDefinitions, whose descriptions and patterns are
full of things that only look like references.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from clusterstack.core.envsubst import ExpansionError, expand
from clusterstack.core.objects import Manifest, ref_of
from clusterstack.core.yaml import dump, load_value
from clusterstack.errors import RenderError

MARKS = ("kustomize.toolkit.fluxcd.io/substitute", "clusterstack.dev/substitute")
"""Label or annotation; `disabled` keeps an object as it is."""

_NAME = re.compile(r"[_A-Za-z][_A-Za-z0-9]*")


def substitute(obj: Manifest, variables: Mapping[str, str], *, strict: bool, always: bool = False) -> Manifest:
    """The object with its references expanded; the object itself where there is nothing to do.

    Without variables nothing is expanded unless `always`. Newlines in values are dropped. `strict`: a variable that is
    neither set nor has a default is an error. Raises RenderError `SubstitutionFailed`, which names object and variable.
    """
    if (not variables and not always) or _exempt(obj) or "$" not in json.dumps(obj, ensure_ascii=False):
        return obj
    for name in variables:
        if not _NAME.fullmatch(name):
            raise _failed(obj, f"{name!r} is no name for a variable", "use letters, digits and _, no digit first")
    flat = {name: value.replace("\n", "") for name, value in variables.items()}
    try:
        text = expand(dump(obj), flat, strict=strict)
    except ExpansionError as error:
        hint = (
            f"define {error.name}, give it a default (${{{error.name}:=…}})" if error.name else "correct the reference"
        )
        raise _failed(obj, str(error), f"{hint}, or write $${{…}} for a literal ${{…}}") from None
    try:
        result = load_value(text, source=str(ref_of(obj)))
    except RenderError as error:
        raise _failed(obj, f"is no YAML once its variables are expanded ({error})", "quote the reference") from None
    if not isinstance(result, dict):
        raise _failed(obj, "is no object once its variables are expanded", "quote the reference")
    return result


def _exempt(obj: Manifest) -> bool:
    if obj.get("kind") == "CustomResourceDefinition":
        return True
    metadata = obj.get("metadata") or {}
    marks = [metadata.get(place) or {} for place in ("labels", "annotations")]
    return any(str(place.get(mark, "")).lower() == "disabled" for place in marks for mark in MARKS)


def _failed(obj: Manifest, problem: str, hint: str) -> RenderError:
    return RenderError(f"{ref_of(obj)}: {problem}", reason="SubstitutionFailed", hint=hint)
