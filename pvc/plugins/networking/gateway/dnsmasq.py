"""The door to dnsmasq: one process for each router, which outlives pvcd and is found again by its file."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from signal import SIGHUP, SIGKILL, SIGTERM

from pvc.core.process import CommandFailed, Processes
from pvc.core.runtime import Runtime
from pvc.plugins.networking.gateway.decide.dnsmasq import configuration, forgets, hosts, names, servers
from pvc.plugins.networking.gateway.routers import Router, RouterError

PATIENCE = 10.0
"""Seconds to start: it has been seen to take 0.03."""
LAST_WORDS = 2.0
"""Seconds to end when it is asked to, before it is killed."""
LAST_KILL = 3 * LAST_WORDS
"""Seconds after which one that does not end even then is given up: the kernel has not let go of it."""
TICK = 0.002


class Dnsmasq:
    """The dnsmasq of one router, whose files are in `directory`."""

    def __init__(
        self,
        processes: Processes,
        runtime: Runtime,
        directory: Path,
        inside: Callable[[], AbstractContextManager[None]],
        proc: Path = Path("/proc"),
    ) -> None:
        """`inside` enters its router's namespace; `proc` has the processes of the machine."""
        self._processes = processes
        self._runtime = runtime
        self._directory = directory
        self._inside = inside
        self._proc = proc

    @property
    def _configuration(self) -> Path:
        return self._directory / "dnsmasq.conf"

    def wanted(self) -> bool:
        """Whether there is to be one, as far as is known from its files."""
        return self._configuration.exists()

    def alive(self, namespace: tuple[int, int]) -> bool:
        """Whether it is there, and in the namespace of this identity.

        That is known from a file: without CAP_SYS_PTRACE nobody is told of the namespaces of a process of `nobody`.
        """
        return self._pid() != 0 and _read(self._directory / "dnsmasq.netns") == str(namespace)

    def settle(self, router: Router, namespace: tuple[int, int], *, remind: bool) -> None:
        """Have it run and know what it should. It is only started anew if it has to forget something.

        `remind` it of its files also if they are as they should be: a daemon may have died when it had written them.
        """
        services = router.services
        wanted = {"hosts": hosts(services), "names": names(services), "servers": servers(services)}
        told = configuration(router, self._directory)
        if _read(self._configuration) != told or forgets(_read(self._directory / "hosts"), wanted["hosts"]):
            self._directory.joinpath("dnsmasq.netns").unlink(missing_ok=True)  # it is not believed to be alive any more
        changed = [self._write(name, text) for name, text in {**wanted, "dnsmasq.conf": told}.items()]
        if not self.alive(namespace):
            self.end()
            self._start(namespace)
        elif any(changed) or remind:
            _signal(self._pid(), SIGHUP)

    def end(self) -> None:
        """End it; nothing happens if there is none. Raises RouterError."""
        pid = self._pid()
        begun = self._runtime.monotonic()
        until = begun + LAST_WORDS
        _signal(pid, SIGTERM)
        while self._pid() == pid != 0:
            now = self._runtime.monotonic()
            if now > begun + LAST_KILL:
                raise RouterError(f"dnsmasq (process {pid}) has been killed and does not end; `dmesg` may tell why")
            if now > until:
                _signal(pid, SIGKILL)
                until += LAST_WORDS
            self._runtime.sleep(TICK)

    def _start(self, namespace: tuple[int, int]) -> None:
        self._directory.joinpath("dnsmasq.pid").unlink(missing_ok=True)
        try:
            with self._inside():
                self._processes.check(
                    ["dnsmasq", f"--conf-file={self._configuration}"], timeout=PATIENCE, env={"LC_ALL": "C"}
                )
        except CommandFailed as error:
            raise RouterError(f"{error}; it is in the package dnsmasq-base") from error
        self._write("dnsmasq.netns", str(namespace))

    def _write(self, name: str, text: str) -> bool:
        """Whether it changed something."""
        path = self._directory / name
        if path.exists() and _read(path) == text:
            return False
        new = path.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o644)  # dnsmasq reads it again when it is nobody
        new.replace(path)
        return True

    def _pid(self) -> int:
        """Its number; 0: it does not run. A number may be given to another program later."""
        said = _read(self._directory / "dnsmasq.pid").strip()
        if not said.isdigit():
            return 0
        about = self._proc / said
        with suppress(OSError):
            command = about.joinpath("cmdline").read_bytes().split(b"\0")  # of a zombie: empty
            if f"--conf-file={self._configuration}".encode() in command:
                return int(said)
        return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        if pid:
            os.kill(pid, number)
