"""The door to qemu-img. Names every format itself: what a VM writes into a raw image is never taken for a header."""

import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pvc.core.process import CommandFailed, Processes, Running
from pvc.core.storage import Report, StorageUnusable
from pvc.plugins.storage.directory.decide.images import part_done, read_info, refusal

QUICK = 60.0
"""Seconds in which a look at an image, or the making of an empty one, has to end."""
SLOW = 3600.0
"""Seconds for what rewrites the tables of an image."""
GLANCE = 0.5
"""Seconds between two looks at how far a copy is, and at whether it is still wanted."""
GRACE = 10.0
"""Seconds that a copy has to end in once it is told to; one that waits for a server that is gone may take longer."""


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
        report(0, size)
        with tempfile.TemporaryDirectory(prefix="pvc-") as directory:
            output = Path(directory) / "output"
            try:
                running = self._processes.start(command, output=output)
            except CommandFailed as failed:
                raise StorageUnusable(f"{source}: {failed}") from failed
            try:
                code = _followed(running, output, size, report)
            finally:
                _end(running)
            if code != 0:
                raise refusal(source, output.read_text(errors="replace").replace("\r", "\n"))

    def _run(self, words: Sequence[str], path: str, timeout: float) -> str:
        try:
            done = self._processes.run(["qemu-img", *words], timeout=timeout)
        except CommandFailed as failed:
            raise StorageUnusable(f"{path}: {failed}") from failed
        if done.code != 0:
            raise refusal(path, done.stderr)
        return done.stdout


def _followed(running: Running, output: Path, size: int, report: Report) -> int:
    """The exit code, once it has ended."""
    while (code := running.wait(GLANCE)) is None:
        report(int(size * part_done(output.read_bytes())), size)
    return code


def _end(running: Running) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if running.poll() is None:
            running.signal(number)
            running.wait(GRACE)
