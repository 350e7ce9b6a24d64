"""Log files in memory, and what happens to them: the public fake of the console log's `LogFiles`."""

from dataclasses import dataclass, field
from itertools import pairwise

from pvc.core.runtime import Signal
from pvc.plugins.consolelog.files import LogFile, Unfollowable


@dataclass(slots=True)
class _Inode:
    number: int
    data: bytearray = field(default_factory=bytearray)
    opened: int = 0
    unreadable: str = ""
    """Why it cannot be read."""


class FakeLogFile:
    """An open file; what happened to its path does not matter to it."""

    def __init__(self, inode: _Inode) -> None:
        self._inode = inode
        self._open = True
        inode.opened += 1

    @property
    def inode(self) -> int:
        return self._inode.number

    def size(self) -> int:
        self._demand_open()
        return len(self._inode.data)

    def read(self, position: int, count: int) -> bytes:
        self._demand_open()
        if self._inode.unreadable:
            raise Unfollowable(self._inode.unreadable)
        return bytes(self._inode.data[position : position + count])

    def close(self) -> None:
        if self._open:
            self._open = False
            self._inode.opened -= 1

    def _demand_open(self) -> None:
        if not self._open:
            raise ValueError("this file has been closed")


class FakeDisk:
    """The log files of one node. They outlive the daemon: each one gets its own `files`."""

    def __init__(self) -> None:
        self._paths: dict[str, _Inode] = {}
        self._made = 0
        self._listeners: list[FakeLogFiles] = []
        self.unfollowable: dict[str, str] = {}
        """Paths that must not be opened, and why."""
        self.refusals = 0
        """How often somebody tried."""

    def files(self, wake: Signal) -> "FakeLogFiles":
        """A daemon's view of the files."""
        made = FakeLogFiles(self, wake)
        self._listeners.append(made)
        return made

    def write(self, path: str, data: bytes) -> None:
        """Append to the file; it is made if there is none."""
        if path not in self._paths:
            self._made += 1
            self._paths[path] = _Inode(self._made)
        self._paths[path].data += data
        self._tell(path)

    def truncate(self, path: str) -> None:
        """Cut the file to nothing; it is made if there is none."""
        self.write(path, b"")
        self._paths[path].data.clear()
        self._tell(path)

    def delete(self, path: str) -> None:
        """Remove the path; who has the file open goes on reading it."""
        self._paths.pop(path, None)
        self._tell(path)

    def rotate(self, path: str, keep: int = 3) -> None:
        """Rename the file to `path.0`, that one to `path.1` and so on; the last one goes. The path is free then."""
        names = [path, *(f"{path}.{number}" for number in range(keep))]
        for old, new in reversed(list(pairwise(names))):
            if old in self._paths:
                self._paths[new] = self._paths.pop(old)
        self._tell(path)

    def fail(self, path: str, why: str) -> None:
        """Let the disk fail under the file, for whoever has it open; an empty `why` mends it."""
        self._paths[path].unreadable = why

    def content(self, path: str) -> bytes:
        """What is in the file."""
        return bytes(self._paths[path].data)

    def inode(self, path: str) -> int | None:
        """Which file the path names."""
        return self._paths[path].number if path in self._paths else None

    def opened(self) -> int:
        """Open files of paths that still exist."""
        return sum(inode.opened for inode in self._paths.values())

    def _tell(self, path: str) -> None:
        for files in self._listeners:
            files.note(path)


class FakeLogFiles:
    """A `LogFiles` on a FakeDisk."""

    def __init__(self, disk: FakeDisk, wake: Signal) -> None:
        self._disk = disk
        self._wake = wake
        self._armed: set[str] = set()
        self._changed: set[str] = set()

    def open(self, path: str) -> LogFile | None:
        if path in self._disk.unfollowable:
            self._disk.refusals += 1
            raise Unfollowable(f"{path} {self._disk.unfollowable[path]}")
        inode = self._disk._paths.get(path)
        return None if inode is None else FakeLogFile(inode)

    def inode(self, path: str) -> int | None:
        return self._disk.inode(path)

    def rotated(self, path: str) -> tuple[tuple[str, int], ...]:
        names = [path, *(f"{path}.{number}" for number in range(10))]
        return tuple((name, self._disk._paths[name].number) for name in names if name in self._disk._paths)

    def follow(self, path: str) -> None:
        self._armed.add(path)

    def forget(self, path: str) -> None:
        self._armed.discard(path)
        self._changed.discard(path)

    def changed(self) -> frozenset[str]:
        taken, self._changed = self._changed, set()
        return frozenset(taken)

    def close(self) -> None:
        if self in self._disk._listeners:
            self._disk._listeners.remove(self)

    def note(self, path: str) -> None:
        """The disk says that a path has changed."""
        if path in self._armed:
            self._armed.discard(path)
            self._changed.add(path)
            self._wake.set()
