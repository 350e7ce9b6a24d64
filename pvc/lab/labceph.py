"""The Ceph cluster of a lab: a small one like any other, but of daemons that the lab starts, kills and shows."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from pvc.core.process import Finished, Processes
from pvc.core.runtime import Runtime
from pvc.lab import daemons
from pvc.lab.ceph import MiniCeph
from pvc.lab.cephtexts import MGR, MON, Place
from pvc.lab.daemons import Daemon
from pvc.lab.deadline import wait_until
from pvc.lab.errors import LabError
from pvc.lab.shape import Host, Kind, Shape

RUN_TIME = 30.0
"""Seconds from the start of a daemon until it has written down its process."""
BOOTSTRAP = "bootstrap-osd/ceph.keyring"
"""Below /var/lib/ceph: where ceph-volume looks for the key with which OSDs are made."""


class LabCeph(MiniCeph):
    """The cluster, its monitor and manager on one host and its OSDs on nodes. Raises LabError if the lab has none."""

    def __init__(
        self,
        state: Path,
        shape: Shape,
        processes: Processes,
        runtime: Runtime,
        run: Callable[[Sequence[str], str], Finished],
        ensure: Callable[[Daemon], bool],
    ) -> None:
        if not shape.ceph:
            raise LabError("the lab has no Ceph cluster; make one with --storage --ceph")
        super().__init__(
            daemons.ceph_directory(state),
            processes=processes,
            runtime=runtime,
            monitor=_place(shape.of_kind(Kind.CEPH)[0]),
            osds=[_place(host) for host in shape.osd_hosts()],
            run_on=lambda host, command: run(command, host),
        )
        self.started: list[Daemon] = []
        """What had to be started."""
        self._state = state
        self._shape = shape
        self._clock = runtime
        self._ensure = ensure
        numbers = {host: number for number, host in enumerate(shape.osd_hosts())}
        names = {"mon": lambda host: MON, "mgr": lambda host: MGR, "osd": lambda host: f"osd.{numbers[host]}"}
        self._own = {
            names[daemon.name](daemon.host): daemon
            for daemon in daemons.daemons(shape, state)
            if daemon.name in daemons.CEPH_DAEMONS
        }

    def start_daemon(self, name: str) -> None:
        """Start a daemon as the lab starts its daemons, if it is dead; returns once it runs."""
        if (daemon := self._own.get(name)) is None:
            super().start_daemon(name)
        elif self._ensure(daemon):
            self.started.append(daemon)
            missing = f"{name} does not run"
            log = self._state / daemon.host.name / f"{daemon.name}.log"
            wait_until(self._clock, RUN_TIME, lambda: None if self.running(name) else missing, log=log)

    def hand_out(self) -> None:
        """Give ceph.conf and keys to the client, and to the nodes that need them."""
        for host in self._shape.hosts():
            if host.kind is Kind.CLIENT or "storage" in self._shape.roles(host):
                for path in (self.conf, self.admin_keyring, self.libvirt_keyring):
                    shutil.copy(path, self._state / host.name / "etc-ceph" / path.name)
            if "storage" in self._shape.roles(host):
                target = self._state / host.name / "lib-ceph" / BOOTSTRAP
                target.parent.mkdir(exist_ok=True)
                shutil.copy(self.directory / "ceph.client.bootstrap-osd.keyring", target)


def _place(host: Host) -> Place:
    return Place(host.name, host.address)
