"""Tells the cluster how much this node's VMs have sent and received on each network: once a minute, to nobody's bother.

Nobody watches what it writes. What is counted between its last write and the daemon's end is lost; what was written
although ZooKeeper's answer was lost is told twice.
"""

import logging
from collections.abc import Mapping

from pvc.core.context import Context
from pvc.core.coordination import Check, Conflict, Coordinator, Create, Disconnected, Op, Put
from pvc.core.records import Garbage, decode, encode
from pvc.core.runtime import Signal
from pvc.plugins.networking import keys
from pvc.plugins.networking.decide.traffic import growth, plus
from pvc.plugins.networking.records import Traffic

PERIOD = 60.0
"""Seconds between writes."""


class TrafficService:
    """Service `traffic`."""

    name = "traffic"
    after: tuple[str, ...] = ("networks",)

    def __init__(self, context: Context) -> None:
        self.wake: Signal = context.runtime.signal()
        self._me = context.node
        self._registered = context.registered
        self._coordinator: Coordinator = context.coordinator
        self._log: logging.Logger = context.log
        self._lock = context.runtime.mutex()
        self._before: Mapping[str, Mapping[str, Traffic]] | None = None
        self._unwritten: dict[str, Traffic] = {}

    def counted(self, now: Mapping[str, Mapping[str, Traffic]]) -> None:
        """Hear what the kernel has counted, by network and device. From any thread.

        What it has counted before the first call, others have told already.
        """
        with self._lock:
            if self._before is not None:
                for network, devices in now.items():
                    self._add(network, growth(self._before.get(network, {}), devices))
            self._before = now

    def step(self) -> float:
        if not self._registered():
            return PERIOD
        with self._lock:
            taken, self._unwritten = self._unwritten, {}
        for network in sorted(taken):
            try:
                self._write(network, taken[network])
                del taken[network]
            except Conflict as conflict:  # the network was removed meanwhile, or an answer to a write was lost
                self._log.debug("traffic of network %s: %s; trying again", network, conflict)
            except Disconnected:
                break
        with self._lock:
            for network, traffic in taken.items():
                if self._before is not None and network in self._before:
                    self._add(network, traffic)
        return PERIOD

    def stop(self) -> None:
        """There is nothing to give back."""

    def _add(self, network: str, traffic: Traffic) -> None:
        if traffic != Traffic():
            self._unwritten[network] = plus(self._unwritten.get(network, Traffic()), traffic)

    def _write(self, network: str, traffic: Traffic) -> None:
        path = keys.node_traffic(network, self._me)
        znode = self._coordinator.get(path)
        ops: list[Op] = [Check(keys.network(network))]
        if znode is not None:
            ops.append(Put(path, encode(plus(_decoded(znode.data, path), traffic)), znode.version))
        else:
            if self._coordinator.get(keys.traffic(network)) is None:
                ops.append(Create(keys.traffic(network)))
            ops.append(Create(path, encode(traffic)))
        self._coordinator.commit(ops)


def _decoded(data: bytes, path: str) -> Traffic:
    try:
        return decode(Traffic, data, path)
    except Garbage:
        return Traffic()
