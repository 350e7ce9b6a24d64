"""The verbs of a scenario: what an administrator asks for and what goes wrong, done to a simulated cluster.

A step is a mapping of one verb to its argument: `{flush: hv1}`, `{flush: {node: hv1, parallel: 2}}`, or the bare verb.
What the cluster refuses raises PvcError; `refused` expects it. Nothing here looks at a real clock.
"""

import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pvc.core import keys
from pvc.core.coordination import Delete
from pvc.core.devices import request_change
from pvc.core.errors import PvcError
from pvc.core.model import NodeSession, Policy
from pvc.core.storage import StorageError
from pvc.plugins.hypervisor import requests
from pvc.plugins.hypervisor.host import EndReason, GuestState
from pvc.plugins.networking import records as networks
from pvc.plugins.networking import requests as network_requests
from pvc.plugins.networking.plugging import PlugIn, Unplug
from pvc.testing.cluster import SimCluster, SimMachine, SimNode
from pvc.testing.conditions import unmet
from pvc.testing.guests import parsed_guest
from pvc.testing.ledger import ask_task, cancel_task
from pvc.testing.migration import MigrationPhase
from pvc.testing.runtime import Killed
from pvc.testing.storage import FakeContents

Step = str | Mapping[str, Any]


class ScenarioError(PvcError):
    """A scenario says something that cannot be done, or what it expects is not so."""


class TwinMachine(SimMachine):
    """A second process under a name that is taken: beside the first daemon, or on a machine of its own."""

    def __init__(self, first: SimMachine, same: bool) -> None:
        super().__init__("twin")
        self._first = first
        self._same = same

    def identity(self) -> str:
        return self._first.identity() if self._same else super().identity()

    def this_process(self) -> NodeSession:
        boot = self._first.this_process().boot
        return replace(super().this_process(), pid=9999, boot=boot) if self._same else super().this_process()

    def is_gone(self, session: NodeSession) -> bool:
        return self._first.is_gone(session) if self._same else super().is_gone(session)


