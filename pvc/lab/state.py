"""The directory of one lab: what is kept where, and who may change it. Holds no process."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pvc.lab import shape as shapes
from pvc.lab.errors import LabError
from pvc.lab.shape import Host, Shape

DEFAULT_DIRECTORY = "/var/lib/pvc-lab"
LONGEST_DIRECTORY = 60
"""Characters: a path to a unix socket has at most 107, and libvirt's lies below."""


def labs_directory() -> Path:
    """Where the labs of this machine are kept: $PVC_LAB_DIR or the default."""
    return Path(os.environ.get("PVC_LAB_DIR", DEFAULT_DIRECTORY))


class State:
    """The state directory of one lab."""

    def __init__(self, name: str, labs: Path) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,19}", name):
            raise LabError(f"{name!r} is no name for a lab; use at most 20 small letters, digits and dashes")
        self.name = name
        self.labs = labs.absolute()
        self.path = self.labs / name
        if len(str(self.path)) > LONGEST_DIRECTORY:
            raise LabError(f"{self.path} is too long for sockets below it; set PVC_LAB_DIR to a shorter directory")

    @property
    def cache(self) -> Path:
        """What is dear to make and the same for all labs."""
        return self.labs / ".cache"

    @property
    def initialised(self) -> Path:
        """Exists once the cluster's tree has been made."""
        return self.path / "initialised"

    def log(self, host: Host, daemon: str) -> Path:
        return self.path / host.name / f"{daemon}.log"

    def record(self, host: Host, daemon: str) -> Path:
        return self.path / host.name / f"{daemon}.pid"

    def shape(self) -> Shape | None:
        """The shape of the lab; None if it was never made completely. Raises LabError if it cannot be read."""
        try:
            return shapes.from_json((self.path / "lab.json").read_text())
        except FileNotFoundError:
            return None

    def keep_shape(self, shape: Shape) -> None:
        """Mark the lab as made."""
        (self.path / "lab.json").write_text(shapes.to_json(shape))

    def make(self) -> None:
        self.path.mkdir(parents=True)

    def remove(self) -> None:
        """Remove the directory; nothing may be mounted below it any more."""
        if os.path.ismount(self.path / "proc"):
            raise LabError(f"something is mounted at {self.path}/proc, so nothing was removed; unmount it first")
        if self.path.exists():
            shutil.rmtree(self.path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one who changes this lab. Raises LabError if somebody else does already."""
        self.cache.mkdir(parents=True, exist_ok=True)
        with (self.cache / f"{self.name}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LabError(f"another command is changing lab {self.name}; wait until it has ended") from None
            yield


def known_labs(labs: Path) -> list[str]:
    """Names of the labs that have a state directory."""
    return sorted(path.name for path in labs.glob("*") if path.is_dir() and not path.name.startswith("."))
