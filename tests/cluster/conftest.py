"""Fixtures of the cluster tests."""

from __future__ import annotations

from testbed.pytest_plugin import control_plane, own_control_plane, unique

__all__ = ["control_plane", "own_control_plane", "unique"]
