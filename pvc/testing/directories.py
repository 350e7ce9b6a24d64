"""Directories in memory: the public fake of the storage role's `Directories`."""

from pvc.core.runtime import Runtime
from pvc.plugins.storage.directories import DirectoryUnusable, Look

GLANCE = 1.0
"""Seconds between looks of a call that hangs at whether it still does."""


class FakeDirectories:
    """The directories of one machine; they outlive its daemon. Sleeps only where a path was told to hang."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._looks: dict[str, Look] = {}
        self._unusable: dict[str, str] = {}
        self._hanging: set[str] = set()
        self.looks = 0
        """How often somebody looked, calls that hang included."""

    def look(self, path: str) -> Look:
        self.looks += 1
        while path in self._hanging:
            self._runtime.sleep(GLANCE)
        if path in self._unusable:
            raise DirectoryUnusable(self._unusable[path])
        if path not in self._looks:
            raise DirectoryUnusable("does not exist")
        return self._looks[path]

    def add(self, path: str, *, total: int = 1000, free: int = 500, mounted: bool = True) -> None:
        """A directory is there, on a file system of so many MiB; what was wrong with it is over."""
        self._looks[path] = Look(total, free, mounted)
        self._unusable.pop(path, None)
        self._hanging.discard(path)

    def remove(self, path: str) -> None:
        """A directory is gone."""
        self._looks.pop(path, None)

    def spoil(self, path: str, why: str) -> None:
        """Whoever looks at it is told why not."""
        self._unusable[path] = why

    def hang(self, path: str, hangs: bool = True) -> None:
        """Its server is gone: whoever looks at it waits until it is back."""
        (self._hanging.add if hangs else self._hanging.discard)(path)
