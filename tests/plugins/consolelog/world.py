"""A small cluster for the console log: two nodes with services on fakes, one VM that prints, and readers."""

import json
import logging
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from pvc.core import keys as core_keys
from pvc.core.coordination import Create, Delete, Put
from pvc.core.model import ActualState, VmActual
from pvc.core.observers import VmChange, VmEvent
from pvc.core.records import encode
from pvc.core.runtime import Signal
from pvc.core.sinks import ConsoleSink
from pvc.plugins.consolelog import keys
from pvc.plugins.consolelog.decide.follow import Start
from pvc.plugins.consolelog.reader import Follower, Notice
from pvc.plugins.consolelog.ring import Chunk, Gap, Loss, Text
from pvc.plugins.consolelog.schema import Settings
from pvc.plugins.consolelog.service import ConsoleLog
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.logfiles import FakeDisk
from pvc.testing.runtime import World

UUID = "11111111-2222-3333-4444-555555555555"
NAME = "web"
DIRECTORY = "/logs"
PATH = f"{DIRECTORY}/{NAME}-console.log"
NODES = ("hv1", "hv2")
STREAM = Random(4).randbytes(1 << 20)
"""What the VM prints: any few bytes of it occur once."""


class Node:
    """One host: a disk that stays, and a daemon that comes and goes."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.disk = FakeDisk()
        self.session: FakeCoordinator | None = None
        self.service: ConsoleLog | None = None
        self.alive: FakeCoordinator | None = None
        self.records: list[logging.LogRecord] = []
        self.start()

    def start(self) -> None:
        """Start the daemon; it finds the VM if that is here."""
        runtime = self.cluster.runtime
        self.alive = self.cluster.ensemble.connect(f"{self.name} liveness")
        self.alive.commit([Create(core_keys.node_session(self.name), b"{}", ephemeral=True)])
        log = logging.Logger(self.name)
        log.addHandler(_Collector(self.records))
        self.service = ConsoleLog(
            node=self.name,
            connect=self._connect,
            open_files=self._files,
            runtime=runtime,
            settings=lambda: self.cluster.settings,
            log=log,
            open_sinks=self.cluster.sinks,
        )
        if self.cluster.here == self.name:
            self.tell(VmChange.ADOPTED)

    def die(self) -> None:
        """The daemon dies without a word."""
        assert self.alive is not None and self.service is not None
        self.service.stop()  # tells nobody, but closes files as the kernel does
        self.alive.close()
        if self.session is not None:
            self.session.close()
        self.alive = self.service = self.session = None

    def tell(self, change: VmChange, peer: str | None = None) -> None:
        """Something happened to the VM here."""
        if self.service is not None:
            self.service.vm_changed(VmEvent(change, UUID, NAME, self.cluster.xml(), peer))

    def step(self) -> float:
        """Step the service."""
        assert self.service is not None
        return self.service.step()

    @property
    def warnings(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    def _connect(self) -> FakeCoordinator:
        self.session = self.cluster.ensemble.connect(self.name)
        return self.session

    def _files(self, wake: Signal) -> Any:
        return self.disk.files(wake)


class Cluster:
    """The nodes, the VM and the truth about what it printed."""

    def __init__(
        self,
        append: bool = False,
        settings: Settings | None = None,
        sinks: Callable[[], Sequence[ConsoleSink]] = tuple,
    ) -> None:
        self.sinks = sinks
        self.world = World()
        self.runtime = self.world.process("test")
        self.ensemble = FakeEnsemble(self.runtime)
        self.admin = self.ensemble.connect("admin")
        self.settings = settings or Settings(directory=DIRECTORY, bytes=16384, interval=0.05, max_rate=1 << 24)
        self.append = append
        self.here: str | None = None
        self.run = 0
        self.printed = 0
        self.admin.commit(
            [Create("/nodes"), *(Create(f"/nodes/{name}") for name in NODES), Create("/vms"), Create(f"/vms/{UUID}")]
        )
        self.admin.commit([Create(core_keys.vm_actual(UUID), encode(VmActual()))])
        self.nodes = {name: Node(self, name) for name in NODES}

    def xml(self) -> str:
        append = "on" if self.append else "off"
        log = f"<log file='{PATH}' append='{append}'/>"
        return f"<domain id='{self.run}'><devices><serial type='pty'>{log}</serial></devices></domain>"

    def header(self) -> dict[str, Any]:
        """The header as the tree has it; empty if there is none."""
        znode = self.admin.get(keys.console(UUID))
        found: dict[str, Any] = {} if znode is None else json.loads(znode.data)
        return found

    def print(self, count: int) -> None:
        """The VM prints the next bytes."""
        assert self.here is not None
        self.nodes[self.here].disk.write(PATH, STREAM[self.printed : self.printed + count])
        self.printed += count

    def start(self, node: str) -> None:
        """Start the VM afresh."""
        self._run_on(node)
        self.nodes[node].tell(VmChange.STARTED)

    def stop(self, change: VmChange = VmChange.STOPPED) -> None:
        """The VM ends where it is."""
        assert self.here is not None
        node, self.here = self.here, None
        self._lease(None)
        self.nodes[node].tell(change)

    def move(self) -> None:
        """Migrate the VM to the other node."""
        source = self.here
        assert source is not None
        target = other(source)
        self._run_on(target)
        self.nodes[source].tell(VmChange.DEPARTED, target)
        self.nodes[target].tell(VmChange.ARRIVED, source)

    def steps(self, seconds: float, pause: float = 0.02) -> None:
        """Let time pass, with both services stepped on the way."""
        for _ in range(round(seconds / pause)):
            self.world.run_for(pause)
            for node in self.nodes.values():
                if node.service is not None:
                    node.step()

    def undefine(self) -> None:
        """Delete the VM's records, as a client does."""
        paths = [f"{keys.console(UUID)}/{name}" for name in self.admin.children(keys.console(UUID)) or ()]
        paths += [keys.console(UUID), core_keys.vm_actual(UUID), core_keys.vm(UUID)]
        self.admin.commit([Delete(path) for path in paths])

    def _run_on(self, node: str) -> None:
        self.run += 1
        if not self.append:
            self.nodes[node].disk.truncate(PATH)
        self.here = node
        self._lease(node)

    def _lease(self, node: str | None) -> None:
        state = ActualState.RUNNING if node else ActualState.STOPPED
        self.admin.commit([Put(core_keys.vm_actual(UUID), encode(VmActual(state, node)))])


