"""Which process a record means: its number and its start time, so that a recycled number is never signalled.

Records are stat lines of /proc, numbered as outside of the lab.
"""

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """One process: numbers are given out again, number and start time together are not."""

    pid: int
    started: int
    """In clock ticks since the machine booted."""


def from_stat(line: str) -> tuple[Process, str] | None:
    """The process and its state letter from a line of /proc/PID/stat; None if it is not one."""
    head, found, tail = line.rpartition(")")
    fields = tail.split()
    number = head.partition(" ")[0]
    if not found or len(fields) < 20 or not number.isdigit():
        return None
    return Process(int(number), int(fields[19])), fields[0]


def recorded(path: Path) -> Process | None:
    """The process that a record names; None without a record."""
    parsed = from_stat(text_of(path))
    return parsed[0] if parsed else None


def state(process: Process | None) -> str | None:
    """The state letter of a process, such as S or T; None if it has ended (a zombie has)."""
    if process is None:
        return None
    parsed = from_stat(text_of(Path(f"/proc/{process.pid}/stat")))
    if parsed is None or parsed[0] != process or parsed[1] in "ZX":
        return None
    return parsed[1]


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; False if it has ended."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if state(process) is None:
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)


def inside(init: Process) -> dict[int, Process]:
    """The processes that share a process namespace with `init`, by the number that they have in it."""
    space = _namespace(Path(f"/proc/{init.pid}"))
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        if space is None or _namespace(directory) != space:
            continue
        numbers = [line.split() for line in text_of(directory / "status").splitlines() if line.startswith("NSpid:")]
        process = recorded(directory / "stat")
        if numbers and process and state(process):
            found[int(numbers[0][-1])] = process
    return found


def text_of(path: Path) -> str:
    """What is in a record or a file of a process; empty if it, or the process, is gone."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _namespace(directory: Path) -> str | None:
    try:
        return str((directory / "ns" / "pid").readlink())
    except OSError:
        return None
