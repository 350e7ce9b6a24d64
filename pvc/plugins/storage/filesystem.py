"""The door to this machine's directories. Every call may hang: the service gives each a job of its own."""

import os
import re
from pathlib import Path

from pvc.plugins.storage.directories import DirectoryUnusable, Look

MOUNTS = Path("/proc/self/mountinfo")
MEBIBYTE = 1 << 20


class SystemDirectories:
    """The real `Directories`."""

    def look(self, path: str) -> Look:
        mounted = path in _mount_points()
        try:
            with os.scandir(path) as entries:
                next(entries, None)  # a stale handle or missing permission shows in reading, not in statvfs
            room = os.statvfs(path)
        except OSError as error:
            raise DirectoryUnusable(_phrase(error)) from error
        return Look(
            total=room.f_blocks * room.f_frsize // MEBIBYTE,
            free=room.f_bavail * room.f_frsize // MEBIBYTE,
            mounted=mounted,
        )


def _mount_points() -> set[str]:
    """Fifth field of each line (proc(5)). Unlike the device of a directory it knows bind mounts and never hangs."""
    lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return {_unescaped(line.split(" ")[4]) for line in lines}


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _phrase(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "does not exist"
        case NotADirectoryError():
            return "is no directory"
        case PermissionError():
            return "cannot be read by pvcd"
        case _:
            return f"cannot be read ({error.strerror})"
