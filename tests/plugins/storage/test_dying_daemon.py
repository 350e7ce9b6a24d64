"""What becomes of the programs that a daemon has started when it dies. Stubs stand for them; no Ceph is needed."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pvc.core.process import SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.lab import pidfile
from pvc.lab.deadline import wait_until

DEADLINE = 60.0
# Answers what it is asked; of what changes something it says which process it is, and waits.
STUB = """#!/bin/sh
case "$*" in
    *" info "*) echo '{{"size": 4096, "snapshot_count": 1}}' ;;
    *" snap ls "*) echo '[{{"name": "old", "size": 4096, "protected": "false"}}]' ;;
    *" status "*) echo '{{"watchers": []}}' ;;
    *" children "*) echo '[]' ;;
    *"{what}"*) echo $$ > {directory}/new; mv {directory}/new {directory}/pid; exec sleep 600 ;;
esac
"""
RBD = """
import sys
from pvc.core.process import SystemProcesses
from pvc.core.storage import Pool
from pvc.core.threads import ThreadRuntime
from pvc.plugins.storage.ceph.rbd import opener
from pvc.plugins.storage.schema import CephSettings
backend = opener(SystemProcesses(), ThreadRuntime(), CephSettings())(Pool("vms", "ceph"))
"""
QEMU_IMG = """
from pvc.core.process import SystemProcesses
from pvc.plugins.storage.directory.qemuimg import QemuImg
qemu_img = QemuImg(SystemProcesses())
"""


@contextmanager
def begun(directory: Path, program: str, what: str, text: str) -> Iterator[pidfile.Process]:
    """The program that a daemon was waiting for when it was killed; it has ended after the block."""
    stub = directory / program
    stub.write_text(STUB.format(what=what, directory=directory))
    stub.chmod(0o755)
    env = {"PYTHONPATH": str(Path.cwd()), "PATH": f"{directory}:{os.environ['PATH']}"}
    daemon = SystemProcesses().start([sys.executable, "-c", text], output=directory / "output", env=env)
    try:
        pid = directory / "pid"
        wait_until(ThreadRuntime(), DEADLINE, lambda: None if pid.exists() else (directory / "output").read_text())
        process = pidfile.recorded(Path(f"/proc/{pid.read_text().strip()}/stat"))
        assert process is not None
    finally:
        daemon.signal(signal.SIGKILL)
        assert daemon.wait(DEADLINE) is not None
    try:
        yield process
    finally:
        pidfile.send(process, signal.SIGKILL)


@pytest.mark.parametrize(
    ("what", "call"),
    [
        (" snap purge ", "remove('disk')"),
        (" rm ", "remove('disk')"),
        (" resize ", "resize('disk', 512)"),
        (" rename ", "rename('disk', 'new')"),
        (" snap rm ", "remove_snapshot('disk', 'old')"),
        (" snap protect ", "protect_snapshot('disk', 'old', True)"),
        (" snap rollback ", "roll_back('disk', 'old', lambda done, total: None)"),
    ],
)
def test_what_changes_an_image_of_ceph_dies_with_the_daemon(tmp_path: Path, what: str, call: str) -> None:
    with begun(tmp_path, "rbd", what, f"{RBD}\nbackend.{call}") as program:
        wait_until(ThreadRuntime(), DEADLINE, lambda: "it goes on" if pidfile.state(program) else None)


@pytest.mark.parametrize(
    ("what", "call"),
    [
        (" create ", "create('disk', 4096)"),
        (" clone ", "clone('disk', 'old', 'new', lambda done, total: None)"),
        (" snap create ", "add_snapshot('disk', 'new')"),
    ],
)
def test_what_a_later_attempt_knows_by_its_date_is_brought_to_its_end(tmp_path: Path, what: str, call: str) -> None:
    with begun(tmp_path, "rbd", what, f"{RBD}\nbackend.{call}") as program:
        ThreadRuntime().sleep(0.2)  # many times what it takes the other programs to die
        assert pidfile.state(program) is not None


@pytest.mark.parametrize(
    ("what", "call"),
    [
        (" -a ", "apply_snapshot('/disk', '1')"),
        (" -c ", "add_snapshot('/disk', 'new')"),
        (" -d ", "remove_snapshot('/disk', 'old')"),
        ("resize", "resize('/disk', 4096)"),
    ],
)
def test_what_changes_a_qcow2_file_is_brought_to_its_end_though_the_daemon_dies(
    tmp_path: Path, what: str, call: str
) -> None:
    with begun(tmp_path, "qemu-img", what, f"{QEMU_IMG}\nqemu_img.{call}") as program:
        ThreadRuntime().sleep(0.2)  # many times what it takes the other programs to die
        assert pidfile.state(program) is not None
