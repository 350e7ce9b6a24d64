"""The door to Ceph's programs: `ceph`, `rbd`. Says what failed and what to do; never shows a key."""

from typing import Any

import msgspec

from pvc.core.process import CommandFailed, Finished, Processes
from pvc.core.storage import StorageError, StorageUnusable
from pvc.plugins.storage.longprograms import TIED
from pvc.plugins.storage.schema import CephSettings

GRACE = 2.0
"""Seconds that a program has beyond the time that it is told to give up after."""


class CephPrograms:
    """Runs Ceph's programs as one client. Safe for use from several jobs at once."""

    def __init__(self, processes: Processes, settings: CephSettings) -> None:
        self._processes = processes
        self.settings = settings

    def command(self, program: str, *words: str) -> list[str]:
        """The command line of a program, as this client."""
        return [program, "--conf", self.settings.conf, "--id", self.settings.user, *words]

    def run(
        self, program: str, *words: str, timeout: float | None = None, stdin: str | None = None, tied: bool = False
    ) -> Finished:
        """Run to the end, whatever the exit code; `timeout`: seconds, by default the configured deadline.

        `tied`: it does not outlive this daemon. Raises StorageUnusable if it is not there, or does not end in time.
        """
        seconds = self.settings.deadline if timeout is None else timeout
        command = [*(TIED if tied else ()), *self.command(program, *words)]
        try:
            return self._processes.run(command, timeout=seconds + GRACE, stdin=stdin)
        except CommandFailed as failed:
            raise StorageUnusable(f"Ceph cannot be asked: {failed}") from failed

    def check(self, program: str, *words: str, timeout: float | None = None, stdin: str | None = None) -> str:
        """Its output. Raises StorageError with what it said if its exit code is not 0, StorageUnusable."""
        done = self.run(program, *words, timeout=timeout, stdin=stdin)
        if done.code != 0:
            raise StorageError(f"{program} {' '.join(words[:3])}: {said(done)}")
        return done.stdout

    def ask(self, program: str, *words: str, timeout: float | None = None) -> Any:
        """What a command that can answer in JSON says. Raises StorageError, StorageUnusable."""
        text = self.check(program, *words, "--format", "json", timeout=timeout)
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise StorageError(f"{program} {' '.join(words[:3])} did not answer in JSON ({error})") from error


def said(done: Finished) -> str:
    """What a program said when it failed, in one line."""
    lines = [line.strip() for line in (done.stderr.strip() or done.stdout.strip()).splitlines() if line.strip()]
    return lines[-1] if lines else f"it ended with code {done.code}"
