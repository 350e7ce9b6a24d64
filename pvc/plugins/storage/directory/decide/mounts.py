"""Whether QEMU's locks on images are seen by the other nodes, by how a directory is mounted."""

import re

_ALONE = {
    "nfs": ("nolock", "local_lock=all", "local_lock=posix"),
    "nfs4": ("nolock", "local_lock=all", "local_lock=posix"),
    "cifs": ("nobrl",),
    "smb3": ("nobrl",),
}
"""Options of mount by which a file system keeps locks to its own node: nfs(5), mount.cifs(8)."""


def lock_warning(mountinfo: str, path: str) -> str:
    """What is wrong with the locks of the file system that holds `path`; empty: nothing that can be seen.

    `mountinfo`: the text of /proc/self/mountinfo, proc(5).
    """
    kind, options = "", ""
    longest = 0
    for line in mountinfo.splitlines():
        head, dash, tail = line.partition(" - ")
        fields, rest = head.split(" "), tail.split(" ")
        if not dash or len(fields) < 6 or len(rest) < 3:
            continue
        point = _unescaped(fields[4])
        if len(point) >= longest and f"{path}/".startswith(f"{point.rstrip('/')}/"):  # the last of two hides the first
            longest, kind, options = len(point), rest[0], f"{fields[5]},{rest[2]}"
    wrong = [option for option in options.split(",") if option in _ALONE.get(kind, ())]
    if not wrong:
        return ""
    return (
        f"is mounted with {wrong[0]}, so that no node sees another's locks on images: one can be opened twice; mount"
        f" {path} without it"
    )


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
