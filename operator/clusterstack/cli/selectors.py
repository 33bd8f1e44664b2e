"""Label selectors in their text form, on labels at hand."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SET = re.compile(r"^(?P<key>[^\s!=]+)\s+(?P<not>not)?in\s*\((?P<values>[^)]*)\)$")
_TERMS = re.compile(r",(?![^(]*\))")


def matches(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy `a=b,c!=d,e in (f,g),h notin (i),j,!k`; the empty selector takes everything."""
    return all(_holds(term.strip(), labels) for term in _TERMS.split(selector) if term.strip())


def _holds(term: str, labels: Mapping[str, str]) -> bool:
    if found := _SET.match(term):
        values = {value.strip() for value in found["values"].split(",")}
        return (labels.get(found["key"]) in values) is not bool(found["not"])
    if "!=" in term:
        key, _, value = term.partition("!=")
        return labels.get(key.strip()) != value.strip()
    if "=" in term:
        key, _, value = term.replace("==", "=").partition("=")
        return labels.get(key.strip()) == value.strip()
    return term.removeprefix("!") not in labels if term.startswith("!") else term in labels
