"""What a release is made from, as one digest: the same digest means that its record's manifest still holds.

Keyed, because values may come from Secrets. Cluster capabilities and lookups are no inputs: they are read on rendering.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from clusterstack.core.objects import digest
from clusterstack.helm.spec import ReleaseSpec

# Fields that change what is rendered and stored; the others only steer how it is carried out.
_INPUTS = (
    "release_name",
    "namespace",
    "storage_namespace",
    "values_files",
    "ignore_missing_values_files",
    "post_renderers",
    "post_render_strategy",
    "common_labels",
    "common_annotations",
)


def input_digest(spec: ReleaseSpec, *, chart_digest: str, values: Mapping[str, Any], key: bytes) -> str:
    """The digest of a revision's input: the resolved chart, the composed values, and what else shapes the objects."""
    inputs = {name: getattr(spec, name) for name in _INPUTS}
    return digest({**inputs, "chart": chart_digest, "values": values}, key=key)


def spec_digest(spec: ReleaseSpec, *, key: bytes) -> str:
    """The digest of a release as declared, known before anything is fetched; where it is declared does not count."""
    declared = {name: value for name, value in asdict(spec).items() if name not in ("layer", "interval")}
    return digest(declared, key=key)
