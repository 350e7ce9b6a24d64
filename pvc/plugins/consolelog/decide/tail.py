"""Where to read in a log file: what to resume at, what a look at the file means, what comes after it."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from pvc.core.observers import VmChange
from pvc.plugins.consolelog.ring import FileMark

FINGER = 32
"""Bytes before the position that are compared, at each read, with what was there when it was reached."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Read the file that the path names from its start."""

    lost: bool
    """An earlier file was cut or replaced before all of it was published, as far as anybody knows."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on at the recorded place, in the file of that inode if it can still be found."""

    mark: FileMark


def start(change: VmChange, append: bool, mark: FileMark | None, run: str, *, is_open: bool) -> Begin | Resume:
    """Where to start reading when a VM is here.

    `run` names the start of the emulator (empty: not known). `is_open`: this node published the VM last and has not
    ended that, so the event may be a repetition after a restart of the daemon.
    """
    if mark is None:
        return Begin(lost=is_open and change is VmChange.STARTED)
    if append or is_same_run(change, mark.run, run, unknown=is_open):
        return Resume(mark)
    # The emulator was started since and has cut the file. What an open log had not published of it is lost.
    return Begin(lost=is_open)


def is_same_run(change: VmChange, old: str, new: str, *, unknown: bool) -> bool:
    """Whether the event tells of the run that is known already; `unknown` is the answer for an event that does not say
    that anything was started and gives no run to compare."""
    if old and new:
        return old == new
    return unknown and change is not VmChange.STARTED


def checksum(before: bytes) -> int:
    """What a mark remembers of the bytes before its position."""
    return zlib.crc32(before[-FINGER:])


@dataclass(frozen=True, slots=True)
class Read:
    """Read `count` bytes at `position`, after passing over `skip` bytes."""

    position: int
    count: int
    skip: int


@dataclass(frozen=True, slots=True)
class Drained:
    """Everything that is in the file has been read."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The file is shorter than what was read of it."""


def look(position: int, size: int, allowance: int, most: int) -> Read | Drained | Cut:
    """What a look at an open file says, when at most `allowance` bytes may be published, `most` of them at once.

    What exceeds the allowance is passed over, oldest first: a flood is followed live rather than in full.
    """
    if size < position:
        return Cut()
    if size == position:
        return Drained()
    skip = max(0, size - position - max(allowance, FINGER))
    return Read(position + skip, min(most, size - position - skip), skip)


def budget(left: float, seconds: float, rate: int, most: int) -> float:
    """Bytes that may be published now, `seconds` after `left` bytes were allowed; at `rate` bytes per second."""
    return min(float(most), left + seconds * rate)


@dataclass(frozen=True, slots=True)
class Next:
    """The file to go on with after the drained one."""

    path: str
    inode: int
    chained: bool
    """The drained file was rotated, and this is the one that took its place. Otherwise it was replaced."""
    lost: bool
    """Files in between may have been there and are gone."""


def successor(files: Sequence[tuple[str, int]], drained: int) -> Next | None:
    """The file that follows the drained one; None: it is the newest, or there is none.

    `files` are path and inode of the log file and its rotated predecessors, newest first.
    """
    for newer, (_, inode) in zip((None, *files), files, strict=False):
        if inode == drained:
            return None if newer is None else Next(*newer, chained=True, lost=False)
    return Next(*files[0], chained=False, lost=len(files) > 1) if files else None
