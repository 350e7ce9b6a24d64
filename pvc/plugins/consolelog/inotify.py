"""The door to log files and to the kernel's news of them: the only module of the plugin that opens files.

One thread waits for the kernel, with one watch per directory; where the kernel gives none it looks at the paths itself
each `interval`. It only notes which paths have changed and wakes the service; it never reads a file.
"""

import errno
import logging
import os
import select
import stat
from collections.abc import Callable
from pathlib import Path

from inotify_simple import INotify, flags

from pvc.core.runtime import Runtime, Signal, Task
from pvc.plugins.consolelog.files import LogFile, Unfollowable

BREATH = 0.02
"""Seconds that the thread rests after news, so that a VM that prints all the time costs few wake-ups."""
ROTATED = 10
"""Rotated files that are looked for: `path.0` to `path.9`."""
_NEWS = flags.MODIFY | flags.CREATE | flags.MOVED_TO | flags.MOVED_FROM | flags.DELETE | flags.ATTRIB


class OpenFile:
    """A `LogFile` on a file descriptor."""

    def __init__(self, fd: int, path: str, inode: int) -> None:
        self._fd = fd
        self._path = path
        self._inode = inode

    @property
    def inode(self) -> int:
        return self._inode

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def read(self, position: int, count: int) -> bytes:
        try:
            return os.pread(self._fd, count, position)
        except OSError as error:
            raise Unfollowable(f"{self._path} cannot be read: {error.strerror}; check the disk") from error

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class DirectoryFiles:
    """The real `LogFiles`."""

    def __init__(
        self, directory: str, runtime: Runtime, wake: Signal, interval: Callable[[], float], log: logging.Logger
    ) -> None:
        self._directory = directory
        self._runtime = runtime
        self._wake = wake
        self._interval = interval
        self._log = log
        self._lock = runtime.mutex()
        self._armed: set[str] = set()
        self._changed: set[str] = set()
        self._polled: dict[str, tuple[int, int, int] | None] = {}
        self._watched: dict[str, int | None] = {}
        self._directories: dict[int, set[str]] = {}
        self._inotify = self._open_inotify()
        self._rouse = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = False
        self._task: Task = runtime.spawn("consolelog files", self._listen)

    def open(self, path: str) -> LogFile | None:
        parent, name = self._inside(path)
        try:
            # No link is followed, and no pipe waited for: both would be somebody else's doing.
            directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                mode = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                fd = os.open(name, mode, dir_fd=directory)
            finally:
                os.close(directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unfollowable(f"{path} {_why(error)}") from error
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise Unfollowable(f"{path} is not a regular file; remove it, the hypervisor will make a new one")
        return OpenFile(fd, path, found.st_ino)

    def inode(self, path: str) -> int | None:
        found = _stat(path)
        return None if found is None else found.st_ino

    def rotated(self, path: str) -> tuple[tuple[str, int], ...]:
        found = ((each, self.inode(each)) for each in (path, *(f"{path}.{number}" for number in range(ROTATED))))
        return tuple((each, inode) for each, inode in found if inode is not None)

    def follow(self, path: str) -> None:
        parent = str(Path(path).parent)
        if parent not in self._watched and self._real(parent) is None:
            return  # `open` says why
        with self._lock:
            if parent not in self._watched:
                self._watched[parent] = self._watch(parent)
            polled = self._watched[parent] is None
            self._armed.add(path)
            if polled and path not in self._polled:
                self._polled[path] = _fingerprint(path)
        if polled:
            os.eventfd_write(self._rouse, 1)

    def forget(self, path: str) -> None:
        with self._lock:
            self._armed.discard(path)
            self._changed.discard(path)
            self._polled.pop(path, None)

    def changed(self) -> frozenset[str]:
        with self._lock:
            taken, self._changed = self._changed, set()
        return frozenset(taken)

    def close(self) -> None:
        self._closing = True
        os.eventfd_write(self._rouse, 1)
        self._task.join(5.0)
        if self._inotify is not None:
            self._inotify.close()
        os.close(self._rouse)

    def _inside(self, path: str) -> tuple[str, str]:
        """The real directory and the name of a file. Raises Unfollowable if it is not below the configured one."""
        parent, name = os.path.split(path)
        real = self._real(parent)
        if not name or not Path(path).is_absolute() or real is None:
            raise Unfollowable(
                f"{path} lies outside {self._directory}; set consolelog.directory, or change the log element of the VM"
            )
        return real, name

    def _real(self, parent: str) -> str | None:
        """What a directory's path leads to; None: out of the configured one."""
        real, top = os.path.realpath(parent), os.path.realpath(self._directory)
        return real if Path(real).is_relative_to(top) else None

    def _open_inotify(self) -> INotify | None:
        try:
            return INotify(nonblocking=True)
        except OSError as error:
            self._log.warning("no news of files from the kernel (%s); looking each %g s", error, self._interval())
            return None

    def _watch(self, parent: str) -> int | None:
        if self._inotify is None:
            return None
        try:
            descriptor: int = self._inotify.add_watch(parent, _NEWS)
        except OSError as error:
            self._log.warning("no news of %s from the kernel (%s); looking each %g s", parent, error, self._interval())
            return None
        self._directories.setdefault(descriptor, set()).add(parent)
        return descriptor

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._rouse, select.POLLIN)
        if self._inotify is not None:
            poll.register(self._inotify.fileno(), select.POLLIN)
        while not self._closing:
            ready = {fd for fd, _ in poll.poll(self._interval() * 1000 if self._polled else None)}
            if self._rouse in ready:
                os.eventfd_read(self._rouse)
            if self._inotify is not None and self._inotify.fileno() in ready:
                self._note(self._news(self._inotify))
                self._runtime.sleep(BREATH)
            self._note(self._looked())

    def _news(self, inotify: INotify) -> set[str] | None:
        """Paths that the kernel names; None: it has lost count, or a directory has gone."""
        paths: set[str] = set()
        complete = True
        for event in inotify.read(timeout=0):
            if event.mask & (flags.Q_OVERFLOW | flags.IGNORED):
                complete = False
                with self._lock:
                    for parent in self._directories.pop(event.wd, ()):
                        del self._watched[parent]
            paths |= {f"{parent}/{event.name}" for parent in self._directories.get(event.wd, ())}
        return paths if complete else None

    def _looked(self) -> set[str]:
        with self._lock:
            known = dict(self._polled)
        now = {path: _fingerprint(path) for path in known}
        with self._lock:
            self._polled.update({path: mark for path, mark in now.items() if path in self._polled})
        return {path for path, mark in now.items() if mark != known[path]}

    def _note(self, paths: set[str] | None) -> None:
        with self._lock:
            new = self._armed if paths is None else self._armed & paths
            self._armed = self._armed - new
            self._changed |= new
        if new:
            self._wake.set()


def _why(error: OSError) -> str:
    """Why a file cannot be opened, and what to do."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "cannot be opened: too many open files; raise LimitNOFILE of pvcd's unit above the number of its VMs"
    what = "is a symbolic link" if error.errno == errno.ELOOP else f"cannot be opened: {error.strerror}"
    return f"{what}; it must be a regular file that pvcd can read"


def _stat(path: str) -> os.stat_result | None:
    try:
        return Path(path).stat(follow_symlinks=False)
    except OSError:
        return None


def _fingerprint(path: str) -> tuple[int, int, int] | None:
    found = _stat(path)
    return None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)