class Steps:
    """Performs steps on one cluster, one after another."""

    def __init__(self, cluster: SimCluster, *, lenient: bool = False) -> None:
        """`lenient`: what is refused at a moment that `when` waited for is an answer like another."""
        self.cluster = cluster
        self._lenient = lenient
        self._calm = 0
        self._verbs = {
            name: getattr(self, name)
            for name in dir(type(self))
            if not name.startswith("_") and callable(getattr(self, name)) and name != "perform"
        }

    def perform(self, step: Step) -> None:
        """Do one step. Raises ScenarioError, or what the request raises."""
        verb, argument = parsed(step)
        do = self._verbs.get(verb)
        if do is None:
            close = difflib.get_close_matches(verb, self._verbs, n=3)
            raise ScenarioError(f"there is no step {verb!r}; use one of {', '.join(close or sorted(self._verbs))}")
        if isinstance(argument, Mapping) and verb not in ("expect", "until"):
            do(**argument)
        elif argument is None:
            do()
        else:
            do(argument)

    # The daemons and what they stand on

    def start(self, node: str) -> None:
        """Start a node's daemon if it does not run and the host has power."""
        if self._node(node).process is None:
            self.cluster.start_daemon(node)

    def stop(self, node: str) -> None:
        """Stop a node's daemon as its service manager would, and wait for it."""
        it = self._node(node)
        if it.process is None or it.daemon is None:
            return
        task = it.process.spawn("stop", it.daemon.stop)
        self.cluster.run_until(lambda: not task.alive(), 60.0)
        self.cluster.kill_daemon(node)

    def kill(self, node: str) -> None:
        """`kill -9` of a node's daemon."""
        self._node(node)
        self.cluster.kill_daemon(node)

    def restart(self, node: str) -> None:
        """Kill a node's daemon and start it again at once."""
        self.kill(node)
        self.start(node)

    def reload(self, node: str, config: Mapping[str, Any] | None = None) -> None:
        """The further configuration of a node becomes this, and its daemon reads it again (SIGHUP)."""
        if self._node(node).daemon is not None:
            self.cluster.reload(node, config or {})

    def twin(self, node: str, machine: str) -> None:
        """Start a second daemon of that name, called `twin` here, on the `same` or on `another` machine."""
        first = self._node(node)
        double = TwinMachine(first.machine, machine == "same")
        self.cluster.nodes["twin"] = SimNode(
            "twin",
            double,
            self.cluster.fabric.host("twin"),
            first.bridges,
            first.directories,
            first.config,
            first.dataplane,
            first.packetfilter,
            first.routers,
        )
        self.cluster.start_daemon("twin")

    def lose_session(self, node: str) -> None:
        """The session of a node's daemon expires; a new one begins at once."""
        if self._node(node).process is not None:
            self.cluster.lose_session(node)

    def at_call(self, node: str, calls: int, do: Sequence[Step]) -> None:
        """Do steps during the call to ZooKeeper that a node's daemon makes after so many `calls` more: between what it
        has decided and what it writes."""
        it = self._node(node)
        if it.process is None:
            return
        session, process, left = it.sessions[0], it.process, itertools.count(calls, -1)
        usual, calm = session.latency, self._calm

        def latency() -> float:
            if next(left) == 0 and calm == self._calm:
                self._all(do)
                if process.dead:
                    raise Killed
            return usual()

        session.latency = latency

    def calm(self) -> None:
        """Take back what was planned for later calls and news."""
        self._calm += 1
        for node in self.cluster.nodes:
            self.lose_events(node, 0)

    def lose_events(self, node: str, count: int) -> None:
        """The next watches of a node's daemon stay silent."""
        for session in self._node(node).sessions[:1] if self._node(node).process else ():
            session.lose_events(count)

    def suspend(self, node: str) -> None:
        """Cut a node's daemon off from ZooKeeper."""
        for session in self._node(node).sessions if self._node(node).process else ():
            session.suspend()

    def resume(self, node: str) -> None:
        """Undo `suspend`."""
        for session in self._node(node).sessions if self._node(node).process else ():
            session.resume()

    def lose_answer(self, node: str, arrived: bool) -> None:
        """The connection breaks during the daemon's next write, after the write `arrived` at the servers or before."""
        for session in self._node(node).sessions[:1] if self._node(node).process else ():
            session.lose_next_commit(applied=arrived)

    def power_off(self, node: str) -> None:
        """A host loses power."""
        self._node(node)
        self.cluster.power_off(node)

    def power_on(self, node: str) -> None:
        """A host without power boots, and its daemon starts."""
        if self._node(node).process is None:
            self.cluster.power_on(node)

    def libvirtd_down(self, node: str) -> None:
        """The hypervisor's daemon of a host dies; guests run on."""
        self._node(node).host.down()

    def libvirtd_up(self, node: str) -> None:
        """Undo `libvirtd_down`."""
        self._node(node).host.up()

    def zookeeper_down(self) -> None:
        """All ZooKeeper servers go down."""
        self.cluster.ensemble.stop()

    def zookeeper_up(self) -> None:
        """Undo `zookeeper_down`."""
        self.cluster.ensemble.start()

    def cut(self, one: str, other: str) -> None:
        """Cut the migration network between two hosts."""
        self.cluster.fabric.cut(one, other)

    def heal(self, one: str, other: str) -> None:
        """Undo `cut`."""
        self.cluster.fabric.heal(one, other)

    def configure(self, node: str, to: Mapping[str, Any]) -> None:
        """Edit a node's configuration; it counts from the daemon's next start on."""
        self._node(node)
        self.cluster.configure(node, to)

    def bridge(self, node: str, name: str, up: bool) -> None:
        """Somebody switches a bridge of a host on or off; one that it does not have is made."""
        self._node(node).bridges.switch(name, up)

    def directory(self, node: str, path: str, **how: Any) -> None:
        """A directory of a host is there, with `total` and `free` MiB and `mounted`; `hangs: true`: its server is
        gone; `gone: true`: it is removed."""
        directories = self._node(node).directories
        if how.pop("hangs", False):
            directories.hang(path)
        elif how.pop("gone", False):
            directories.remove(path)
        else:
            directories.add(path, **how)

    # Requests

    def flush(self, node: str, deadline: float | None = None, **how: Any) -> None:
        """Ask for a flush; `deadline` in seconds from now, the rest as in Operation."""
        self._ask("flush", node, deadline, how)

    def unflush(self, node: str, deadline: float | None = None, **how: Any) -> None:
        """Ask for an unflush, like `flush`; `only` names the VMs to bring home."""
        self._ask("unflush", node, deadline, how)

    def forecast(self, kind: str, node: str, **how: Any) -> None:
        """Ask what a flush or unflush would do, and wait for no answer."""
        self.cluster.begin_forecast(kind, node, lambda _answer: None, **how)

    def foreseen(self, kind: str, node: str, targets: Mapping[str, str | None], **how: Any) -> None:
        """A flush or unflush would move these VMs there, and no others; null: it would stay."""
        forecast = self.cluster.forecast(kind, node, **how)
        found = {prospect.name: prospect.target for prospect in forecast.prospects}
        if found != targets:
            raise ScenarioError(f"the {kind} of {node} would do {found}, not {dict(targets)}")

    def cancel(self, node: str, now: bool = False) -> None:
        """Ask the operation of a node to end; `now`: abort the move in flight."""
        self.cluster.cancel(node, "now" if now else "after-current")

    def define(self, name: str, node: str, **how: Any) -> None:
        """Define a VM and start it, unless `run: false`."""
        if "nodes" in how:
            how["nodes"] = tuple(how["nodes"])
        self.cluster.define(name, node, **how)

    def modify(self, vm: str, **how: Any) -> None:
        """Change policy, limit (`nodes`) or spread group of a VM; `options` gives it settings of its own."""
        options = how.pop("options", None)
        if "policy" in how:
            how["policy"] = Policy(how["policy"])
        if "nodes" in how:
            how["nodes"] = tuple(how["nodes"])
        if how:
            requests.modify(self.cluster.client, self.cluster.vm(vm), **how)
        if options:
            requests.set_options(self.cluster.client, self.cluster.vm(vm), options)

    def forget(self, node: str) -> None:
        """Remove a node without power from the tree, whatever still remembers it."""
        self.run(30)  # until its session has ended
        client, path = self.cluster.client, keys.node(node)
        children = [f"{path}/{child}" for child in client.children(path) or ()]
        below = [f"{child}/{name}" for child in children for name in client.children(child) or ()]
        client.commit([Delete(one) for one in (*below, *children, path)])
        self.cluster.nodes.pop(node)

    def undefine(self, vm: str) -> None:
        """Forget a VM."""
        requests.undefine(self.cluster.client, self.cluster.vm(vm))

    def start_vm(self, vm: str) -> None:
        """Have a VM run."""
        requests.start(self.cluster.client, self.cluster.vm(vm))

    def stop_vm(self, vm: str, now: bool = False) -> None:
        """Have a VM shut down by its guest, or powered off `now`."""
        requests.stop(self.cluster.client, self.cluster.vm(vm), now=now)

    def restart_vm(self, vm: str) -> None:
        """Have a VM shut down and started again."""
        requests.restart(self.cluster.client, self.cluster.vm(vm))

    def move(self, vm: str, to: str | None = None) -> None:
        """Have a VM go to a node for good."""
        requests.send(self.cluster.client, self.cluster.vm(vm), to, keep_home=False)

    def migrate(self, vm: str, to: str | None = None) -> None:
        """Have a VM go to a node and remember its home."""
        requests.send(self.cluster.client, self.cluster.vm(vm), to, keep_home=True)

    def set(self, vm: str, settings: Mapping[str, Any]) -> None:
        """Give a VM settings of its own, by dotted key."""
        requests.set_options(self.cluster.client, self.cluster.vm(vm), settings)

    def unmigrate(self, vm: str) -> None:
        """Have a VM go home."""
        requests.send_home(self.cluster.client, self.cluster.vm(vm))

    # Networks

    def add_network(self, name: str, **fields: Any) -> None:
        """Make a network: bridged if it has a `device`, else managed; `fields` as in its record."""
        kind = networks.NetworkKind.BRIDGED if "device" in fields else networks.NetworkKind.MANAGED
        network_requests.add(self.cluster.client, networks.Network(name, kind, **fields))

    def modify_network(self, name: str, **fields: Any) -> None:
        """Change fields of a network."""
        network_requests.modify(self.cluster.client, name, fields)

    def plug(self, vm: str, network: str, mac: str) -> None:
        """Plug a VM into a network, in its definition and, if it runs, at once."""
        it, client = self.cluster.vm(vm), self.cluster.client
        wish = PlugIn(client, self.cluster.client_process, "tester", it, network, mac)
        request_change(client, it, wish, self.cluster.needs, requests.no_opinion)

    def unplug(self, vm: str, what: str) -> None:
        """Undo `plug`; `what`: the network, or the MAC address."""
        it = self.cluster.vm(vm)
        wish = Unplug(self.cluster.client_process, "tester", it, what)
        request_change(self.cluster.client, it, wish, self.cluster.needs, requests.no_opinion)

    def remove_network(self, name: str) -> None:
        """Forget a network."""
        network_requests.remove(self.cluster.client, name)

    def device(self, node: str, name: str, **fields: Any) -> None:
        """Somebody makes or changes a network device of a node by hand; `fields` as in `Link`."""
        self._node(node).dataplane.add(name, **fields)

    # Pools and volumes

    def storage(self, do: str, node: str, **about: Any) -> None:
        """Ask a node for a task: `do` is its kind, `about` has fields of its record."""
        ask_task(self.cluster, do, node, **about)

    def cancel_task(self, what: str) -> None:
        """Ask for the end of the last task of a volume (POOL/VOLUME) or pool."""
        cancel_task(self.cluster, what)

    def storage_slow(self, seconds: float, node: str | None = None) -> None:
        """Every part of a call to the storage takes so long, on a node or everywhere."""
        self.cluster.storage.slow(seconds, node=node)

    def storage_hangs(self, node: str | None = None, pool: str | None = None, hangs: bool = True) -> None:
        """Calls to the storage do not return, until `hangs: false`."""
        self.cluster.storage.hang(hangs, node=node, pool=pool)

    def storage_spoilt(self, why: str, node: str | None = None, pool: str | None = None) -> None:
        """The storage cannot be used, and says why; an empty text ends that."""
        self.cluster.storage.spoil(why, node=node, pool=pool)

    def storage_fails(self, call: str, why: str, halfway: bool = False) -> None:
        """The next call of that name fails, perhaps half done."""
        self.cluster.storage.fail_once(call, StorageError(why), halfway=halfway)

    def file(self, node: str, path: str, size: int) -> None:
        """A node has a file with an image of so many bytes."""
        self.cluster.storage.files[node, path] = FakeContents(size, path)

    # Guests and migrations

    def start_by_hand(self, vm: str, node: str) -> None:
        """Somebody starts a VM that runs nowhere with the tools of a node's hypervisor, past the cluster."""
        xml = self.cluster.client.get(keys.vm_xml(self._uuid(vm)))
        if xml is None or self.cluster.fabric.running(self._uuid(vm)):
            raise ScenarioError(f"{vm} runs already, or has no definition")
        self._node(node).host.start(xml.data.decode())

    def keep_remains(self, vm: str, node: str) -> None:
        """A node's hypervisor goes on listing a VM that was to arrive there when it died, and does not let go of it."""
        xml = self.cluster.client.get(keys.vm_xml(self._uuid(vm)))
        if xml is None:
            raise ScenarioError(f"{vm} has no definition")
        self._node(node).host.add(replace(parsed_guest(xml.data.decode()), state=GuestState.INCOMING))

    def clear_remains(self, vm: str, node: str) -> None:
        """An administrator removes what `keep_remains` has left."""
        self._node(node).host.remove(self._uuid(vm), EndReason.FAILED, only=GuestState.INCOMING)

    def guest_crashes(self, vm: str) -> None:
        """The guest dies."""
        self.cluster.fabric.guest_crashes(self._uuid(vm))

    def guest_powers_off(self, vm: str) -> None:
        """The guest powers itself off."""
        self.cluster.fabric.guest_powers_off(self._uuid(vm))

    def ignores_shutdown(self, vm: str, ignores: bool = True) -> None:
        """The guest does not react to requests to power off."""
        self.cluster.fabric.ignores_shutdown(self._uuid(vm), ignores)

    def copies(self, vm: str, seconds: float) -> None:
        """Copying the guest's memory takes so long."""
        self.cluster.fabric.set_copy_seconds(self._uuid(vm), seconds)

    def never_converges(self, vm: str) -> None:
        """The guest dirties its memory faster than it is copied."""
        self.cluster.fabric.never_converges(self._uuid(vm))

    def fail_migration(self, what: str, times: int | None = 1, phase: str = "copying") -> None:
        """The next migrations of a VM, or to a node, fail on entering a phase."""
        key = what if what in self.cluster.nodes else self._uuid(what)
        self.cluster.fabric.fail_migration(key, times=times, phase=MigrationPhase(phase))

    def fail_start(self, what: str, times: int | None = 1) -> None:
        """The next starts of a VM, or on a node, fail."""
        key = what if what in self.cluster.nodes else self._uuid(what)
        self.cluster.fabric.fail_start(key, times=times)

    def fail_plug(self, what: str, times: int | None = 1) -> None:
        """The next devices of a VM, or on a node, are not plugged in."""
        key = what if what in self.cluster.nodes else self._uuid(what)
        self.cluster.fabric.fail_plug(key, times=times)

    def keeps_devices(self, vm: str, keeps: bool = True) -> None:
        """The guest does not let go of devices."""
        self.cluster.fabric.keeps_devices(self._uuid(vm), keeps)

    def when(self, vm: str, reaches: str, do: Sequence[Step]) -> None:
        """Do steps at the instant at which a migration of the VM reaches a phase."""
        phase = MigrationPhase(reaches)
        self.cluster.fabric.call_at(self._uuid(vm), phase, partial(self._all, do))

    # Time, and what is expected

    def run(self, seconds: float) -> None:
        """Let so many simulated seconds pass."""
        self.cluster.run(seconds)

    def until(self, conditions: Mapping[str, Any]) -> None:
        """Let time pass until the conditions hold, at most `within` seconds (120)."""
        wanted = dict(conditions)
        within = float(wanted.pop("within", 120.0))
        if not self.cluster.run_until(lambda: not unmet(self.cluster, wanted), within):
            raise ScenarioError(f"not within {within:g} s: {'; '.join(unmet(self.cluster, wanted))}")

    def expect(self, conditions: Mapping[str, Any]) -> None:
        """The conditions hold now."""
        if wrong := unmet(self.cluster, conditions):
            raise ScenarioError("; ".join(wrong))

    def finish(self, node: str, within: float = 600.0) -> None:
        """Let time pass until the operation of a node has ended and left its gates."""
        self.cluster.finish(node, within)
        self.cluster.run(0.1)

    def settle(self) -> None:
        """Let time pass until every VM that should run does."""
        self.cluster.settle()

    def refused(self, step: Step, why: str) -> None:
        """The step is refused, with `why` in the message."""
        try:
            self.perform(step)
        except PvcError as error:
            if why not in str(error):
                raise ScenarioError(f"refused, but not because {why!r}: {error}") from error
            return
        raise ScenarioError(f"{step} was not refused")

    def _ask(self, kind: str, node: str, deadline: float | None, how: Mapping[str, Any]) -> None:
        until = None if deadline is None else self.cluster.client_process.now() + deadline
        self.cluster.ask(kind, node, deadline=until, **how)

    def _all(self, steps: Sequence[Step]) -> None:
        for step in steps:
            try:
                self.perform(step)
            except PvcError:
                if not self._lenient:
                    raise

    def _uuid(self, vm: str) -> str:
        return self.cluster.vm(vm).uuid

    def _node(self, name: str) -> SimNode:
        if name not in self.cluster.nodes:
            raise ScenarioError(f"there is no node {name}; the scenario has {', '.join(self.cluster.nodes)}")
        return self.cluster.nodes[name]


def parsed(step: Step) -> tuple[str, Any]:
    """The verb of a step and its argument. Raises ScenarioError."""
    if isinstance(step, str):
        return step, None
    if len(step) != 1:
        raise ScenarioError(f"a step has one verb, this one has {len(step)}: {dict(step)}")
    return next(iter(step.items()))


def described(step: Step) -> str:
    """The step in one line, as the log shows it."""
    verb, argument = parsed(step)
    return verb if argument is None else f"{verb} {_flat(argument)}"


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_flat(part)}" for key, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + "; ".join(_flat(part) for part in value) + "]"
    return str(value)
