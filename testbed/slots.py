"""Slots keep control planes that run side by side apart: each has ports and a range of service addresses of its own."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

COUNT = 64
_FIRST_PORT = 21000  # below Linux' range of ephemeral ports, so that no outgoing connection takes one of ours
_PORTS = 16
_FIRST_NETWORK = 96


class NoSlotError(RuntimeError):
    """All slots are taken."""


@dataclass(frozen=True, slots=True)
class Ports:
    etcd: int
    etcd_peer: int
    api: int
    kwok: int
    spare: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """A held slot; `release()` gives it back, and so does the end of the process."""

    number: int
    ports: Ports
    lock: IO[str]

    @property
    def service_range(self) -> str:
        """Service addresses, all on loopback, so that a local process can listen on any of them."""
        return f"127.{_FIRST_NETWORK + self.number}.0.0/16"

    @property
    def first_service_ip(self) -> str:
        return f"127.{_FIRST_NETWORK + self.number}.0.1"

    def release(self) -> None:
        self.lock.close()


def take() -> Slot:
    """The lowest free slot, held by a file lock that all processes of this user share."""
    folder = Path(tempfile.gettempdir()) / f"clusterstack-slots-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in range(COUNT):
        lock = (folder / str(number)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        first = _FIRST_PORT + number * _PORTS
        numbers = tuple(range(first, first + _PORTS))
        if all(_is_free(port) for port in numbers):
            return Slot(number, Ports(first, first + 1, first + 2, first + 3, spare=numbers[4:]), lock)
        lock.close()
    raise NoSlotError(f"all {COUNT} slots for control planes are taken (locks are in {folder})")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
