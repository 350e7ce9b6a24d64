"""A real ZooKeeper server on this machine, for contract tests and whoever wants one: started, stopped, killed.

Needs Java and Debian's package `zookeeper`. Its data lies in the directory it is given; nothing is left outside.
"""

import signal
import socket
from pathlib import Path
from shutil import which

from pvc.core.errors import PvcError
from pvc.core.process import Processes, Running
from pvc.core.runtime import Runtime

CLASSES = Path("/usr/share/java")
"""Where Debian puts the Java classes of ZooKeeper and of what it needs."""

TICK = 0.5
"""Seconds; sessions live between 2 and 20 of them."""

_CONFIGURATION = """\
dataDir={directory}/data
clientPortAddress=127.0.0.1
clientPort={port}
tickTime={tick}
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
"""


class ServerFailed(PvcError):
    """The server did not come up."""


def missing_for_server() -> str | None:
    """What this machine lacks to run a server, as a sentence; None if it has all."""
    if which("java") is None:
        return "Java is not installed"
    if not (CLASSES / "zookeeper.jar").exists():
        return f"{CLASSES}/zookeeper.jar is missing; install the package zookeeper"
    return None


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ZooKeeperServer:
    """One standalone server on loopback. `directory` is made if it is missing and keeps data, settings and output."""

    def __init__(self, processes: Processes, runtime: Runtime, directory: Path, port: int) -> None:
        self.host = f"127.0.0.1:{port}"
        """host:port, as `zookeeper.hosts` wants it."""
        self.port = port
        self.output = directory / "server.log"
        self._processes = processes
        self._runtime = runtime
        self._directory = directory
        self._running: Running | None = None

    def start(self, timeout: float = 60.0) -> None:
        """Start it and wait until it serves; raises ServerFailed after `timeout` seconds or if it ends."""
        self._directory.mkdir(parents=True, exist_ok=True)
        settings = self._directory / "zoo.cfg"
        settings.write_text(
            _CONFIGURATION.format(directory=self._directory, port=self.port, tick=round(TICK * 1000)), encoding="utf-8"
        )
        self._running = self._processes.start(_command(settings), output=self.output)
        self._wait_until_it_serves(self._running, timeout)

    def stop(self) -> None:
        """Ask it to end and wait for that; kill it after 10 seconds. Nothing happens if it does not run."""
        if self._running is not None:
            self._running.signal(signal.SIGTERM)
            if self._running.wait(10.0) is None:
                self.kill()
            self._running = None

    def kill(self) -> None:
        """End it between two instructions, as a power cut would. Nothing happens if it does not run."""
        if self._running is not None:
            self._running.signal(signal.SIGKILL)
            self._running.wait(10.0)
            self._running = None

    def restart(self) -> None:
        """Stop it and start it again on the same port with the same data."""
        self.stop()
        self.start()

    def _wait_until_it_serves(self, running: Running, timeout: float) -> None:
        deadline = self._runtime.monotonic() + timeout
        while not self._serves():
            ended = running.poll() is not None
            if ended or self._runtime.monotonic() > deadline:
                self.kill()
                how = "ended at once" if ended else f"did not serve within {timeout:g} s"
                raise ServerFailed(f"the ZooKeeper server on {self.host} {how}; see {self.output}")
            self._runtime.sleep(0.05)

    def _serves(self) -> bool:
        """Whether it answers and has loaded its data ("ruok" alone is answered earlier)."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2.0) as connection:
                connection.sendall(b"srvr")
                answer = b""
                while part := connection.recv(4096):
                    answer += part
        except OSError:
            return False
        return b"Mode:" in answer


def _command(settings: Path) -> list[str]:
    return [
        "java",
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        # What a test wrote need not outlive the machine; without this each write waits for the disk.
        "-Dzookeeper.forceSync=no",
        "-Dzookeeper.preAllocSize=1024",
        "-cp",
        f"{CLASSES}/zookeeper.jar:{CLASSES}/*",
        "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        str(settings),
    ]
