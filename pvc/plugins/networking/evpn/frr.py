"""The door to FRR: starts, finds, tells and ends daemons of pvc's own, below a directory of their own. Decides nothing.

A daemon of ours is known by its pid file together with its command line, which names that file: a number that somebody
else has got since is never signalled. Nothing of /etc/frr and /run/frr is read or written.
"""

import json
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pvc.core.process import CommandFailed, Processes
from pvc.core.runtime import Runtime
from pvc.plugins.networking.evpn.daemons import FrrError, Program, Seen, Speaker

PROGRAMS = Path("/usr/lib/frr")
"""Where Debian's package has the daemons."""
DIRECTORY = Path("/run/pvc/frr")
USER = "frr"
"""Made by Debian's package; the daemons keep no more rights than they need."""
NEVER = 2_000_000_000
"""Seconds after which zebra removes routes of routing daemons that it has found at its start; 63 years."""
ANSWER = 10.0
"""Seconds for an answer of a daemon; usual are 0.1."""
LEAVE = 5.0
"""Seconds for a daemon to end by itself; usual are 0.05."""


class FrrDaemons:
    """The real `Daemons`; one thread at a time."""

    def __init__(self, processes: Processes, runtime: Runtime, directory: Path = DIRECTORY) -> None:
        self._processes, self._runtime, self._directory = processes, runtime, directory

    def look(self) -> Seen:
        running = self._running()
        try:
            return Seen(running, self._peers() if Program.BGPD in running else {})
        except FrrError:
            running = self._running()
            if Program.BGPD in running:
                raise
            return Seen(running)  # it has just died

    def start(self, program: Program, text: str, speaker: Speaker) -> None:
        path = PROGRAMS / program.value
        if not path.exists():
            raise FrrError(f"there is no {path}; install Debian's package `frr`")
        self._prepare(program, text)
        try:
            self._processes.check([str(path), *self._arguments(program, speaker)], timeout=ANSWER)
        except CommandFailed as error:
            self._conf(program).unlink(missing_ok=True)
            raise FrrError(f"{program.value} does not start: {error}; see the system's log") from error

    def end(self, program: Program) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            until = self._runtime.monotonic() + LEAVE
            if (pid := self._pid(program)) is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            while self._pid(program) is not None and self._runtime.monotonic() < until:
                self._runtime.sleep(0.01)
            if self._pid(program) is None:
                self._conf(program).unlink(missing_ok=True)
                return
        raise FrrError(f"{program.value} (process {pid}) does not end; end it by hand")

    def tell(self, commands: Sequence[str]) -> None:
        self._vtysh(*commands)

    def _running(self) -> dict[Program, str]:
        return {program: self._text(program) for program in Program if self._pid(program) is not None}

    def _peers(self) -> dict[str, bool]:
        answer = self._vtysh("show bgp l2vpn evpn summary json")
        try:
            peers = json.loads(answer).get("peers", {})
            return {address: peer["state"] == "Established" for address, peer in peers.items()}
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise FrrError(f"bgpd answers what is not understood ({error}): {answer[:200]}; report this") from error

    def _vtysh(self, *commands: str) -> str:
        where = ["--vty_socket", str(self._directory), "--config_dir", str(self._directory), "-d", "bgpd"]
        words = [word for command in commands for word in ("-c", command)]
        try:
            return self._processes.check(["vtysh", *where, *words], timeout=ANSWER, env={"VTYSH_HISTFILE": "/dev/null"})
        except CommandFailed as error:
            raise FrrError(f"bgpd does not do as it is told: {error}; if this stays, end its process") from error

    def _prepare(self, program: Program, text: str) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._directory.parent.chmod(self._directory.parent.stat().st_mode | 0o011)  # whatever pvcd's umask is
            self._directory.chmod(0o755)
            shutil.chown(self._directory, USER, USER)
            for path, content in ((self._directory / "vtysh.conf", ""), (self._conf(program), text)):
                path.write_text(content)
                shutil.chown(path, USER, USER)
        except LookupError as error:
            raise FrrError(f"there is no user `{USER}`; install Debian's package `frr`") from error
        except OSError as error:
            raise FrrError(f"{self._directory} cannot be made ready: {error}; see who may write there") from error

    def _arguments(self, program: Program, speaker: Speaker) -> list[str]:
        own = {
            # Routes of others stay as it begins (-K); and as they go and as it ends, should it think them its own.
            Program.ZEBRA: ["-a", "-r", "-K", str(NEVER)],
            Program.BFDD: ["--bfdctl", str(self._directory / "bfdd.sock")],
            Program.BGPD: ["-l", speaker.address, "-p", str(speaker.port)],
        }[program]
        sockets = ["-z", str(self._directory / "zserv.api"), "--vty_socket", str(self._directory), "-P", "0"]
        files = ["-f", str(self._conf(program)), "-i", str(self._pid_file(program))]
        log = ["--log", "syslog", "--log-level", "notifications"]
        return ["-d", "-u", USER, "-g", USER, *sockets, *files, *log, *own]

    def _pid(self, program: Program) -> int | None:
        """The process of our daemon; None: it does not run."""
        try:
            pid = int(self._pid_file(program).read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            return None
        ours = str(self._pid_file(program)).encode() in words and state not in ("Z", "X")
        return pid if ours else None

    def _text(self, program: Program) -> str:
        """What the daemon was started with; empty if that is not known, so that it is started anew."""
        try:
            return self._conf(program).read_text()
        except OSError:
            return ""

    def _conf(self, program: Program) -> Path:
        return self._directory / f"{program.value}.conf"

    def _pid_file(self, program: Program) -> Path:
        return self._directory / f"{program.value}.pid"
