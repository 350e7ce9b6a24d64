"""Keeps this node's gateways as they should be: draws tickets, prepares, hands over, and has routers made and removed.

Nobody acts as a gateway without a ticket of its own session; how long frames pass is `tenure.py`'s.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pvc.core import keys as core
from pvc.core.context import Context
from pvc.core.coordination import Check, Conflict, CoordinationError, Create, Delete, Op, Put, SessionState
from pvc.core.mirror import Mirror
from pvc.core.model import Finding, Node, NodeState, Severity
from pvc.core.records import encode
from pvc.core.runtime import Signal
from pvc.core.states import note
from pvc.plugins.networking import keys
from pvc.plugins.networking.decide.attachment import NetworkUnusable
from pvc.plugins.networking.gateway.candidates import read_candidates
from pvc.plugins.networking.gateway.cases import Case, CaseBook
from pvc.plugins.networking.gateway.decide.addresses import allocate, findings
from pvc.plugins.networking.gateway.decide.election import (
    READY_WITHIN,
    TAKEN_WITHIN,
    Act,
    Standing,
    Ticket,
    Wanted,
    allot,
    load_of,
    next_act,
    ranked,
)
from pvc.plugins.networking.gateway.decide.wanted import Books, has_gateway, router
from pvc.plugins.networking.gateway.leases import LeaseBook
from pvc.plugins.networking.gateway.routers import Host, Router, RouterError, Routers
from pvc.plugins.networking.gateway.tenure import Tenure
from pvc.plugins.networking.networks import NetworkService
from pvc.plugins.networking.records import Gateway, Network, Ready, decoded, read_networks, read_ports, unread_ports
from pvc.plugins.networking.schema import SECTION

LOOK = 15.0
"""Seconds between looks at the routers when nothing else happens: somebody may have changed them by hand."""
LOOK_AT_LAST = 2 * LOOK
"""The same while gateways are being taken over and handed over all the time: VMs wait for that, and not for a look."""
LATE = 1.0
"""Seconds to the next try after the tree has refused something."""
ORPHANED = 5.0
"""Seconds between looks for a node while a gateway has none."""
ROUNDING = 0.01
"""Seconds added to a pause up to a moment: a pause too short by a rounding error would be over before the moment."""
LONELY = 30.0
"""Seconds without any gateway after which that is a finding."""
FAILING = 10.0
"""Seconds after which a gateway that cannot be made here is offered to others."""
AWHILE = 0.5
"""Seconds for which a router that was handed over stays, silent: to remove it takes time that the others need."""
HERE = frozenset({Act.HOLD, Act.TAKE, Act.RENEW, Act.HAND_OVER, Act.RECALL})
"""What the node does that is the gateway, or becomes it now."""
URGENT = frozenset({Act.TAKE, Act.HAND_OVER})
"""What VMs wait for: whatever else there is to do comes after it."""


class GatewayService:
    """Service `gateways`."""

    name = "gateways"
    after: tuple[str, ...] = ("liveness", "networks")

    def __init__(self, context: Context, networks: NetworkService, routers: Routers) -> None:
        self.wake: Signal = context.runtime.signal()
        self.tenure = Tenure(context, routers, self.wake)
        self._me = context.node
        self._context = context
        self._coordinator = context.coordinator
        self._runtime = context.runtime
        self._log: logging.Logger = context.log
        self._networks = networks
        self._routers = routers
        self._mirror = Mirror(context.coordinator, context.runtime, self.wake)
        self._leases = LeaseBook(context.coordinator, self._mirror)
        self._settled: dict[str, Router] = {}
        """As this daemon last had them made."""
        self._doubtful: set[str] = set()
        """Those that may have been changed since."""
        self._ailing: dict[str, str] = {}
        self._unable = ""
        """Why this node can make no router at all; empty: it can."""
        self._failing: dict[str, float] = {}
        """Since when a gateway that this node has cannot be made."""
        self._tried: dict[str, set[str]] = {}
        """Who was asked to have it instead."""
        self._looked = float("-inf")
        self._leaving: dict[str, float] = {}
        """Until when a router that was handed over stays here."""
        self._casebook = CaseBook(context.node, self._mirror, context.runtime)
        self._session = 0
        self._problems: Mapping[str, str] = {}
        self._of_addresses: dict[str, list[Finding]] = {}
        """By network whose gateway is here: what is wrong with its addresses."""
        networks.follow(self.wake)

    def step(self) -> float:
        if not self._context.registered():
            self._fall_silent()
            return LATE
        self._session = self._coordinator.session_id
        networks = read_networks(self._mirror)
        unreadable = {name for name, network in networks.items() if network is None}
        books = self._books(networks)
        cases = self._cases(books, unreadable)
        acts = {name: next_act(self._me, case.standing) for name, case in cases.items()}
        there = self._look_sometimes(LOOK if URGENT.isdisjoint(acts.values()) else LOOK_AT_LAST)
        self._elect(acts, books, cases)
        kept = {name for name, act in acts.items() if act in HERE or act is Act.PREPARE}
        self._networks.route(kept)
        self._of_addresses = {name: found for name, found in self._of_addresses.items() if name in kept}
        problems = _orphans(cases, acts)
        if self._unable and books.networks:
            problems[""] = f"this node makes no gateways: {self._unable}"
        order = sorted(acts.items(), key=lambda each: each[1] not in URGENT)
        done = [self._do(name, act, cases[name], books, problems) for name, act in order]
        self._remove((self._settled.keys() | there) - kept - unreadable - self._lingering())
        for name in self.tenure.prepared() - kept:
            self.tenure.leave(name)
        done += [self._pass_on(name, cases[name], books, acts[name] is Act.HOLD and name in problems) for name in cases]
        self._note(problems)
        if not all(done):
            self._mirror.forget()
            return LATE
        pauses = [_pause(cases[name].standing, act) for name, act in acts.items()]
        leaving = [until - self._runtime.monotonic() + ROUNDING for until in self._leaving.values()]
        return min([ORPHANED if problems else LOOK, *pauses, *leaving])

    def stop(self) -> None:
        """The routers go on for a while, and others wait for longer than that: the daemon may come back.

        Where they could not be asked to, a router is silent before the session ends: then another takes it over.
        """
        try:
            for name in sorted(self.tenure.joined()):
                self._part_with(name)
        finally:
            self._routers.close()

    def hosts(self, network: str) -> tuple[Host, ...]:
        """What DHCP of a network's router here was given; nothing, if this daemon has not had it made."""
        router = self._settled.get(network)
        return () if router is None else router.services.hosts

    def findings(self) -> list[Finding]:
        """What is wrong with the gateways that this node knows of."""
        texts = [self._problems[name] for name in sorted(self._problems)]
        if self.tenure.problem:
            texts.append(f"no gateway of this node lets anything pass: {self.tenure.problem}")
        critical = [Finding(SECTION, Severity.CRITICAL, text) for text in texts]
        return [*critical, *(one for _, found in sorted(self._of_addresses.items()) for one in found)]

    def _books(self, networks: Mapping[str, Network | None]) -> Books:
        wanted = {name: network for name, network in networks.items() if network is not None and has_gateway(network)}
        self._mirror.prefetch(
            path(name) for name in wanted for path in (keys.gateway, keys.gateway_ticket, keys.leases)
        )
        return Books(wanted, {name: self._leases.of(name) for name in wanted})

    def _cases(self, books: Books, unreadable: Collection[str]) -> dict[str, Case]:
        names = {*books.networks, *self._settled, *self.tenure.joined()}
        return {
            name: self._casebook.of(name, name in books.networks, self._session)
            for name in sorted(names.difference(unreadable))
        }

    def _elect(self, acts: dict[str, Act], books: Books, cases: Mapping[str, Case]) -> None:
        """Take those that nobody has and that fall to this node."""
        orphans = [name for name, act in acts.items() if act is Act.ELECT]
        if orphans and not self._unable and self._may_be_elected():
            for name, node in self._allotted(orphans, books, cases).items():
                acts[name] = Act.TAKE if node == self._me else Act.ELECT

    def _may_be_elected(self) -> bool:
        """Only who may be elected need look at all the others."""
        znode = self._mirror.get(core.node(self._me))
        node = decoded(Node, znode.data, core.node(self._me)) if znode else None
        return node is not None and node.state in (NodeState.READY, NodeState.UNFLUSHING)

    def _allotted(self, orphans: Sequence[str], books: Books, cases: Mapping[str, Case]) -> dict[str, str]:
        held = [case.standing.record.node for case in cases.values() if case.ticket is not None]
        wanted = []
        for name in orphans:
            standing, upstream = cases[name].standing, books.networks[name].upstream
            waited = standing.orphaned - standing.record.patience
            passed = int(max(0.0, waited) // TAKEN_WITHIN)
            wanted.append(Wanted(name, upstream.network if upstream else "", standing.record.next or "", passed))
        candidates = read_candidates(self._coordinator)
        return allot(wanted, candidates, load_of([node for node in held if node]))

    def _do(self, name: str, act: Act, case: Case, books: Books, problems: dict[str, str]) -> bool:
        """Do it; whether the tree has taken it."""
        try:
            wanted = router(name, books, self._networks.bridge) if act in HERE or act is Act.PREPARE else None
        except NetworkUnusable as why:
            wanted = None
            problems[name] = f"the gateway of network {name} cannot be made: {why}"
        try:
            return self._change(name, act, case, wanted)
        except RouterError as error:
            problems[name] = f"the gateway of network {name} cannot be made: {error}"
            self._settled.pop(name, None)
            return True
        except Conflict as conflict:
            self._log.debug("gateway %s: %s; looking again", name, conflict)
            return False
        finally:
            for path in (keys.gateway(name), keys.gateway_ticket(name), keys.gateway_ready(name)):
                if act not in (Act.LEAVE, Act.HOLD, Act.ELECT):
                    self._mirror.drop(path)

    def _change(self, name: str, act: Act, case: Case, wanted: Router | None) -> bool:
        match act:
            case Act.TAKE:
                self._take(name, case)
            case Act.RENEW:
                self._renew(name, case)
            case Act.HAND_OVER:
                self._hand_over(name, case)
                return True
            case Act.RECALL:
                self._recall(name, case)
            case Act.RELEASE:
                self._release(name, case)
            case Act.PREPARE if wanted is not None:
                self._settle(replace(wanted, active=False))
                self.tenure.prepare(name)
                self._say_ready(name, case)
        if act in HERE:
            if name not in self.tenure.joined():
                self.tenure.join(name, self._session)
            if wanted is not None:
                self._settle(wanted)
        return act not in HERE or self._give_addresses(name)

    def _take(self, name: str, case: Case) -> None:
        """Draw the ticket; from this moment on this node is the gateway."""
        old = case.standing.record
        new = Gateway(node=self._me, since=self._runtime.now(), home=old.home or self._me)
        ops: list[Op] = [Check(core.node_session(self._me)), *self._put(name, case, new), self._ticket(name)]
        if case.ready:
            ops.append(Delete(keys.gateway_ready(name)))
        if old.node != self._me:
            ops.append(self._as_ready_as_seen())
        sent = self._runtime.monotonic()
        self._coordinator.commit(ops)
        self.tenure.join(name, self._session, sent)
        if old.node == self._me:
            self._log.info("gateway %s: begins here", name)
        else:
            note(self._log, f"gateway {name}", old.node or "none", self._me, "taken over" if old.node else "elected")

    def _as_ready_as_seen(self) -> Op:
        """A flush that is asked for meanwhile rewrites the node's record."""
        znode = self._mirror.get(core.node(self._me))
        return Check(core.node(self._me), znode.version if znode else -1)

    def _renew(self, name: str, case: Case) -> None:
        assert case.ticket is not None and case.version is not None
        record: list[Op] = [Check(keys.gateway(name), case.version)]
        if case.standing.record.patience:  # asked for until somebody comes back, which is now
            record = self._put(name, case, replace(case.standing.record, patience=0.0))
        old = Delete(keys.gateway_ticket(name), case.ticket.version)
        sent = self._runtime.monotonic()
        self._coordinator.commit([Check(core.node_session(self._me)), *record, old, self._ticket(name)])
        self.tenure.join(name, self._session, sent)
        self._log.info("gateway %s: its ticket is renewed", name)

    def _hand_over(self, name: str, case: Case) -> None:
        """Be silent first: from the transaction on the other node may begin. Others leave it alone for a while."""
        old = case.standing.record
        self._silence(name)
        patience = self._context.config.zookeeper.session_timeout
        new = replace(old, node=old.next, since=self._runtime.now(), next=None, patience=patience)
        gone = [Delete(keys.gateway_ready(name)), Delete(keys.gateway_ticket(name))]
        self._coordinator.commit([*self._put(name, case, new), *gone])
        self.tenure.leave(name)
        self._leaving[name] = self._runtime.monotonic() + AWHILE
        note(self._log, f"gateway {name}", self._me, str(old.next), "handed over")

    def _pass_on(self, name: str, case: Case, books: Books, fails: bool) -> bool:
        """Ask another node to have a gateway that cannot be made here, one after the other; whether that is written."""
        if not fails and case.standing.record.next is None:
            self._failing.pop(name, None)
            self._tried.pop(name, None)
        if not fails or case.standing.record.next is not None:
            return True
        now = self._runtime.monotonic()
        if now - self._failing.setdefault(name, now) < FAILING:
            return True
        tried = self._tried.setdefault(name, {self._me})
        upstream = books.networks[name].upstream
        others = read_candidates(self._coordinator, tried)
        order = ranked(Wanted(name, upstream.network if upstream else ""), others, {})
        if not order:
            tried.intersection_update({self._me})
            self._failing[name] = now
            return True
        tried.add(order[0])
        try:
            self._coordinator.commit(self._put(name, case, replace(case.standing.record, next=order[0])))
        except Conflict:
            return False
        finally:
            self._mirror.drop(keys.gateway(name))
        self._log.info("gateway %s: ordered from %s to %s", name, self._me, order[0])
        return True

    def _recall(self, name: str, case: Case) -> None:
        old = case.standing.record
        gone: list[Op] = [Delete(keys.gateway_ready(name))] if case.ready else []
        self._coordinator.commit([*self._put(name, case, replace(old, next=None)), *gone])
        why = "is not ready in time" if case.standing.next_lives else "is not alive"
        self._log.info("gateway %s: stays here, for %s %s", name, old.next, why)

    def _release(self, name: str, case: Case) -> None:
        self._silence(name)  # which may take long: whoever has taken it meanwhile has written the record
        as_read = Check(keys.gateway(name), case.version or 0)
        self._coordinator.commit([as_read, Delete(keys.gateway_ticket(name))])
        self.tenure.leave(name)
        note(self._log, f"gateway {name}", self._me, "none", "the network has no gateway any more")

    def _say_ready(self, name: str, case: Case) -> None:
        if case.standing.ready == self._me:
            return
        path, data = keys.gateway_ready(name), encode(Ready(self._me))
        old: list[Op] = [Delete(path)] if case.ready else []
        self._coordinator.commit(
            [Check(keys.gateway(name), case.version or 0), *old, Create(path, data, ephemeral=True)]
        )

    def _put(self, name: str, case: Case, new: Gateway) -> list[Op]:
        path = keys.gateway(name)
        if case.version is None:
            return [Create(path, encode(new))]
        return [Put(path, encode(new), case.version)]

    def _ticket(self, name: str) -> Op:
        return Create(keys.gateway_ticket(name), ephemeral=True)

    def _settle(self, wanted: Router) -> None:
        name = wanted.network
        if self._settled.get(name) != wanted or name in self._doubtful:
            self._routers.settle(wanted)
            self._settled[name] = wanted
            self._doubtful.discard(name)

    def _give_addresses(self, name: str) -> bool:
        """Addresses for the VMs on a network that have none yet; whether the tree has taken them."""
        znode = self._mirror.get(keys.network(name))
        network = decoded(Network, znode.data, keys.network(name)) if znode else None
        if znode is None or network is None or not network.dhcp:
            return True
        macs: dict[str, str] = {}
        nodes = read_ports(self._mirror, name)
        for ports in nodes.values():
            macs.update({mac: ports.names.get(mac) or macs.get(mac, "") for mac in ports.macs})
        unread = unread_ports(self._mirror, name, nodes)
        new = allocate(network, self._leases.of(name), macs, self._runtime.now(), complete=not unread)
        if not new:
            self._tell_of_addresses(name, findings(network, self._leases.of(name), macs, nodes, unread))
        if new and self._leases.write(name, new, znode.version):
            self.wake.set()  # the router is to know them
            return True
        return not new

    def _tell_of_addresses(self, name: str, found: list[Finding]) -> None:
        if self._of_addresses.get(name, []) != found:
            self._of_addresses[name] = found
            self._context.refresh_facts()

    def _lingering(self) -> set[str]:
        """The networks whose router was handed over a moment ago: it is silent, and may stay until there is time."""
        now = self._runtime.monotonic()
        self._leaving = {name: until for name, until in self._leaving.items() if until > now}
        return self._leaving.keys() & self._settled.keys()

    def _look_sometimes(self, every: float) -> set[str]:
        """Once in a while the networks with a router here; each is then settled again, whoever changed it."""
        now = self._runtime.monotonic()
        if now - self._looked < every:
            return set()
        self._looked = now
        try:
            there = self._routers.look()
        except RouterError as error:
            self._unable = str(error)
            return set()
        self._unable = ""
        self._doubtful = set(self._settled)
        self._ailing = {name: state.problem for name, state in there.items() if state.problem}
        return set(there)

    def _silence(self, name: str) -> None:
        """Take a router's legs down; one that this daemon has not made goes altogether. Raises RouterError."""
        if name in self._settled:
            self._settle(replace(self._settled[name], active=False))
        else:
            self._routers.remove(name)

    def _remove(self, networks: Collection[str]) -> None:
        for name in sorted(networks):
            try:
                self._routers.remove(name)
            except RouterError as error:  # nothing passes: it is not held
                self._ailing[name] = f"its router, which is not wanted here, cannot be removed: {error}"
                continue
            self._settled.pop(name, None)
            self._doubtful.discard(name)
            self._ailing.pop(name, None)

    def _note(self, problems: Mapping[str, str]) -> None:
        problems = {**{name: f"the gateway of network {name}: {why}" for name, why in self._ailing.items()}, **problems}
        for name, text in problems.items():
            if self._problems.get(name) != text:
                self._log.warning("%s", text)
        if problems != self._problems:
            self._problems = problems
            self._context.refresh_facts()

    def _fall_silent(self) -> None:
        """Without the session whose tickets they were nobody may be a gateway."""
        if self._coordinator.state is SessionState.SUSPENDED or self._coordinator.session_id == self._session:
            return
        for name in [name for name, known in self._settled.items() if known.active]:
            note(self._log, f"gateway {name}", self._me, "silent", "the session is lost")
            try:
                self._silence(name)
            except RouterError as error:  # nothing passes: it is not held
                self._ailing[name] = str(error)
                self._settled.pop(name)

    def _part_with(self, name: str) -> None:
        try:
            self._ask_for_patience(name)
        except CoordinationError as error:
            self._log.warning("gateway %s: %s; it is silent until somebody takes it over", name, error)
            try:
                self._silence(name)
            except RouterError as trouble:
                self._log.warning("gateway %s: %s", name, trouble)

    def _ask_for_patience(self, name: str) -> None:
        patience = self._context.config.zookeeper.session_timeout
        sent = self._runtime.monotonic()
        znode, ticket = self._coordinator.get_many([keys.gateway(name), keys.gateway_ticket(name)])
        record = decoded(Gateway, znode.data, keys.gateway(name)) if znode else None
        if znode is None or record is None or ticket is None or ticket.owner != self._session:
            return
        new = encode(replace(record, next=None, patience=patience))
        self._coordinator.commit([Check(keys.gateway_ticket(name)), Put(keys.gateway(name), new, znode.version)])
        self.tenure.join(name, self._session, sent)


def _orphans(cases: Mapping[str, Case], acts: Mapping[str, Act]) -> dict[str, str]:
    """By network, what to say of a gateway that no node takes."""
    return {
        name: f"network {name} has no gateway: no node that is in service can be it; see `pvc network info {name}`"
        for name, act in acts.items()
        if act is Act.ELECT and cases[name].standing.orphaned - cases[name].standing.record.patience > LONELY
    }


def _pause(standing: Standing, act: Act) -> float:
    """Seconds until something is due though nobody writes anything."""
    if act is Act.ELECT:
        return LATE if standing.orphaned < TAKEN_WITHIN else ORPHANED
    if standing.ticket is Ticket.NONE and standing.orphaned < standing.record.patience:
        return standing.record.patience - standing.orphaned + ROUNDING
    if standing.ticket is Ticket.OURS and standing.record.next:
        return max(0.0, READY_WITHIN - standing.asked) + ROUNDING
    return LOOK
