"""Keeps the firewall of this node's networks in force: reads who and what, decides with `decide/`, has it done.

A port is named before its VM starts or arrives: whatever this node has business with has its ports in the rules. The
rules stay when it stops.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from pvc.core import keys as core
from pvc.core.context import Context
from pvc.core.coordination import Disconnected
from pvc.core.mirror import Mirror
from pvc.core.model import Finding, Severity
from pvc.core.records import Garbage
from pvc.core.runtime import Signal
from pvc.plugins.networking.decide.attachment import ports_of
from pvc.plugins.networking.decide.dataplane import bridge_of
from pvc.plugins.networking.decide.ports import FENCED, port_named
from pvc.plugins.networking.firewall.acl import read_acl
from pvc.plugins.networking.firewall.decide.membership import CLOSED, must_be_in_force, ports, wanted
from pvc.plugins.networking.firewall.enforcement import Firewall
from pvc.plugins.networking.firewall.packetfilter import PacketFilter, RulesetRefused
from pvc.plugins.networking.firewall.rules import Acl
from pvc.plugins.networking.firewall.wanted import MANAGED, FilteredNetwork, Port, Wanted
from pvc.plugins.networking.records import Network, NetworkKind, read_networks
from pvc.plugins.networking.schema import SECTION, Settings

LOOK = 15.0
"""Seconds between looks at the kernel's rules when nothing else happens: others may have changed them."""
AGAIN = 5.0
"""Seconds to the next try while the rules cannot be put in force."""
DEFINITIONS_AFRESH = 600.0
"""Seconds after which VMs' definitions are read again though no watch has fired: they are large."""
ONE_MAC = "give each interface a MAC address of its own"
RESTART = "it was not plugged in by its network's name, or by an older pvc; correct the definition, restart the VM"
LEFT = "the host's own rules may drop what goes between VMs; unless they must, set networking.bridge_netfilter: disable"


