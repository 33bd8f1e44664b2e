"""Pinned command-line tools, built from Go modules into a cache outside the tree.

`binary("kube-apiserver")` is the path of a tool, built first if it has to be. Every family has a folder
`tools/<family>-<hash>/bin` in the cache; the hash covers go.mod, go.sum, the build flags and the Go version, so that a
change builds anew and everything else is reused.
"""

from __future__ import annotations

from testbed.tools.builder import NotThereError, binary, build, cache_root, is_built
from testbed.tools.catalogue import FAMILIES, KUBERNETES_VERSION, RENDERER, Family, family_of
from testbed.tools.go import BuildError

__all__ = [
    "FAMILIES",
    "KUBERNETES_VERSION",
    "RENDERER",
    "BuildError",
    "Family",
    "NotThereError",
    "binary",
    "build",
    "cache_root",
    "family_of",
    "is_built",
]
