"""The door to other processes: the only module that imports subprocess."""

import os
import select
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from pvc.core.errors import PvcError


class CommandFailed(PvcError):
    """A program could not be started, ended with a code other than 0, or outlived its time limit."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that ended: its exit code and what it wrote, decoded as UTF-8 with replacement."""

    code: int
    stdout: str
    stderr: str


class Running(Protocol):
    """A program that was started and goes on."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait at most `timeout` seconds; its exit code, or None if it still runs."""

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens if it has ended."""


class Processes(Protocol):
    """Starts programs. The fake in `pvc.testing` answers from a script."""

    def run(
        self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Finished:
        """Run to the end; raises CommandFailed if it cannot be started or takes longer than `timeout` seconds."""

    def check(self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None) -> str:
        """Run to the end and return its standard output; raises CommandFailed also for an exit code other than 0."""

    def start(
        self, command: Sequence[str], *, output: Path, env: Mapping[str, str] | None = None, new_session: bool = True
    ) -> Running:
        """Start a program whose output (both streams) is appended to the file `output`."""


class Attended(Protocol):
    """Runs programs on the terminal of the person at the keyboard."""

    def attend(self, command: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
        """Run to the end; the exit code, negative for a signal. Raises CommandFailed, KeyboardInterrupt."""


class RunningProcess:
    """A `Running` on subprocess.Popen."""

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen

    @property
    def pid(self) -> int:
        return self._popen.pid

    def poll(self) -> int | None:
        return self._popen.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        if timeout is not None:
            self._await_end(timeout)
        try:
            return self._popen.wait(None if timeout is None else 0)
        except subprocess.TimeoutExpired:
            return None

    def signal(self, number: int) -> None:
        if self._popen.poll() is None:
            self._popen.send_signal(number)

    def _await_end(self, timeout: float) -> None:
        """As the kernel tells of it: `Popen.wait` looks now and then, and sees an end up to 50 ms late."""
        if self._popen.poll() is not None:
            return
        try:
            watched = os.pidfd_open(self.pid)
        except ProcessLookupError:  # it has just been waited for elsewhere
            return
        try:
            poll = select.poll()
            poll.register(watched, select.POLLIN)
            poll.poll(max(0.0, timeout) * 1000)
        finally:
            os.close(watched)


class SystemProcesses:
    """The real `Processes`. `env` adds to the environment of this process."""

    def run(
        self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Finished:
        try:
            done = subprocess.run(
                list(command),
                input=None if stdin is None else stdin.encode(),
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                timeout=timeout,
                env=_environment(env),
                check=False,
            )
        except OSError as error:
            raise CommandFailed(f"cannot run {command[0]}: {error.strerror}; is it installed?") from error
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"{' '.join(command)} did not end within {timeout:g} s") from error
        return Finished(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def check(self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None) -> str:
        done = self.run(command, timeout=timeout, env=env)
        if done.code != 0:
            said = (done.stderr.strip() or done.stdout.strip())[-2000:]
            raise CommandFailed(f"{' '.join(command)} ended with code {done.code}: {said}")
        return done.stdout

    def start(
        self, command: Sequence[str], *, output: Path, env: Mapping[str, str] | None = None, new_session: bool = True
    ) -> Running:
        with _append(output) as sink:
            try:
                popen = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    env=_environment(env),
                    start_new_session=new_session,
                )
            except OSError as error:
                raise CommandFailed(f"cannot start {command[0]}: {error.strerror}; is it installed?") from error
        return RunningProcess(popen)

    def attend(self, command: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
        """Run a program that shares this terminal, keyboard included, to its end; its exit code, negative for a signal.

        Ctrl-C reaches the program too: KeyboardInterrupt is raised once it has ended, or at a second Ctrl-C.
        Raises CommandFailed if it cannot be started.
        """
        try:
            popen = subprocess.Popen(list(command), env=_environment(env))
        except OSError as error:
            raise CommandFailed(f"cannot start {command[0]}: {error.strerror}; is it installed?") from error
        try:
            return popen.wait()
        except KeyboardInterrupt:
            popen.wait()
            raise

    def pipe_to(self, command: Sequence[str], pieces: Iterable[bytes]) -> int:
        """Give a program that shares this terminal the pieces to read; its exit code once the person has left it.

        Call it on the main thread: Ctrl-C is the program's alone meanwhile. Raises CommandFailed if it cannot be
        started.
        """
        with _without_ctrl_c():
            try:
                popen = subprocess.Popen(list(command), stdin=subprocess.PIPE)
            except OSError as error:
                raise CommandFailed(f"cannot start {command[0]}: {error.strerror}; is it installed?") from error
            assert popen.stdin is not None
            with suppress(BrokenPipeError), popen.stdin as pipe:  # left before reading everything
                for piece in pieces:
                    pipe.write(piece)
            return popen.wait()

    def attach(self, command: Sequence[str]) -> int:
        """Give this terminal to a program until it ends; its exit code.

        Raises CommandFailed if it cannot be started.
        """
        try:
            popen = subprocess.Popen(list(command))
        except OSError as error:
            raise CommandFailed(f"cannot start {command[0]}: {error.strerror}; is it installed?") from error
        return _wait_for_person(popen)


def _wait_for_person(popen: "subprocess.Popen[bytes]") -> int:
    while True:
        try:
            return popen.wait()
        except KeyboardInterrupt:  # Ctrl-C means something to the program in front, and it has had it too
            continue


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Ctrl-C does nothing to this process. By a handler: programs started meanwhile do not inherit that."""
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _environment(extra: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if extra is None else {**os.environ, **extra}


def _append(path: Path) -> IO[bytes]:
    return path.open("ab")
