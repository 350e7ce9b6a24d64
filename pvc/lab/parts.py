"""The hosts and daemons of a running lab: which of them live, starting those that do not, waiting until they work."""

import shutil
from collections.abc import Callable, Sequence

from pvc.core.process import Finished
from pvc.core.runtime import Runtime
from pvc.lab import daemons, pidfile
from pvc.lab.daemons import Daemon
from pvc.lab.deadline import tail_of, wait_until
from pvc.lab.errors import LabError
from pvc.lab.namespaces import Namespaces
from pvc.lab.network import Network
from pvc.lab.product import Product
from pvc.lab.shape import Host, Shape
from pvc.lab.state import State

READY_TIME = {"zookeeper": 30.0, "libvirtd": 60.0, "pvcd": 30.0, "mon": 60.0, "mgr": 60.0, "osd": 60.0}
"""Seconds until a daemon must work; libvirtd's include looking QEMU over, which some machines take 10 s for.
A pvcd may have to wait for the end of its predecessor's session before that."""

RunOnHost = Callable[[Sequence[str], str], Finished]
"""Runs a command on the host of that name."""

Row = dict[str, str | int | None]
"""One line of a listing."""


class Parts:
    """The parts of one lab of a known shape."""

    def __init__(
        self,
        state: State,
        shape: Shape,
        namespaces: Namespaces,
        network: Network,
        product: Product,
        runtime: Runtime,
        run: RunOnHost,
    ) -> None:
        self._state = state
        self._shape = shape
        self._namespaces = namespaces
        self._network = network
        self._product = product
        self._runtime = runtime
        self._run = run
        self._log_before: dict[str, int] = {}
        """Bytes that the log of each node's pvcd had when it was started from here."""

    def daemons_of(self, host: Host) -> list[Daemon]:
        """What should run on a host, those that others need first."""
        return [daemon for daemon in daemons.daemons(self._shape, self._state.path) if daemon.host == host]

    def ensure_host(self, host: Host) -> bool:
        """Boot a host that is down; False if it was up."""
        if self._namespaces.host_init(host):
            return False
        for name in daemons.LOST_AT_BOOT:
            if (directory := self._state.path / host.name / name).exists():
                shutil.rmtree(directory)
                directory.mkdir()
        self._namespaces.start_host(host, daemons.binds(self._shape, host, self._state.path))
        self._network.plug(host, connected=True)
        return True

    def ensure(self, daemon: Daemon) -> bool:
        """Start a daemon that is dead; False if it lived. Does not wait until it works."""
        record = self._state.record(daemon.host, daemon.name)
        if pidfile.state(pidfile.recorded(record)):
            return False
        record.unlink(missing_ok=True)
        if daemon.name == "pvcd":
            log = self._state.log(daemon.host, daemon.name)
            self._log_before[daemon.host.name] = log.stat().st_size if log.exists() else 0
        self._namespaces.start_daemon(daemon.host, daemon.name, daemon.command)
        return True

    def wait_ready(self, daemon: Daemon) -> None:
        """Wait until a daemon works. Raises LabError, with the end of its log, if it ends or takes too long."""
        if not daemon.ready:
            self.wait_nodes([daemon.host])
            return
        log, record = self._state.log(daemon.host, daemon.name), self._state.record(daemon.host, daemon.name)
        what = f"{daemon.name} of {daemon.host.name}"

        def missing() -> str | None:
            if pidfile.state(pidfile.recorded(record)) is None:
                raise LabError(f"{what} has ended; {tail_of(log)}")
            done = self._run(daemon.ready, daemon.host.name)
            return None if done.code == 0 and daemon.sign in done.stdout else f"{what} does not answer"

        wait_until(self._runtime, READY_TIME[daemon.name], missing, log=log)

    def wait_nodes(self, hosts: Sequence[Host]) -> None:
        """Wait until the cluster sees the nodes alive. Raises LabError like `wait_ready`.

        What it sees may be the session of a daemon that has died; one that was started from here says itself when it
        has taken the place of that.
        """

        def missing() -> str | None:
            for host in hosts:
                if pidfile.state(pidfile.recorded(self._state.record(host, "pvcd"))) is None:
                    raise LabError(f"pvcd of {host.name} has ended; {tail_of(self._state.log(host, 'pvcd'))}")
            unknown = [host.name for host in hosts if not self._has_registered(host)]
            rest = unknown or self._product.missing_nodes([host.name for host in hosts])
            return f"the cluster does not see {', '.join(rest)} alive" if rest else None

        seconds = READY_TIME["pvcd"] + self._shape.session_timeout
        wait_until(self._runtime, seconds, missing, log=self._state.log(hosts[0], "pvcd"), pause=0.2)

    def _has_registered(self, host: Host) -> bool:
        """Whether a node's daemon has said so, if it was started from here."""
        if (before := self._log_before.get(host.name)) is None:
            return True
        with self._state.log(host, "pvcd").open("rb") as log:
            log.seek(before)
            return f"node {host.name}: registered\n".encode() in log.read()

    def vm_processes(self, host: Host) -> dict[str, pidfile.Process]:
        """The QEMU processes of a node by VM name."""
        if (init := self._namespaces.host_init(host)) is None:
            return {}
        inside = pidfile.inside(init)
        found = {}
        for record in sorted((self._state.path / host.name / "run" / "qemu").glob("*.pid")):
            number = pidfile.text_of(record).strip()  # libvirt removes it once its QEMU has ended
            if record.stem != "driver" and number.isdigit() and int(number) in inside:
                found[record.stem] = inside[int(number)]
        return found

    def rows(self) -> list[Row]:
        """One row per host, daemon and VM process: what it is, where, and whether it runs."""
        cuts = self._network.cuts(self._shape.hosts())
        rows: list[Row] = []
        for host in self._shape.hosts():
            init = self._namespaces.host_init(host)
            cut = " ".join(cuts.get(host.name, []))
            rows.append(_row(host, "host", init) | self._about(host) | {"cut_from": cut})
            for daemon in self.daemons_of(host):
                rows.append(_row(host, daemon.name, pidfile.recorded(self._state.record(host, daemon.name))))
            rows += [_row(host, f"qemu {vm}", process) for vm, process in self.vm_processes(host).items()]
        return rows

    def _about(self, host: Host) -> Row:
        return {"address": host.address, "roles": " ".join(self._shape.roles(host))}


def _row(host: Host, what: str, process: pidfile.Process | None) -> Row:
    letter = pidfile.state(process)
    words = {None: "dead", "T": "stopped"}
    return {
        "host": host.name,
        "process": what,
        "state": words.get(letter, "running"),
        "pid": process.pid if process and letter else None,
        "address": "",
        "roles": "",
        "cut_from": "",
    }
