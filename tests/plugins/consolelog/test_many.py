"""Thousands of console files on one node: real files, one thread, one watch, and steps that cost what is due."""

import logging
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.core.coordination import Create
from pvc.core.observers import VmChange, VmEvent
from pvc.core.records import decode
from pvc.core.runtime import Signal
from pvc.core.threads import ThreadRuntime
from pvc.plugins.consolelog import keys
from pvc.plugins.consolelog.files import Unfollowable
from pvc.plugins.consolelog.inotify import DirectoryFiles
from pvc.plugins.consolelog.ring import Header
from pvc.plugins.consolelog.schema import Settings
from pvc.plugins.consolelog.service import ConsoleLog
from pvc.testing.coordinator import FakeEnsemble

VMS = 2100
NEEDED = 2 * VMS
PATIENCE = 60.0
RUNTIME = ThreadRuntime()
LOG = logging.getLogger("test.many")


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < NEEDED:
        pytest.skip(f"this process may open {hard} files at most")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, NEEDED), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_thousands_of_consoles_are_followed_by_one_thread_with_one_watch(tmp_path: Path) -> None:
    ensemble = FakeEnsemble(RUNTIME)
    admin = ensemble.connect("admin")
    admin.commit([Create("/vms"), *(Create(f"/vms/{number}") for number in range(VMS))])
    made: list[DirectoryFiles] = []

    def files(wake: Signal) -> DirectoryFiles:
        made.append(DirectoryFiles(str(tmp_path), RUNTIME, wake, lambda: 0.5, LOG))
        return made[0]

    before = set(threading.enumerate())
    settings = Settings(directory=str(tmp_path), interval=0.05)
    service = ConsoleLog(
        node="hv1",
        connect=lambda: ensemble.connect("consolelog"),
        open_files=files,
        runtime=RUNTIME,
        settings=lambda: settings,
        log=LOG,
    )
    for number in range(VMS):
        path(tmp_path, number).write_bytes(b"hello\n")
        log = f"<log file='{path(tmp_path, number)}'/>"
        xml = f"<domain id='1'><devices><serial type='pty'>{log}</serial></devices></domain>"
        service.vm_changed(VmEvent(VmChange.STARTED, str(number), f"vm{number}", xml))

    def published(number: int) -> int:
        znode = admin.get(keys.console(str(number)))
        return 0 if znode is None else decode(Header, znode.data, "").next

    def step_until(numbers: list[int], size: int) -> None:
        deadline = RUNTIME.monotonic() + PATIENCE
        while any(published(number) < size for number in numbers):
            assert RUNTIME.monotonic() < deadline, "not everything was published"
            service.wake.wait(min(service.step(), 1.0))

    try:
        step_until(list(range(VMS)), 6)
        watches = Path(f"/proc/self/fdinfo/{made[0]._inotify.fileno()}").read_text().count("inotify wd:")  # type: ignore[union-attr]
        assert watches == 1
        assert len(set(threading.enumerate()) - before) == 1
        some = list(range(0, VMS, 40))
        for number in some:
            with path(tmp_path, number).open("ab") as file:
                file.write(b"news\n")
        commits = ensemble.commits
        step_until(some, 11)
        assert ensemble.commits - commits == len(some)
    finally:
        service.stop()
        ensemble.close()


def path(directory: Path, number: int) -> Path:
    return directory / f"vm{number}.log"


def test_a_node_that_runs_out_of_descriptors_says_which_limit_to_raise(tmp_path: Path) -> None:
    path(tmp_path, 1).touch()
    files = DirectoryFiles(str(tmp_path), RUNTIME, RUNTIME.signal(), lambda: 0.5, LOG)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = os.open(tmp_path, os.O_RDONLY)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken, hard))
        with pytest.raises(Unfollowable, match="raise LimitNOFILE"):
            files.open(str(path(tmp_path, 1)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(taken)
        files.close()
