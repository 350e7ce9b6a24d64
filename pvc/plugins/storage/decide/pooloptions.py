"""What a pool may be made of, as far as that can be said without the storage, and which two pools would be one."""

import posixpath
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from pvc.core.storage import Pool
from pvc.plugins.storage.decide.names import is_text
from pvc.plugins.storage.records import TaskKind

DIRECTORY = "directory"
CEPH = "ceph"

AT_REST_IN_FILES = frozenset({TaskKind.RESIZE, TaskKind.SNAPSHOT, TaskKind.UNSNAPSHOT})
"""What can be done to a file only while no program has it open."""

_OPTIONS: Mapping[str, tuple[str, ...]] = {DIRECTORY: ("path", "format", "mount"), CEPH: ("pool", "user")}


def is_at_rest(kind: TaskKind, pool: Pool) -> bool:
    """Whether no VM may run on a volume of a pool, nor start with it, while this is done to it there; what is so in
    every pool is no matter of this."""
    return pool.backend == DIRECTORY and kind in AT_REST_IN_FILES


def why_no_pool(pool: Pool) -> str:
    """Why there can be no such pool, and what would do; empty: the node that looks at it says the rest."""
    for text in (pool.backend, *pool.options, *pool.options.values()):
        if not is_text(text):
            return f"{text!r} is not UTF-8; give it another name"
    known = _OPTIONS.get(pool.backend)
    if known is None:  # a plugin's: only nodes that have it know its options
        return ""
    for option, value in pool.options.items():
        if option not in known:
            close = get_close_matches(option, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            return f"a pool of backend {pool.backend} has no option {option!r}; {hint}"
        if not value.strip() or value != value.strip():
            return f"option {option} of a pool cannot be {value!r}; leave it out, or say it without blanks around it"
    return _why_no_directory(pool.options) if pool.backend == DIRECTORY else ""


def same_place(pool: Pool, others: Iterable[Pool]) -> Pool | None:
    """The one of the others that keeps its images where this one would; None: none, as far as is known here."""
    place = _place(pool)
    return next((other for other in others if place is not None and _place(other) == place), None)


def first_format(pool: Pool) -> str:
    """The format of the images that a pool makes, as far as it is known before they are made."""
    return pool.options.get("format", "qcow2") if pool.backend == DIRECTORY else "raw"


def _why_no_directory(options: Mapping[str, str]) -> str:
    path = options.get("path", "")
    if not path:
        return "a directory pool needs --path, where the directory is on every node"
    if not path.startswith("/") or path.startswith("//") or posixpath.normpath(path) != path or path == "/":
        return f"path {path!r} will not do: say it from the root, without '..' and without '/' at its end"
    if (format := options.get("format", "qcow2")) not in ("qcow2", "raw"):
        return f"format {format!r} will not do: it is qcow2 or raw"
    if (mount := options.get("mount", "true")) not in ("true", "false"):
        return f"mount {mount!r} will not do: it is true or false"
    return ""


def _place(pool: Pool) -> tuple[str, str] | None:
    match pool.backend:
        case "directory":
            return pool.backend, pool.options.get("path", "")
        case "ceph":
            return pool.backend, pool.options.get("pool", pool.name)
        case _:  # a plugin's: its images may go by the pool's name
            return None
