"""The real command line on a simulated cluster: a command is one more simulated process."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import greenlet
import pytest

from pvc.cli.application import Application
from pvc.cli.main import furnish
from pvc.core.config.document import parse
from pvc.core.errors import PvcError
from pvc.core.plugins import Plugins
from pvc.testing.cluster import SimCluster
from pvc.testing.runtime import SimProcess, SimTask


@dataclass
class Said:
    """What a command said and how it ended."""

    code: int | None = None
    out: str = ""
    err: str = ""
    task: SimTask | None = None

    @property
    def rows(self) -> Any:
        return json.loads(self.out)


class Keyboard:
    """Types commands into a simulated cluster."""

    def __init__(self, cluster: SimCluster, terminal: "Terminal") -> None:
        self.cluster = cluster
        self._terminal = terminal

    def type(self, *words: str, stdin: str | None = None) -> Said:
        """Run a command to its end."""
        said = self.begin(*words, stdin=stdin)
        assert self.cluster.run_until(lambda: said.code is not None, 2000.0), f"pvc {' '.join(words)} has not ended"
        return said

    def begin(self, *words: str, stdin: str | None = None) -> Said:
        """Start a command that goes on while simulated time passes."""
        process = self.cluster.world.process(f"pvc {words[0]}")
        said = Said()
        said.task = process.spawn("main", lambda: self._main(process, list(words), stdin, said))
        return said

    def press_ctrl_c(self, said: Said) -> None:
        """Interrupt a command where it waits."""
        assert said.task is not None and said.code is None
        said.task.fiber.parent = greenlet.getcurrent()
        said.task.fiber.throw(KeyboardInterrupt)

    def _main(self, process: SimProcess, words: list[str], stdin: str | None, said: Said) -> None:
        plugins = Plugins(logging.getLogger("pvc.typed"))
        plugins.load(["hypervisor", "flushlock", "consolelog"])
        session = self.cluster.ensemble.connect("cli")
        document = parse("node: laptop\n", "pvc.yaml")
        application = furnish(Application(process, document, plugins, None, lambda _config: session))
        self._terminal.begin(said, stdin or "")
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
        self._said: dict[greenlet.greenlet, Said] = {}
        self.out, self.err = _Stream(self, "out"), _Stream(self, "err")

    def begin(self, said: Said, stdin: str) -> None:
        """The running command says things from now on."""
        self._said[greenlet.getcurrent()] = said
        sys.stdout, sys.stderr = self.out, self.err  # here, because pytest sets its own ones between set-up and call
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()))

    def write(self, stream: str, text: str) -> None:
        """Keep what the running command writes."""
        said = self._said.get(greenlet.getcurrent())
        if said is not None:
            setattr(said, stream, getattr(said, stream) + text)


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
    with SimCluster(3) as cluster:
        cluster.start()
        for number in range(6):
            cluster.define(f"vm{number + 1}", f"hv{number % 3 + 1}")
        cluster.settle()
        terminal = Terminal()
        for stream in ("stdin", "stdout", "stderr"):
            monkeypatch.setattr(sys, stream, getattr(sys, stream))  # put back in the end
        yield Keyboard(cluster, terminal)
