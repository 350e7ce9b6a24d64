"""What the publisher needs of the log files on its node: a Protocol with two implementations.

`inotify.py` is the real one, `pvc.testing.logfiles` the fake; tests/contract runs the same tests on both. Nobody here
ever writes to a log file.
"""

from typing import Protocol

from pvc.core.errors import PvcError


class Unfollowable(PvcError):
    """The path is not one that may or can be followed; the message says why and what to do."""


class LogFile(Protocol):
    """An open log file. It stays readable after it was renamed or deleted."""

    @property
    def inode(self) -> int: ...

    def size(self) -> int:
        """Its size now, in bytes."""

    def read(self, position: int, count: int) -> bytes:
        """At most `count` bytes from `position` on; fewer at the end. Raises Unfollowable if the disk fails."""

    def close(self) -> None: ...


class LogFiles(Protocol):
    """The log files below one directory, and wake-ups when they change."""

    def open(self, path: str) -> LogFile | None:
        """The file of that path; None if there is none yet.

        Raises Unfollowable if it lies outside the directory (after following symbolic links of directories), is not
        a regular file or cannot be read.
        """

    def inode(self, path: str) -> int | None:
        """Which file the path names now; None if there is none."""

    def rotated(self, path: str) -> tuple[tuple[str, int], ...]:
        """Path and inode of the file and of its rotated predecessors (`path.0`, `path.1`, ...), newest first."""

    def follow(self, path: str) -> None:
        """Report the next change of that path (written, cut, created, renamed) once, by `changed` and a wake-up.

        To miss nothing: first `follow`, then look at the file.
        """

    def forget(self, path: str) -> None:
        """Report that path no more."""

    def changed(self) -> frozenset[str]:
        """Paths that have changed since they were followed; each is reported once and then no longer followed."""

    def close(self) -> None:
        """Give everything back."""
