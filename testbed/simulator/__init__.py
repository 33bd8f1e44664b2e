"""Plays the controllers of a cluster whose pods are simulated, so that custom resources become healthy as they would.

`Simulator` runs it as a subprocess; `python -m testbed.simulator` is the same from the shell.
"""

from __future__ import annotations

from testbed.simulator.process import Simulator, SimulatorError

__all__ = ["Simulator", "SimulatorError"]
