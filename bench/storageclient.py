"""A client on a node of a lab: asks for volumes, snapshots and clones, and runs the plain commands in turns with them.

`python -m bench.storageclient work|fill SERVER ...`; see `main`. Prints JSON. Plain commands make images of their own.
"""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from pvc.core.config.settings import ZooKeeperSettings
from pvc.core.coordination import Coordinator, Create
from pvc.core.errors import PvcError
from pvc.core.process import Processes, SystemProcesses
from pvc.core.records import encode
from pvc.core.runtime import Runtime
from pvc.core.threads import ThreadRuntime
from pvc.core.zookeeper import connect
from pvc.plugins.storage import keys
from pvc.plugins.storage.commands.following import watch
from pvc.plugins.storage.records import Task, TaskPhase, Volume, VolumeState
from pvc.plugins.storage.requests import snapshots as snapshotrequests
from pvc.plugins.storage.requests import volumes as requests
from pvc.plugins.storage.requests.asking import Client
from pvc.plugins.storage.requests.changing import Where

GIB = 1 << 30
PATIENCE = 60.0
"""Seconds after which something is broken rather than slow."""
IN_ONE = 100
"""Records that are written in one transaction."""


class Failed(PvcError):
    """Something that was to be measured did not work."""


@dataclass(frozen=True, slots=True)
class Plain:
    """The commands that an administrator would type for the same, on the same storage."""

    create: Callable[[str], Sequence[str]]
    snapshot: Callable[[str], Sequence[str]]
    clone: Callable[[str, str], Sequence[str]]
    """Of the snapshot of an image (or of the image itself, for files), by the names of both."""
    write: Callable[[str, str], Sequence[str]]
    """Fill the beginning of an image with so many bytes."""


def rbd(pool: str) -> Plain:
    """As Ceph's own tool does it, in the RBD pool of that name."""
    return Plain(
        create=lambda name: ("rbd", "create", "--size", f"{GIB}B", f"{pool}/{name}"),
        snapshot=lambda name: ("rbd", "snap", "create", "--no-progress", f"{pool}/{name}@s"),
        clone=lambda name, new: (
            *("rbd", "clone", "--rbd-default-clone-format", "2"),
            *(f"{pool}/{name}@s", f"{pool}/{new}"),
        ),
        write=lambda name, size: (
            *("rbd", "bench", "--io-type", "write", "--io-size", "4M", "--io-total", size),
            f"{pool}/{name}",
        ),
    )


def qemu_img(path: str) -> Plain:
    """As QEMU's own tool does it, with qcow2 files in that directory; a copy is on the disk at its end, as pvc's is."""
    return Plain(
        create=lambda name: ("qemu-img", "create", "-q", "-f", "qcow2", f"{path}/{name}.qcow2", str(GIB)),
        snapshot=lambda name: ("qemu-img", "snapshot", "-c", "s", f"{path}/{name}.qcow2"),
        clone=lambda name, new: (
            *("qemu-img", "convert", "-t", "writeback", "-f", "qcow2", "-O", "qcow2"),
            *(f"{path}/{name}.qcow2", f"{path}/{new}.qcow2"),
        ),
        write=lambda name, size: ("qemu-io", "-c", f"write 0 {size}", f"{path}/{name}.qcow2"),
    )


@dataclass(frozen=True, slots=True)
class Bench:
    """One pool, used through the product and by hand."""

    client: Client
    processes: Processes
    pool: str
    plain: Plain
    linked: bool
    """A clone is one of a snapshot, which shares its data; else a copy of a volume with some data in it."""

    def work(self, rounds: int, data: str) -> dict[str, list[list[float]]]:
        """By kind of work, for each round: seconds from the request to the end as a watch tells it, those for which
        the node was at it, and those that the plain command took."""
        source = f"source-{self.client.runtime.new_id()[:8]}"
        self._make(source, self.plain.create(f"plain-{source}"))
        for name in (source, f"plain-{source}"):
            self._run(self.plain.write(name, data))
        self._snapshot(source, self.plain.snapshot(f"plain-{source}"))
        found: dict[str, list[list[float]]] = {"create": [], "snapshot": [], "clone": []}
        for number in range(-1, rounds):  # the first is not counted: files and programs are in memory after it
            name, new = f"{source}-{number + 1}", f"{source}-{number + 1}c"
            row = {
                "create": self._make(name, self.plain.create(f"plain-{name}")),
                "snapshot": self._snapshot(name, self.plain.snapshot(f"plain-{name}")),
                "clone": self._clone(source, new, self.plain.clone(f"plain-{source}", f"plain-{new}")),
            }
            if number >= 0:
                for kind, seconds in row.items():
                    found[kind].append(seconds)
        return found

    def _make(self, name: str, plain: Sequence[str]) -> list[float]:
        return self._both(lambda: requests.add(self.client, Where(self.pool, name), GIB), plain)

    def _snapshot(self, name: str, plain: Sequence[str]) -> list[float]:
        return self._both(lambda: snapshotrequests.add(self.client, Where(self.pool, name), "s"), plain)

    def _clone(self, name: str, new: str, plain: Sequence[str]) -> list[float]:
        where, snapshot = Where(self.pool, name), "s" if self.linked else None
        return self._both(lambda: requests.clone(self.client, where, new, snapshot), plain)

    def _both(self, ask: Callable[[], Task], plain: Sequence[str]) -> list[float]:
        runtime = self.client.runtime
        began = runtime.monotonic()
        task = self._followed(ask())
        seconds = runtime.monotonic() - began
        return [seconds, (task.finished or 0.0) - (task.began or 0.0), self._run(plain)]

    def _followed(self, task: Task) -> Task:
        for view in watch(self.client.coordinator, self.client.runtime, task, PATIENCE):
            task = view.task
        if task.phase is not TaskPhase.DONE:
            raise Failed(f"{task.kind.value}: {task.phase.value}: {task.message}")
        return task

    def _run(self, command: Sequence[str]) -> float:
        """Seconds that a program takes."""
        began = self.client.runtime.monotonic()
        self.processes.check(command, timeout=PATIENCE)
        return self.client.runtime.monotonic() - began


def fill(coordinator: Coordinator, pool: str, number: int, now: float) -> None:
    """Write the records of so many volumes that have no image into the tree."""
    volumes = iter([Volume(f"paper{n}", GIB, VolumeState.READY, "qcow2", now, "bench") for n in range(number)])
    while some := list(islice(volumes, IN_ONE)):
        coordinator.commit([Create(keys.volume(pool, volume.name), encode(volume)) for volume in some])


def main(words: Sequence[str]) -> int:
    """`work SERVER NODE POOL rbd|qemu-img PLACE DATA ROUNDS`, on that node; `fill SERVER POOL NUMBER`."""
    what, server, *rest = words
    runtime: Runtime = ThreadRuntime()
    settings = ZooKeeperSettings(hosts=(server,))
    coordinator = connect(settings, runtime=runtime, name="bench", log=logging.getLogger("bench"))
    try:
        if what == "fill":
            fill(coordinator, rest[0], int(rest[1]), runtime.now())
            return 0
        node, pool, tool, place, data, rounds = rest
        plain = rbd(place) if tool == "rbd" else qemu_img(place)
        client = Client(coordinator, runtime, "bench", node)
        bench = Bench(client, SystemProcesses(), pool, plain, linked=tool == "rbd")
        print(json.dumps(bench.work(int(rounds), data)))
    except PvcError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        coordinator.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
