"""The real command line on a simulated cluster: a command is one more simulated process."""

import io
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import greenlet
import pytest

from pvc.cli.application import Application
from pvc.cli.main import furnish
from pvc.core.config.document import parse
from pvc.core.config.switches import ROLES
from pvc.core.errors import PvcError
from pvc.core.plugins import Plugins
from pvc.testing.cluster import SimCluster
from pvc.testing.coordinator import FakeCoordinator
from pvc.testing.runtime import Killed, SimProcess


@dataclass
class Said:
    """What a command said and how it ended."""

    code: int | None = None
    out: str = ""
    err: str = ""
    process: SimProcess | None = None
    session: FakeCoordinator | None = None

    def has_ended(self) -> bool:
        """Whether the command is over."""
        return self.code is not None

    @property
    def rows(self) -> Any:
        return json.loads(self.out)


class Keyboard:
    """Types commands into a simulated cluster."""

    def __init__(self, cluster: SimCluster, terminal: "Terminal") -> None:
        self.cluster = cluster
        self.loaded: tuple[str, ...] = tuple(ROLES)
        """The roles whose commands there are."""
        self._terminal = terminal

    def type(self, *words: str, stdin: str | None = None, tty: bool = False) -> Said:
        """Run a command to its end."""
        said = self.begin(*words, stdin=stdin, tty=tty)
        assert self.cluster.run_until(lambda: said.code is not None, 2000.0), f"pvc {' '.join(words)} has not ended"
        return said

    def begin(self, *words: str, stdin: str | None = None, tty: bool = False) -> Said:
        """Start a command that goes on while simulated time passes. `tty`: its input is a terminal."""
        process = self.cluster.world.process(f"pvc {words[0]}")
        said = Said(process=process)
        process.spawn("main", lambda: self._main(process, list(words), stdin, tty, said))
        return said

    def interrupt(self, said: Said) -> None:
        """Press Ctrl-C on a command that waits."""
        fiber = next(fiber for fiber, speaker in self._terminal.speaking.items() if speaker is said)
        fiber.parent = greenlet.getcurrent()
        fiber.throw(KeyboardInterrupt)

    def kill(self, said: Said) -> None:
        """`kill -9` of a command: its session lives on until it times out. Raises Killed in the command itself."""
        assert said.process is not None and said.session is not None
        said.session.crash()
        said.process.kill()
        if self._terminal.speaking.get(greenlet.getcurrent()) is said:
            raise Killed

    def _main(self, process: SimProcess, words: list[str], stdin: str | None, tty: bool, said: Said) -> None:
        plugins = Plugins(logging.getLogger("pvc.typed"))
        plugins.load([*self.loaded, "flushlock", "consolelog"])
        session = said.session = self.cluster.ensemble.connect("cli")
        document = parse("node: laptop\n", "pvc.yaml")
        application = furnish(Application(process, document, plugins, None, lambda _config: session))
        self._terminal.begin(said, stdin or "", tty)
        try:
            application.app(args=words, standalone_mode=True)
        except SystemExit as end:
            said.code = int(end.code or 0)
        except PvcError as error:  # as main() does
            said.err += f"pvc: {error}"
            said.code = 1
        session.close()


class Terminal:
    """Standard streams for several commands at once: each writes into what it has said itself."""

    def __init__(self) -> None:
        self.speaking: dict[greenlet.greenlet, Said] = {}
        self.out, self.err = _Stream(self, "out"), _Stream(self, "err")

    def begin(self, said: Said, stdin: str, tty: bool) -> None:
        """The running command says things from now on."""
        self.speaking[greenlet.getcurrent()] = said
        sys.stdout, sys.stderr = self.out, self.err  # here, because pytest sets its own ones between set-up and call
        sys.stdin = _Input(io.BytesIO(stdin.encode()), tty)

    def write(self, stream: str, text: str) -> None:
        """Keep what the running command writes."""
        said = self.speaking.get(greenlet.getcurrent())
        if said is not None:
            setattr(said, stream, getattr(said, stream) + text)


class _Input(io.TextIOWrapper):
    def __init__(self, typed: io.BytesIO, tty: bool) -> None:
        super().__init__(typed)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


class _Stream(io.TextIOBase):
    def __init__(self, terminal: Terminal, name: str) -> None:
        self._terminal = terminal
        self._name = name

        self.buffer = _Bytes(terminal, name)

    def write(self, text: str) -> int:
        self._terminal.write(self._name, text)
        return len(text)


class _Bytes(io.RawIOBase):
    """What lies below a stream of text. Takes whole characters only."""

    def __init__(self, terminal: Terminal, name: str) -> None:
        self._terminal = terminal
        self._name = name

    def write(self, data: Any) -> int:
        self._terminal.write(self._name, bytes(data).decode())
        return len(data)


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyboard]:
    """Three nodes and six VMs, all running."""
    with _cluster(monkeypatch, {}) as at:
        yield at


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyboard]:
    """The same, where one node may be out of service."""
    with _cluster(monkeypatch, {"flushlock": {"max_flushed": 1}}) as at:
        yield at


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyboard]:
    """The same with networking on the first two, a node with storage only, and one without any role."""
    networking = {"roles": {"networking": True}, "networking": {"bridges": ["br0"]}}
    vms = {"vms": {"path": "/mnt/vms"}}
    further: dict[str, Mapping[str, Any]] = {
        "hv1": networking,
        "hv2": networking,
        "stor1": {"roles": {"hypervisor": False, "storage": True}, "storage": {"directories": vms}},
        "bare1": {"roles": {"hypervisor": False}},
    }
    with _cluster(monkeypatch, {}, further) as at:
        yield at


@contextmanager
def _cluster(
    monkeypatch: pytest.MonkeyPatch, config: Mapping[str, Any], further: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[Keyboard]:
    with SimCluster({**{f"hv{number}": config for number in (1, 2, 3)}, **(further or {})}) as cluster:
        cluster.start()
        for number in range(6):
            cluster.define(f"vm{number + 1}", f"hv{number % 3 + 1}")
        cluster.settle()
        streams_put_back(monkeypatch)
        yield Keyboard(cluster, Terminal())


def streams_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the standard streams, which a Terminal takes over, put back at the end of the test."""
    for stream in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, stream, getattr(sys, stream))
