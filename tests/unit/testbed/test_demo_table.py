"""The demo's table: redrawn in place on a terminal, one line per change elsewhere."""

from __future__ import annotations

import io
from typing import Any

import pytest

from testbed.demo.table import Table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def layer(name: str, phase: str, ready: int = 0, total: int = 0, message: str = "") -> dict[str, Any]:
    return {"name": name, "phase": phase, "ready": ready, "total": total, "message": message}


def status(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"summary": {"layers": "1/2", "message": "base: waiting"}, "layers": list(layers)}


WAITING = status(layer("first", "Ready", 3, 3), layer("second", "Waiting", message="waiting for layer first (3s)"))
LATER = status(layer("first", "Ready", 3, 3), layer("second", "Waiting", message="waiting for layer first (4s)"))
DONE = status(layer("first", "Ready", 3, 3), layer("second", "Ready", 2, 2))


def test_a_file_gets_a_line_for_each_change_and_none_without() -> None:
    out = io.StringIO()
    table = Table(out)
    for number, seen in enumerate((WAITING, LATER, LATER, DONE)):
        table.show(seen, float(number))
    assert out.getvalue().splitlines() == [
        "  0.0 s  first          Ready            3/3",
        "  0.0 s  second         Waiting               waiting for layer first (3s)",
        "  3.0 s  second         Ready            2/2",
    ]


def test_a_terminal_gets_the_whole_table_over_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    table = Table(out)
    table.show(WAITING, 1.0)
    first = out.getvalue()
    table.show(DONE, 2.0)
    second = out.getvalue().removeprefix(first)
    assert "\x1b[4F" not in first
    assert second.startswith("\x1b[4F")
    assert "second  Ready" in second


def test_colours_are_left_out_where_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = Terminal()
    Table(coloured).show(DONE, 1.0)
    assert "\x1b[32m" in coloured.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    Table(plain).show(DONE, 1.0)
    assert "\x1b[32m" not in plain.getvalue()


def test_a_stack_without_a_status_yet_is_no_error() -> None:
    out = io.StringIO()
    Table(out).show({}, 0.0)
    assert out.getvalue() == ""
