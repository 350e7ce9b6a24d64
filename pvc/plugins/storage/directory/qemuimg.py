"""The door to qemu-img. Names every format itself: what a VM writes into a raw image is never taken for a header."""

from collections.abc import Mapping, Sequence
from typing import Any

from pvc.core.process import CommandFailed, Processes
from pvc.core.storage import Report, StorageUnusable
from pvc.plugins.storage.directory.decide.images import Source, read_info, refusal
from pvc.plugins.storage.longprograms import follow

QUICK = 60.0
"""Seconds in which a look at an image, or the making of an empty one, has to end."""
SLOW = 3600.0
"""Seconds for what rewrites the tables of an image."""


class QemuImg:
    """Runs qemu-img. Raises ImageInUse where QEMU's lock says so, StorageUnusable, StorageError.

    What changes an image that is whole (its size, its snapshots) outlives this daemon. Killed halfway it destroys no
    data, but leaves counts that are wrong: in tests with QEMU 7.2, up to as many clusters as the image has were lost
    for good, and `qemu-img check` found errors, in a snapshot's removal even after a second attempt. Left alone it
    ends by itself, soon, and QEMU's lock keeps the next attempt out for so long. A copy is of no use to anybody then,
    and dies with the daemon.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def info(self, path: str, format: str) -> Mapping[str, Any]:
        """What an image of that format is, also while a VM has it open."""
        return read_info(self._run(["info", "-U", "--output", "json", "-f", format, path], path, QUICK))

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

    def convert(self, source: Source, target: str, format: str, report: Report) -> None:
        """Copy an image over the file `target`; what `report` raises ends it, and is raised.

        The copy of a snapshot has the size that the image has now, whatever it had then.
        """
        which = ["-l", f"snapshot.name={source.snapshot}"] if source.snapshot is not None else []
        command = ["qemu-img", "convert", "-p", "-f", source.format, *which, "-O", format, source.path, target]
        done = follow(self._processes, command, source.size, report, source.path)
        if done.code != 0:
            raise refusal(source.path, done.stdout)

    def _run(self, words: Sequence[str], path: str, timeout: float) -> str:
        try:
            done = self._processes.run(["qemu-img", *words], timeout=timeout)
        except CommandFailed as failed:
            raise StorageUnusable(f"{path}: {failed}") from failed
        if done.code != 0:
            raise refusal(path, done.stderr)
        return done.stdout
