"""The door to qemu-img. Names every format itself: what a VM writes into a raw image is never taken for a header."""

from collections.abc import Mapping, Sequence
from typing import Any

from pvc.core.process import CommandFailed, Processes
from pvc.core.storage import Report, StorageUnusable
from pvc.plugins.storage.directory.decide.images import read_info, refusal
from pvc.plugins.storage.longprograms import follow

QUICK = 60.0
"""Seconds in which a look at an image, or the making of an empty one, has to end."""
SLOW = 3600.0
"""Seconds for what rewrites the tables of an image."""


class QemuImg:
    """Runs qemu-img. Raises ImageInUse where QEMU's lock says so, StorageUnusable, StorageError."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def info(self, path: str, format: str | None = None) -> Mapping[str, Any]:
        """What a file is, also while a VM has it open; `format`: None to find out."""
        words = ["info", "-U", "--output", "json", *(("-f", format) if format else ()), path]
        return read_info(self._run(words, path, QUICK))

    def create(self, path: str, size: int) -> None:
        """Make an empty qcow2 image of a file that is there."""
        self._run(["create", "-q", "-f", "qcow2", path, str(size)], path, QUICK)

    def resize(self, path: str, size: int) -> None:
        """Give a qcow2 image another size, a smaller one too."""
        self._run(["resize", "-q", "-f", "qcow2", "--shrink", path, str(size)], path, SLOW)

    def add_snapshot(self, path: str, snapshot: str) -> None:
        """Even if there is one of that name."""
        self._run(["snapshot", "-q", "-c", snapshot, path], path, SLOW)

    def remove_snapshot(self, path: str, snapshot: str) -> None:
        """By its name; qemu-img looks for no number here."""
        self._run(["snapshot", "-q", "-d", snapshot, path], path, SLOW)

    def apply_snapshot(self, path: str, id: str) -> None:
        """By its number."""
        self._run(["snapshot", "-q", "-a", id, path], path, SLOW)

    def convert(
        self, source: str, format: str, snapshot: str | None, target: str, new_format: str, size: int, report: Report
    ) -> None:
        """Copy an image of `size` bytes over the file `target`; what `report` raises ends it, and is raised."""
        which = ["-l", f"snapshot.name={snapshot}"] if snapshot is not None else []
        command = ["qemu-img", "convert", "-p", "-f", format, *which, "-O", new_format, source, target]
        done = follow(self._processes, command, size, report, source)
        if done.code != 0:
            raise refusal(source, done.stdout)

    def _run(self, words: Sequence[str], path: str, timeout: float) -> str:
        try:
            done = self._processes.run(["qemu-img", *words], timeout=timeout)
        except CommandFailed as failed:
            raise StorageUnusable(f"{path}: {failed}") from failed
        if done.code != 0:
            raise refusal(path, done.stderr)
        return done.stdout
