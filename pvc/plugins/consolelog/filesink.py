"""The built-in sink: one file per VM with what it printed, rotated by size; off unless a directory is configured.

`NAME.log` holds the VM's bytes and nothing else; what is told about it (started, moved, output missing) goes to
`NAME.events`, one JSON object a line with the place in the stream. Never writes elsewhere, nor through a link.
"""

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from pvc.core.errors import PvcError
from pvc.core.sinks import ConsoleRecord, ConsoleVm
from pvc.plugins.consolelog.definition import file_stem

_OPEN = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
MODE = 0o640
DIRECTORY_MODE = 0o750


class CannotKeep(PvcError):
    """A file of the sink cannot be written."""


class FileSink:
    """Appends to files below one directory; keeps `count` rotated ones of about `size` bytes besides each."""

    def __init__(self, directory: str, size: int, count: int) -> None:
        self._directory = directory
        self._size = size
        self._count = count

    @property
    def name(self) -> str:
        return "files"

    def write(self, vm: ConsoleVm, records: Sequence[ConsoleRecord]) -> None:
        stem = file_stem(vm.name, vm.uuid)
        told = [_line(vm, each) for each in records if each.event]
        try:
            Path(self._directory).mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._append(directory, f"{stem}.log", b"".join(each.data for each in records))
                self._append(directory, f"{stem}.events", b"".join(told))
            finally:
                os.close(directory)
        except OSError as error:
            raise CannotKeep(
                f"cannot write to {self._directory}/{stem}.log: {error.strerror}; check consolelog.files.directory"
            ) from error

    def close(self) -> None:
        """Nothing is held open."""

    def _append(self, directory: int, name: str, data: bytes) -> None:
        if not data:
            return
        size = _size(directory, name)
        if size and size + len(data) > self._size:
            self._rotate(directory, name)
        file = _opened(directory, name)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
        finally:
            os.close(file)

    def _rotate(self, directory: int, name: str) -> None:
        """`NAME` becomes `NAME.1`, that one `NAME.2`, and so on; the last one goes."""
        names = [name, *(f"{name}.{number}" for number in range(1, self._count + 1))]
        for old, new in zip(names[-2::-1], names[:0:-1], strict=True):
            try:
                os.rename(old, new, src_dir_fd=directory, dst_dir_fd=directory)
            except FileNotFoundError:
                continue


def _size(directory: int, name: str) -> int:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _opened(directory: int, name: str) -> int:
    file = os.open(name, _OPEN, MODE, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise CannotKeep(f"{name} in the directory of the console files is not a regular file; remove it")
    return file


def _line(vm: ConsoleVm, record: ConsoleRecord) -> bytes:
    told = {"at": record.at, "offset": record.offset, "event": record.event, "vm": vm.name, "uuid": vm.uuid}
    if record.event == "missing":
        told |= {"skipped": record.skipped, "why": record.why}
    else:
        told |= {"node": record.node, **({"target": record.target} if record.target else {})}
    return json.dumps(told).encode() + b"\n"
