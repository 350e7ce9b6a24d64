"""The door to the identity of this machine and its processes: reads /etc/machine-id and /proc."""

import os
import socket
from pathlib import Path
from typing import Protocol

from pvc.core.model import NodeSession


class Machine(Protocol):
    """The machine this daemon runs on."""

    def identity(self) -> str:
        """The same for the life of an installation, different from every other machine; empty if unknown."""

    def this_process(self) -> NodeSession:
        """This process, so that others can tell whether it still runs."""

    def is_gone(self, session: NodeSession) -> bool:
        """Whether that process surely runs no more. False if it cannot be known from here."""


class LinuxMachine:
    """The real `Machine`."""

    def identity(self) -> str:
        return _read(Path("/etc/machine-id"))

    def this_process(self) -> NodeSession:
        pid = os.getpid()
        return NodeSession(socket.gethostname(), pid, _boot(), _start_time(pid))

    def is_gone(self, session: NodeSession) -> bool:
        return bool(session.boot) and session.boot == _boot() and _start_time(session.pid) != session.started


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _boot() -> str:
    """The running kernel and the namespace that pids are counted in; empty if unknown."""
    kernel = _read(Path("/proc/sys/kernel/random/boot_id"))
    try:
        return f"{kernel}/{Path('/proc/self/ns/pid').readlink()}" if kernel else ""
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """When the process began, in clock ticks since boot (proc(5), field 22); empty if it is gone or a zombie."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return "" if len(fields) < 20 or fields[0] in "ZX" else fields[19]