class FirewallService:
    """Service `firewall`."""

    name = "firewall"
    after: tuple[str, ...] = ("networks",)

    def __init__(self, context: Context, open_filter: Callable[[], PacketFilter], settings: Settings) -> None:
        self.wake: Signal = context.runtime.signal()
        self._me = context.node
        self._refresh_facts = context.refresh_facts
        self._log: logging.Logger = context.log
        self._settings = settings
        self._kernel = open_filter()
        self._firewall = Firewall(self._kernel, context.log)
        self._mirror = Mirror(context.coordinator, context.runtime, self.wake)
        self._definitions = Mirror(context.coordinator, context.runtime, self.wake, look_afresh=DEFINITIONS_AFRESH)
        self._parsed: dict[str, tuple[bytes, Mapping[str, frozenset[Port]]]] = {}
        self._known: dict[str, FilteredNetwork] = {}
        """Each network as it was last read in full."""
        self._plugged: Mapping[str, frozenset[str]] = {}
        self._wanted: Wanted | None = None
        self._judged: Mapping[str, str] = {}
        self._findings: tuple[Finding, ...] = ()
        self._listener: Signal | None = None

    def report_to(self, listener: Signal) -> None:
        """Set `listener` whenever `judgement` answers otherwise than before."""
        self._listener = listener

    def plugged(self, devices: Mapping[str, frozenset[str]]) -> None:
        """By network the devices of VMs that are in its bridge. From any thread."""
        if devices != self._plugged:
            self._plugged = devices
            self.wake.set()

    def judgement(self, network: str) -> str | None:
        """Why VMs must not be on a network here, as its rules are not in force; empty: they may; None: not known yet.

        From any thread.
        """
        return self._judged.get(network)

    def findings(self) -> list[Finding]:
        """What is wrong with the firewall of this node."""
        return list(self._findings)

    def step(self) -> float:
        try:
            found = self._read()
        except Disconnected:
            if self._wanted is not None:
                self._firewall.settle(self._wanted)  # others may change the rules while the cluster cannot be asked
            raise
        self._wanted, said = found
        settled = self._firewall.settle(self._wanted)
        self._judge(self._wanted, settled)
        held_up = any(self._judged.values())  # then the network says it
        findings = tuple(said) if held_up or not self._wanted.networks else (*said, *settled)
        if findings != self._findings:
            self._findings = findings
            self._refresh_facts()
        return AGAIN if held_up else LOOK

    def stop(self) -> None:
        """The rules stay: VMs keep running."""

    def _judge(self, wanted: Wanted, settled: list[Finding]) -> None:
        refusal = "" if self._firewall.in_force else "; ".join(finding.text for finding in settled)
        judged = {network.name: refusal if must_be_in_force(network) else "" for network in wanted.networks}
        if judged != self._judged:
            self._judged = judged
            if self._listener is not None:
                self._listener.set()

    def _read(self) -> tuple[Wanted, list[Finding]]:
        """What is to be in force, and what is wrong with what was read. Raises Disconnected."""
        networks = read_networks(self._mirror)
        said: list[Finding] = []
        filtered = [self._network(name, network, said) for name, network in networks.items()]
        self._known = {network.name: network for network in filtered}
        if not filtered:
            return Wanted(), said
        there = {
            network: frozenset(port for device in devices if (port := port_named(device)))
            for network, devices in self._plugged.items()
        }
        found = ports(self._expected().values(), there)
        for name in found.disputed:
            said.append(_critical(f"device {name} is wanted on several networks, and gets nothing through; {ONE_MAC}"))
        said += self._unfiltered()
        said += self._intruders()
        return wanted(filtered, found, FENCED), said

    def _network(self, name: str, network: Network | None, said: list[Finding]) -> FilteredNetwork:
        """A network without its ports. Of what cannot be read, as it was last read; closed if it never was."""
        known = self._known.get(name, FilteredNetwork(name, bridge_of(name), acl=CLOSED))
        if network is not None:
            managed = network.kind is NetworkKind.MANAGED
            known = FilteredNetwork(name, known.bridge, (), known.acl, *((MANAGED, network.dhcp) if managed else ()))
        return replace(known, ports=(), acl=self._acl(name, known.acl, said))

    def _acl(self, name: str, known: Acl, said: list[Finding]) -> Acl:
        try:
            return read_acl(self._mirror, name)
        except Garbage as garbage:
            said.append(_critical(f"the rules of network {name} cannot be read, those before stay in force: {garbage}"))
            return known

    def _expected(self) -> Mapping[str, Mapping[str, frozenset[Port]]]:
        """By VM that runs here, or is to, the ports of its definition."""
        uuids = self._mirror.children(core.node_vms(self._me)) or ()
        self._definitions.prefetch(core.vm_xml(uuid) for uuid in uuids)
        for gone in self._parsed.keys() - set(uuids):
            del self._parsed[gone]
            self._definitions.drop(core.vm_xml(gone))
        for uuid in uuids:
            znode = self._definitions.get(core.vm_xml(uuid))
            data = b"" if znode is None else znode.data
            if uuid not in self._parsed or self._parsed[uuid][0] != data:
                self._parsed[uuid] = data, ports_of(data.decode(errors="replace"), uuid)
        return {uuid: found for uuid, (_, found) in self._parsed.items()}

    def _unfiltered(self) -> list[Finding]:
        strangers = sorted(
            f"{device} on {network}"
            for network, devices in self._plugged.items()
            for device in devices
            if network in self._known and must_be_in_force(self._known[network]) and port_named(device) is None
        )
        if not strangers:
            return []
        text = f"nothing filters {', '.join(strangers)}: {RESTART}"
        return [_critical(text)]

    def _intruders(self) -> list[Finding]:
        """Keep the host's own rules, which know nothing of VMs, from seeing what goes through bridges."""
        try:
            found = self._kernel.intruders()
            if not found:
                return []
            if self._settings.bridge_netfilter == "leave":
                return [Finding(SECTION, Severity.WARNING, f"{' and '.join(found)} is on: {LEFT}")]
            self._kernel.exclude(found)
        except RulesetRefused as error:
            return [Finding(SECTION, Severity.WARNING, str(error))]
        self._log.warning(
            "firewall: %s was on and is off now, for all bridges of the host; networking.bridge_netfilter can leave it",
            " and ".join(found),
        )
        return []


def _critical(text: str) -> Finding:
    return Finding(SECTION, Severity.CRITICAL, text)
