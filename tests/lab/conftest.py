"""Real labs for tests: one bare lab for the whole session, and new ones for tests that break theirs."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pvc.core.threads import ThreadRuntime
from pvc.lab.cluster import Lab, missing_tools
from pvc.lab.deadline import wait_until
from pvc.lab.shape import Shape

DEADLINE = 60.0


@dataclass(frozen=True)
class RunningVm:
    """A VM of a bare lab, started with virsh, and its console as one sees it in the nodes' log files."""

    lab: Lab
    name: str

    def console(self, node: str) -> str:
        path = self.lab.console_directory(node) / f"{self.name}.log"
        return path.read_text() if path.exists() else ""

    def numbers(self, *nodes: str) -> list[int]:
        """The counters of its lines as the nodes saw them, one node after the other."""
        text = "".join(self.console(node) for node in nodes)
        return [int(number) for number in re.findall(rf"^{self.name} (\d{{6}}) ", text, re.MULTILINE)]

    def wait_for(self, what: str, node: str) -> None:
        """Wait until its console says something."""
        wait_until(ThreadRuntime(), DEADLINE, lambda: None if what in self.console(node) else f"no {what!r} on {node}")

    def wait_for_lines(self, count: int, *nodes: str) -> None:
        """Wait until its console has got so many lines."""

        def missing() -> str | None:
            return None if len(self.numbers(*nodes)) >= count else f"only {len(self.numbers(*nodes))} lines"

        wait_until(ThreadRuntime(), DEADLINE, missing)

    def runs_on(self, node: str) -> bool:
        done = self.lab.run(["virsh", "list", "--name"], node)
        assert done.code == 0, done.stderr
        return self.name in done.stdout.split()

    def wait_until_gone(self, node: str) -> None:
        wait_until(ThreadRuntime(), DEADLINE, lambda: f"{self.name} is on {node}" if self.runs_on(node) else None)


StartVm = Callable[..., RunningVm]


def start_vm(lab: Lab, name: str, node: str, arguments: str = "", memory: int | None = None) -> RunningVm:
    """Start a VM on a bare lab's node, with its console logged to a file there."""
    path = lab.write_vm(name, arguments=arguments, memory=memory)
    log = f"<serial type='pty'><log file='/var/log/libvirt/{name}.log' append='off'/>"
    path.write_text(path.read_text().replace("<serial type='pty'>", log))
    done = lab.run(["virsh", "create", str(path)], node)
    assert done.code == 0, done.stderr
    return RunningVm(lab, name)


def why_no_lab() -> str | None:
    """Why no lab can be made here; None if one can."""
    if os.geteuid() != 0:
        return "a lab needs root"
    missing = missing_tools()
    return f"a lab needs {', '.join(missing)}" if missing else None


@pytest.fixture(scope="session")
def labs_directory() -> Iterator[Path]:
    """Where the labs of this session are; short, because sockets lie below it."""
    if reason := why_no_lab():
        pytest.skip(reason)
    path = Path(tempfile.mkdtemp(prefix="pvc-lab-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def bare_lab(labs_directory: Path) -> Iterator[Lab]:
    """ZooKeeper and two nodes with libvirtd; tests leave it as they found it."""
    lab = Lab("bare", Shape(nodes=2, vms=0, bare=True), directory=labs_directory)
    try:
        lab.up()
        yield lab
    finally:
        lab.down()


@pytest.fixture
def new_lab(labs_directory: Path) -> Iterator[Callable[..., Lab]]:
    """Makes labs, not yet up, that are taken down after the test."""
    labs: list[Lab] = []

    def make(name: str = "new", shape: Shape | None = None) -> Lab:
        labs.append(Lab(name, shape or Shape(nodes=1, vms=0, bare=True), directory=labs_directory))
        return labs[-1]

    yield make
    for lab in labs:
        lab.down()


@dataclass(frozen=True)
class LibvirtPair:
    """Two real libvirts between which VMs migrate, reachable from the test's own process."""

    lab: Lab
    uris: tuple[str, str]
    """For libvirt.open, over unix sockets."""
    migration_uris: tuple[str, str]
    """The same two as each sees the other, for peer-to-peer migration."""


@pytest.fixture(scope="session")
def libvirt_pair(bare_lab: Lab) -> LibvirtPair:
    return LibvirtPair(
        bare_lab,
        (bare_lab.libvirt_uri("hv1"), bare_lab.libvirt_uri("hv2")),
        ("qemu+tcp://hv1/system", "qemu+tcp://hv2/system"),
    )


@pytest.fixture
def start_bare_vm(bare_lab: Lab) -> Iterator[StartVm]:
    """Starts VMs in the session's lab that are ended after the test."""
    started: list[str] = []

    def start(name: str, node: str = "hv1", arguments: str = "", memory: int | None = None) -> RunningVm:
        started.append(name)
        return start_vm(bare_lab, name, node, arguments, memory)

    yield start
    for name in started:
        for node in ("hv1", "hv2"):
            bare_lab.run(["virsh", "destroy", name], node)
