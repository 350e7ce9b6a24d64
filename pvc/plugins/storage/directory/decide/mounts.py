"""What the way that a directory is mounted means for a pool in it."""

import re
from dataclasses import dataclass

_ALONE = {
    "nfs": ("nolock", "local_lock=all", "local_lock=posix"),
    "nfs4": ("nolock", "local_lock=all", "local_lock=posix"),
    "cifs": ("nobrl",),
    "smb3": ("nobrl",),
}
"""Options of mount by which a file system keeps locks to its own node: nfs(5), mount.cifs(8)."""


@dataclass(frozen=True, slots=True)
class Mount:
    """The file system that holds a directory, as it is mounted."""

    kind: str = ""
    options: tuple[str, ...] = ()
    """Those of the mount, and those of the file system itself."""

    @property
    def read_only(self) -> bool:
        """Nobody here can write to it; the kernel makes it so after some errors."""
        return "ro" in self.options

    @property
    def keeps_locks(self) -> str:
        """The option by which other nodes do not see locks, QEMU's on images among them; empty: there is none."""
        return next((option for option in self.options if option in _ALONE.get(self.kind, ())), "")


def mount_of(mountinfo: str, path: str) -> Mount:
    """What holds `path`; `mountinfo`: the text of /proc/self/mountinfo, proc(5)."""
    found, longest = Mount(), 0
    for line in mountinfo.splitlines():
        head, dash, tail = line.partition(" - ")
        fields, rest = head.split(" "), tail.split(" ")
        if not dash or len(fields) < 6 or len(rest) < 3:
            continue
        point = _unescaped(fields[4])
        if len(point) >= longest and f"{path}/".startswith(f"{point.rstrip('/')}/"):  # the last of two hides the first
            found, longest = Mount(rest[0], (*fields[5].split(","), *rest[2].split(","))), len(point)
    return found


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
