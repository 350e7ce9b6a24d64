"""What may lie where a console file should be: the service says so once, follows nothing, and lives on."""

import logging
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from pvc.core.coordination import Create
from pvc.core.observers import VmChange, VmEvent
from pvc.core.records import decode
from pvc.core.runtime import Signal
from pvc.core.threads import ThreadRuntime
from pvc.plugins.consolelog import keys
from pvc.plugins.consolelog.inotify import DirectoryFiles
from pvc.plugins.consolelog.ring import Chunk, Header, Text, decode_block
from pvc.plugins.consolelog.schema import Settings
from pvc.plugins.consolelog.service import ConsoleLog
from pvc.testing.coordinator import FakeEnsemble

RUNTIME = ThreadRuntime()
NOBODY = 65534
PATIENCE = 30.0


class Node:
    """The service on real files; the cluster is a fake."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ensemble = FakeEnsemble(RUNTIME)
        self.admin = self.ensemble.connect("admin")
        self.admin.commit([Create("/vms")])
        self.files: DirectoryFiles | None = None
        self.service = ConsoleLog(
            node="hv1",
            connect=lambda: self.ensemble.connect("consolelog"),
            open_files=self._open,
            runtime=RUNTIME,
            settings=lambda: Settings(directory=str(directory), interval=0.05),
            log=logging.getLogger("test.bad"),
        )

    def _open(self, wake: Signal) -> DirectoryFiles:
        self.files = DirectoryFiles(str(self.directory), RUNTIME, wake, lambda: 0.05, logging.getLogger("test.bad"))
        return self.files

    def bring(self, name: str, path: str) -> None:
        """A VM is here, whose definition names that file."""
        self.admin.commit([Create(f"/vms/{name}")])
        log = f"<log file={quoteattr(path)}/>"
        xml = f"<domain id='1'><devices><serial type='pty'>{log}</serial></devices></domain>"
        self.service.vm_changed(VmEvent(VmChange.STARTED, name, name, xml))

    def steps_until(self, condition: Callable[[], bool]) -> int:
        """Step as core does until something is so; how many steps that took."""
        deadline, steps = RUNTIME.monotonic() + PATIENCE, 0
        while not condition():
            assert RUNTIME.monotonic() < deadline, "waited in vain"
            pause = self.service.step()
            steps += 1
            if not condition():
                self.service.wake.wait(min(pause, 0.5))
        return steps

    def printed(self, name: str) -> bytes:
        znode = self.admin.get(keys.console(name))
        if znode is None:
            return b""
        chunks: list[Chunk] = []
        for number in range(decode(Header, znode.data, "").number):
            block = self.admin.get(keys.block(name, number))
            chunks += decode_block(number, block.data, "") if block else ()
        return b"".join(chunk.content.data for chunk in chunks if isinstance(chunk.content, Text))

    def close(self) -> None:
        self.service.stop()
        self.ensemble.close()


@pytest.fixture
def node() -> Iterator[Node]:
    with tempfile.TemporaryDirectory() as top:  # one that other users may enter
        Path(top).chmod(0o755)
        directory = Path(top) / "logs"
        directory.mkdir()
        (directory.parent / "secret").write_text("secret\n")
        made = Node(directory)
        yield made
        made.close()


def link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "secret")


def link_to_a_neighbour(path: Path) -> None:
    (path.parent / "neighbour.log").write_text("of somebody else\n")
    path.symlink_to("neighbour.log")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        pytest.skip("only root may make devices")


def folder(path: Path) -> None:
    path.mkdir()


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


BAD = [link, link_to_a_neighbour, pipe, device, folder, unix_socket]


@pytest.mark.parametrize("make", BAD)
def test_what_is_no_file_is_reported_once_and_the_others_are_published(
    node: Node, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = node.directory / "bad.log", node.directory / "good.log"
    make(bad)
    good.write_bytes(b"first\n")
    node.bring("bad", str(bad))
    node.bring("good", str(good))
    node.steps_until(lambda: node.printed("good") == b"first\n")
    steps = 0
    for number in range(20):
        with good.open("ab") as file:
            file.write(b"%d\n" % number)
        wanted = good.read_bytes()
        steps += node.steps_until(lambda wanted=wanted: node.printed("good") == wanted)  # type: ignore[misc]
    assert node.printed("bad") == b""
    assert len(caplog.messages) == 1 and str(bad) in caplog.messages[0], caplog.messages
    assert steps < 20 * 10, "a busy loop"


@pytest.mark.parametrize("make", BAD)
def test_what_takes_the_place_of_a_file_later_is_not_followed_and_the_file_is_read_to_its_end(
    node: Node, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = node.directory / "vm.log"
    with path.open("ab", buffering=0) as file:
        file.write(b"first\n")
        node.bring("vm", str(path))
        node.steps_until(lambda: node.printed("vm") == b"first\n")
        path.unlink()
        make(path)
        file.write(b"last\n")
        node.steps_until(lambda: str(path) in " ".join(caplog.messages))
    assert node.printed("vm") == b"first\nlast\n"
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    "path",
    [
        "{top}/secret",
        "{logs}/../secret",
        "{logs}/away/secret",
        "/etc/hostname",
        "relative.log",
        "{logs}/",
        "{logs}/" + "x" * 300,
        "{logs}/a\tb/../../secret",
    ],
)
def test_a_path_that_leads_elsewhere_is_reported_once_and_not_even_watched(
    node: Node, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    (node.directory / "away").symlink_to(node.directory.parent)
    (node.directory / "good.log").write_bytes(b"x")
    path = path.format(top=node.directory.parent, logs=node.directory)
    node.bring("bad", path)
    node.bring("good", str(node.directory / "good.log"))
    node.steps_until(lambda: node.printed("good") == b"x" and bool(caplog.messages))
    assert node.printed("bad") == b""
    assert len(caplog.messages) == 1
    assert node.files is not None
    assert set(node.files._watched) <= {str(node.directory)}


def test_a_file_that_pvcd_may_not_read_is_reported_once_and_read_as_soon_as_it_may(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    path = node.directory / "vm.log"
    path.write_bytes(b"private\n")
    path.chmod(0)
    node.bring("vm", str(path))
    effective = os.geteuid()
    if effective == 0:
        os.seteuid(NOBODY)  # root may read everything
    try:
        node.steps_until(lambda: "Permission denied" in " ".join(caplog.messages))
    finally:
        os.seteuid(effective)
    assert node.printed("vm") == b""
    path.chmod(0o644)
    node.steps_until(lambda: node.printed("vm") == b"private\n")
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("name", ["two words", "-rf", "ünï\u202e", "a&b<c>'\"", "%s%n", "x" * 100])
def test_odd_names_of_files_are_names_of_files(node: Node, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = node.directory / f"{name}.log"
    path.write_bytes(b"one\n")
    node.bring("vm", str(path))
    node.steps_until(lambda: node.printed("vm") == b"one\n")
    with path.open("ab") as file:
        file.write(b"two\n")
    node.steps_until(lambda: node.printed("vm") == b"one\ntwo\n")
    assert caplog.messages == []
