"""Long programs that tell how far they are: run with a report, ended when it raises, and with the one who asked."""

import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pvc.core.process import CommandFailed, Finished, Processes, Running
from pvc.core.storage import Report, StorageUnusable
from pvc.plugins.storage.decide.tasktexts import part_done

GLANCE = 0.2
"""Seconds between two looks at how far it is, and at whether it is still wanted."""
GRACE = 10.0
"""Seconds that a program has to end in once it is told to; one that waits for the storage may take longer."""

# A daemon that dies takes with it what it would be the only one to follow: another node may begin anew at once.
TIED = ("setpriv", "--pdeathsig", "KILL", "--")


def follow(processes: Processes, command: Sequence[str], size: int, report: Report, unstarted: str) -> Finished:
    """Run a program to its end; what it wrote is all in `stdout`, line by line. `size`: bytes, all there is to do.

    What `report` raises ends the program, and is raised. The report that all is done is left to the caller: a program
    that says so has yet to close what it wrote. Raises StorageUnusable, which says `unstarted` first, if the program
    cannot be started.
    """
    report(0, size)
    with tempfile.TemporaryDirectory(prefix="pvc-") as directory:
        output = Path(directory) / "output"
        try:
            running = processes.start([*TIED, *command], output=output)
        except CommandFailed as failed:
            raise StorageUnusable(f"{unstarted}: {failed}") from failed
        try:
            while (code := running.wait(GLANCE)) is None:
                report(max(0, min(int(size * part_done(output.read_bytes())), size - 1)), size)
        finally:
            _end(running)
        return Finished(code, output.read_text(errors="replace"), "")


def _end(running: Running) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if running.poll() is None:
            running.signal(number)
            running.wait(GRACE)
