"""Registers this daemon as the holder of its node's name, and keeps it so. Does nothing else: liveness stands alone.

Holding the name means: the ephemeral `nodes/<node>/session` was made by our session. Two daemons never both hold it.
A daemon whose configuration has given up roles that VMs on the node need never takes it.
"""

import logging
from dataclasses import replace

from pvc.core import keys
from pvc.core.coordination import Check, Clash, Conflict, Coordinator, Create, Delete, Op, Put, SessionState, Znode
from pvc.core.decide.fencing import after_return
from pvc.core.decide.roles import HYPERVISOR, described
from pvc.core.errors import PvcError
from pvc.core.machine import Machine
from pvc.core.model import Fence, Node, NodeSession, RolesChanged
from pvc.core.records import Garbage, decode, encode
from pvc.core.residents import RolesNeeded, demand_unneeded
from pvc.core.runtime import Runtime, Signal


class NameTaken(PvcError):
    """Another daemon holds this node's name, or another machine does."""


class Liveness:
    """Service: makes and remakes the node's record and its ephemeral session node."""

    name = "liveness"
    after: tuple[str, ...] = ()

    def __init__(
        self,
        node: Node,
        coordinator: Coordinator,
        machine: Machine,
        runtime: Runtime,
        log: logging.Logger,
        patience: float,
    ) -> None:
        """`patience`: seconds to wait for a predecessor's session to expire before giving up with NameTaken."""
        self.wake: Signal = runtime.signal()
        self.taken: NameTaken | RolesNeeded | None = None
        """Set when the name belongs to somebody else, or the node may not have these roles: the daemon must end."""
        self._node = node
        self._coordinator = coordinator
        self._machine = machine
        self._runtime = runtime
        self._log = log
        self._patience = patience
        self._waiting_since: float | None = None
        self._session = 0
        coordinator.listen(self._session_changed)

    def registered(self) -> bool:
        """Whether this daemon holds its node's name at this moment."""
        coordinator = self._coordinator
        return (
            self.taken is None
            and coordinator.state is SessionState.CONNECTED
            and self._session != 0
            and coordinator.session_id == self._session
        )

    def step(self) -> float:
        if self.taken is not None or self.registered():
            return 30.0
        if self._coordinator.state is not SessionState.CONNECTED:
            return 1.0
        try:
            return self._register()
        except (NameTaken, RolesNeeded) as taken:
            self.taken = taken
            self._log.critical("%s", taken)
            return 30.0

    def stop(self) -> None:
        """Nothing to give back: closing the session removes the ephemeral node."""

    def _session_changed(self, state: SessionState) -> None:
        if state is not SessionState.CONNECTED:
            # While the servers are away they expire nobody, and afterwards every session has its full time again.
            self._waiting_since = None
        self.wake.set()

    def _register(self) -> float:
        me = self._coordinator.session_id
        holder = self._coordinator.get(keys.node_session(self._node.name))
        ops: list[Op] = self._record_ops()
        if holder is not None and holder.owner == me:
            self._hold(me)
            return 30.0
        if holder is not None and not self._may_replace(holder):
            return 0.5
        if holder is not None:
            ops.append(Delete(keys.node_session(self._node.name), holder.version))
        ops.append(Create(keys.node_session(self._node.name), encode(self._machine.this_process()), ephemeral=True))
        try:
            self._coordinator.commit(ops)
        except Conflict as conflict:
            if conflict.clash not in (Clash.EXISTS, Clash.MISSING, Clash.CHANGED):
                raise
            return 0.0
        self._hold(me)
        return 30.0

    def _hold(self, session: int) -> None:
        self._session = session
        self._waiting_since = None
        self._log.info("node %s: registered", self._node.name)

    def _record_ops(self) -> list[Op]:
        """What brings the node's record up to date; keeps its state.

        Raises NameTaken for another machine's record, RolesNeeded if VMs need a role that is not configured any more.
        """
        path = keys.node(self._node.name)
        znode = self._coordinator.get(path)
        if znode is None:
            return [Create(path, encode(self._node)), Create(keys.node_vms(self._node.name))]
        try:
            known = decode(Node, znode.data, path)
        except Garbage as error:
            self._log.error("%s; replacing it by a fresh record", error)
            return [Put(path, encode(self._node), znode.version)]
        if known.machine and self._node.machine and known.machine != self._node.machine:
            raise NameTaken(
                f"node {self._node.name} was registered by another machine ({known.machine}); give this node another "
                f"name in pvc.yaml, or run `pvc node forget {self._node.name}` if that machine is gone for good"
            )
        change = known.roles_changed
        if set(known.roles) != set(self._node.roles):
            demand_unneeded(self._coordinator, known.name, known.roles, self._node.roles)
            change = RolesChanged(known.roles, self._node.roles, self._runtime.now())
            self._log.info("node %s: roles %s (its configuration has changed)", known.name, described(change))
        new = replace(
            self._node,
            state=known.state,
            operation=known.operation,
            roles_changed=change,
            fence=self._fence(known),
        )
        return [Check(path, znode.version)] if new == known else [Put(path, encode(new), znode.version)]

    def _fence(self, known: Node) -> Fence | None:
        """What is left of a declaration that this machine is dead. Where VMs run, who runs them sees whether any is
        left from before."""
        return known.fence if HYPERVISOR in self._node.roles else after_return(known.fence)

    def _may_replace(self, holder: Znode) -> bool:
        """Whether the holder is a dead predecessor on this machine. Raises NameTaken when patience is over."""
        path = keys.node_session(self._node.name)
        try:
            session = decode(NodeSession, holder.data, path)
        except Garbage:
            session = NodeSession("an unknown host", 0, "", "")
        if self._machine.is_gone(session):
            return True
        now = self._runtime.monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
            self._log.warning(
                "node %s is held by process %d on %s; waiting up to %g s for its session to end",
                self._node.name,
                session.pid,
                session.host,
                self._patience,
            )
        if now - self._waiting_since < self._patience:
            return False
        raise NameTaken(
            f"another daemon runs as node {self._node.name}: process {session.pid} on {session.host}; "
            "stop it, or give this node another name in pvc.yaml"
        )
