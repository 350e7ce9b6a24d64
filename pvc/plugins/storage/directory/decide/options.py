"""What a pool's options say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pvc.core.config.problems import near
from pvc.core.config.rules import is_absolute_path
from pvc.core.storage import BadPool, Pool

FORMATS = ("qcow2", "raw")


@dataclass(frozen=True, slots=True)
class Options:
    """How a directory is used as a pool."""

    path: str
    """The same on all nodes."""
    format: str = "qcow2"
    """Of all images in it."""
    mount: bool = True
    """Whether something must be mounted exactly there."""


def options_of(pool: Pool) -> Options:
    """The options of a pool. Raises BadPool for what is missing, unknown or impossible."""
    for name in pool.options:
        if name not in _READERS:
            hint = near(name, tuple(_READERS)) or f"there are {', '.join(_READERS)}"
            raise BadPool(f"pool {pool.name}: a directory has no option {name}; {hint}")
    if "path" not in pool.options:
        raise BadPool(f"pool {pool.name}: path is missing; say which directory it is, such as path=/srv/vms")
    read = {name: _READERS[name](f"pool {pool.name}: {name}", text) for name, text in pool.options.items()}
    return Options(str(read["path"]), str(read.get("format", "qcow2")), bool(read.get("mount", True)))


def _path(what: str, text: str) -> str:
    path = text.rstrip("/")
    if not path or not is_absolute_path(path) or not path.isprintable() or _wanders(path):
        raise BadPool(f"{what} cannot be {text!r}; give a directory below / by its whole path, without . and ..")
    return path


def _wanders(path: str) -> bool:
    return any(part in ("", ".", "..") for part in path[1:].split("/"))


def _format(what: str, text: str) -> str:
    if text not in FORMATS:
        raise BadPool(f"{what} cannot be {text!r}; it is {' or '.join(FORMATS)}")
    return text


def _switch(what: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise BadPool(f"{what} cannot be {text!r}; it is true or false")
    return text == "true"


_READERS: Mapping[str, Callable[[str, str], str | bool]] = {"path": _path, "format": _format, "mount": _switch}
