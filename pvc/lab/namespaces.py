"""The namespaces of a lab: its init, in which everything lives, and one inner init per host.

A lab ends with its init and a host with its own, whatever else happened: the kernel then kills every process in the
namespace and frees networks and mounts. Must never mount or start anything outside of them.
"""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from pvc.core.process import Finished, Processes
from pvc.core.runtime import Runtime
from pvc.lab import pidfile
from pvc.lab.deadline import wait_until
from pvc.lab.errors import LabError
from pvc.lab.shape import Host

START_TIME = 15.0
"""Seconds for namespaces to be made; they take a tenth of one, but machines under test are busy."""
COMMAND_TIME = 60.0

SCRIPTS = Path(__file__).parent


class Namespaces:
    """Makes, enters and ends the namespaces of one lab."""

    def __init__(self, state: Path, processes: Processes, runtime: Runtime) -> None:
        self._state = state
        self._processes = processes
        self._runtime = runtime

    def init(self) -> pidfile.Process | None:
        """The lab's init; None if the lab is down."""
        return _alive(self._state / "init.pid")

    def host_init(self, host: Host) -> pidfile.Process | None:
        """A host's init; None if the host is down."""
        return _alive(self._state / host.name / "host.pid") if self.init() else None

    def start(self, name: str) -> None:
        """Start the lab's init. Raises LabError with the end of its log if it does not come up."""
        script = ["sh", str(SCRIPTS / "init.sh"), str(self._state), f"lab-{name}"]
        spaces = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        log = self._state / "init.log"
        self._processes.check(apart(["unshare", *spaces, "--", *script], log), timeout=COMMAND_TIME)
        missing = "the lab's init is not there"
        wait_until(self._runtime, START_TIME, lambda: None if self.init() else missing, log=log, pause=0.01)

    def start_host(self, host: Host, binds: Mapping[Path, str]) -> None:
        """Start a host's init with private directories bound over the system's. Raises LabError like `start`."""
        pairs = [text for source, target in binds.items() for text in (str(source), target)]
        script = ["sh", str(SCRIPTS / "host.sh"), str(self._state), host.name, *pairs]
        spaces = ["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        boot = ["nsenter", f"--net=/run/netns/{host.name}", "unshare", *spaces, "--", *script]
        log = self._state / host.name / "host.log"
        self._processes.check(self.enter(None, apart(boot, log)), timeout=COMMAND_TIME)
        wait_until(
            self._runtime,
            START_TIME,
            lambda: None if self.host_init(host) else f"host {host.name} is not up",
            log=log,
            pause=0.01,
        )

    def enter(self, host: Host | None, command: Sequence[str]) -> list[str]:
        """The command that runs another inside a host; None: in the lab itself, beside the hosts.

        Raises LabError if that is down.
        """
        init = self.init()
        if init is None:
            raise LabError(f"the lab in {self._state} is down; bring it up with `pvc lab up`")
        process = self.host_init(host) if host else init
        if process is None:
            name = host.name if host else ""
            raise LabError(f"host {name} is down; bring it up with `pvc lab start node {name}`")
        return ["nsenter", "--target", str(process.pid), "--all", "--", *command]

    def run(
        self, host: Host | None, command: Sequence[str], *, timeout: float = COMMAND_TIME, stdin: str | None = None
    ) -> Finished:
        """Run a command inside a host, or in the lab itself; raises LabError if that is down."""
        return self._processes.run(self.enter(host, command), timeout=timeout, stdin=stdin)

    def start_daemon(self, host: Host, daemon: str, command: Sequence[str]) -> None:
        """Start a daemon in a host; its record is DAEMON.pid and its log DAEMON.log in the host's directory."""
        script = ["sh", str(SCRIPTS / "daemon.sh"), str(self._state), host.name, daemon, *command]
        self._processes.check(self.enter(host, ["setsid", "--fork", *script]), timeout=COMMAND_TIME)
        record = self._state / host.name / f"{daemon}.pid"
        wait_until(
            self._runtime,
            START_TIME,
            lambda: None if pidfile.recorded(record) else f"{daemon} of {host.name} has not started",
            pause=0.01,
        )

    def end_host(self, host: Host) -> None:
        """Kill a host's init and with it all that runs on the host; returns when nothing is left."""
        self._end(self.host_init(host), f"host {host.name}")

    def end(self) -> None:
        """Kill the lab's init and with it the whole lab; returns when nothing is left."""
        self._end(self.init(), "the lab")

    def _end(self, process: pidfile.Process | None, what: str) -> None:
        if process is None or not pidfile.send(process, signal.SIGKILL):
            return
        # The init of a process namespace ends only after the kernel has ended everything in it. Wait for it to
        # vanish, not just to die: only then are the mounts free.
        wait_until(
            self._runtime,
            START_TIME,
            lambda: f"{what} (process {process.pid}) did not end after SIGKILL" if exists(process) else None,
            pause=0.01,
        )


def apart(command: Sequence[str], log: Path) -> list[str]:
    """The command that starts another in a session of its own and returns at once; its output goes to `log`."""
    script = 'log=$1; shift; exec setsid --fork "$@" < /dev/null >> "$log" 2>&1'
    return ["sh", "-c", script, "sh", str(log), *command]


def exists(process: pidfile.Process) -> bool:
    """Whether a process is still listed, dead or alive."""
    return pidfile.recorded(Path(f"/proc/{process.pid}/stat")) == process


def _alive(record: Path) -> pidfile.Process | None:
    process = pidfile.recorded(record)
    return process if pidfile.state(process) else None