class Reader:
    """A follower that checks all it sees against the truth."""

    def __init__(self, cluster: Cluster, lines: int | None = None) -> None:
        self.session = cluster.ensemble.connect("reader")
        self.follower = Follower(self.session, UUID, Start(lines), lambda: None)
        self.items: list[Chunk] = []
        self.notices: list[str] = []

    def poll(self) -> None:
        """Read all there is."""
        while True:
            items = self.follower.poll()
            self.notices += [item.text for item in items if isinstance(item, Notice)]
            self.items += [item for item in items if isinstance(item, Chunk)]
            if not items:
                return

    def text(self) -> bytes:
        """The VM's output, gaps left out."""
        return b"".join(item.content.data for item in self.items if isinstance(item.content, Text))

    def gaps(self) -> list[Gap]:
        return [item.content for item in self.items if isinstance(item.content, Gap)]

    def story(self) -> list[object]:
        """Markers and gaps as they are, and each run of text as its bytes."""
        told: list[object] = []
        for item in self.items:
            if isinstance(item.content, Text) and told and isinstance(told[-1], bytes):
                told[-1] += item.content.data
            else:
                told.append(item.content.data if isinstance(item.content, Text) else item.content)
        return told

    def place(self) -> int:
        """Where in STREAM the reader is after all it saw; fails if anything came twice or out of order."""
        place = 0
        certain = True
        for told in self.story():
            if isinstance(told, Gap):
                certain = certain and told.skipped is not None
                place += told.skipped or 0
            elif isinstance(told, bytes):
                found = place if certain else STREAM.find(told, place)
                assert STREAM[found : found + len(told)] == told, f"not what was printed at {place}: {told[:40]!r}"
                assert found >= 0
                place, certain = found + len(told), True
        return place


def other(node: str) -> str:
    return NODES[1 - NODES.index(node)]


def unknown(gap: Gap) -> bool:
    return gap.skipped is None


def lost_by_ring(gap: Gap) -> bool:
    return gap.loss is Loss.RING


class _Collector(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)
