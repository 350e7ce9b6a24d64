"""Long programs are followed, ended when nobody wants their work, and end with the daemon. No Ceph is needed."""

import signal
import sys
from pathlib import Path

import pytest

from pvc.core.process import SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.lab import pidfile
from pvc.lab.deadline import wait_until
from pvc.plugins.storage.longprograms import follow

DEADLINE = 60.0
# Says how far it is and which process it is, and waits for a file.
WORK = "printf '\\rImage copy: {1}%% complete...'; echo $$ > {0}/pid; while [ ! -e {0}/go ]; do sleep .02; done; exit 3"
PROGRAM = """
import sys
from pvc.core.process import SystemProcesses
from pvc.plugins.storage.longprograms import follow
follow(SystemProcesses(), sys.argv[1:], 400, lambda done, total: None, "it")
"""


class Stopped(Exception):
    """What a report raises in order to have the work stopped."""


def process_of(directory: Path) -> pidfile.Process | None:
    """The program's process, once it has said which one it is."""
    text = (directory / "pid").read_text().strip() if (directory / "pid").exists() else ""
    return pidfile.recorded(Path(f"/proc/{text}/stat")) if text else None


def test_progress_is_told_while_a_program_runs_and_its_end_is_known(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def report(done: int, total: int) -> None:
        told.append((done, total))
        if done:
            (tmp_path / "go").touch()

    done = follow(SystemProcesses(), ["sh", "-c", WORK.format(tmp_path, 25)], 400, report, "it")
    assert (done.code, done.stdout) == (3, "\nImage copy: 25% complete...")
    assert told[0] == (0, 400)
    assert told[-1] == (100, 400)


@pytest.mark.parametrize(("size", "most"), [(400, 399), (0, 0)])
def test_a_program_that_says_that_it_is_done_is_not_while_it_runs(tmp_path: Path, size: int, most: int) -> None:
    told: list[tuple[int, int]] = []

    def report(done: int, total: int) -> None:
        told.append((done, total))
        if (done or not size) and process_of(tmp_path):
            (tmp_path / "go").touch()

    follow(SystemProcesses(), ["sh", "-c", WORK.format(tmp_path, 100)], size, report, "it")
    assert told[0] == (0, size)
    assert told[-1] == (most, size)


def test_a_program_ends_when_its_work_is_not_wanted(tmp_path: Path) -> None:
    seen: list[pidfile.Process] = []

    def report(done: int, total: int) -> None:
        if process := process_of(tmp_path):
            seen.append(process)
            raise Stopped

    with pytest.raises(Stopped):
        follow(SystemProcesses(), ["sh", "-c", WORK.format(tmp_path, 25)], 400, report, "it")
    assert pidfile.state(seen[0]) is None


def test_a_program_ends_with_the_daemon_that_follows_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "sh", "-c", WORK.format(tmp_path, 25)]
    daemon = SystemProcesses().start(command, output=tmp_path / "output", env={"PYTHONPATH": str(Path.cwd())})
    try:
        wait_until(ThreadRuntime(), DEADLINE, lambda: None if process_of(tmp_path) else "it has not begun")
        program = process_of(tmp_path)
        assert pidfile.state(program) is not None
    finally:
        daemon.signal(signal.SIGKILL)
        assert daemon.wait(DEADLINE) is not None
    wait_until(ThreadRuntime(), DEADLINE, lambda: "it goes on" if pidfile.state(program) else None)
