"""Hooks of the networking role, and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from pvc.core.commands import CommandLine
from pvc.core.context import Context, Verdict
from pvc.core.declaration import Declaration
from pvc.core.hookspecs import hookimpl
from pvc.core.mirror import Mirror
from pvc.core.model import Finding, NodeFacts, Vm
from pvc.core.observers import VmObserver
from pvc.core.runtime import Runtime
from pvc.core.service import Service

if TYPE_CHECKING:
    from pvc.plugins.networking.bridges import Bridges
    from pvc.plugins.networking.dataplane import Dataplane
    from pvc.plugins.networking.evpn.daemons import Daemons
    from pvc.plugins.networking.evpn.service import EvpnService
    from pvc.plugins.networking.firewall.packetfilter import PacketFilter
    from pvc.plugins.networking.firewall.service import FirewallService
    from pvc.plugins.networking.gateway.routers import Routers, RouterState
    from pvc.plugins.networking.gateway.service import GatewayService
    from pvc.plugins.networking.gateway.step import GatewayMoves
    from pvc.plugins.networking.networks import NetworkService
    from pvc.plugins.networking.service import BridgeWatch
    from pvc.plugins.networking.trace.desk import TraceDesk
    from pvc.plugins.networking.traffic import TrafficService


class NetworkingPlugin:
    """Knows the node's bridges and sets up the cluster's networks. The arguments open the doors; None: the kernel's."""

    def __init__(
        self,
        open_bridges: "Callable[[], Bridges] | None" = None,
        open_dataplane: "Callable[[], Dataplane] | None" = None,
        open_filter: "Callable[[], PacketFilter] | None" = None,
        open_routers: "Callable[[], Routers] | None" = None,
        open_daemons: "Callable[[Runtime], Daemons] | None" = None,
    ) -> None:
        self._open_bridges = open_bridges
        self._open_dataplane = open_dataplane or _kernel
        self._open_filter = open_filter or _nftables
        self._open_routers = open_routers or _namespaces
        self._open_daemons = open_daemons or _frr
        self._evpn: EvpnService | None = None
        self._firewall: FirewallService | None = None
        self._traffic: TrafficService | None = None
        self._networks: NetworkService | None = None
        self._gateways: GatewayService | None = None
        self._service: BridgeWatch | None = None
        self._mirror: Mirror | None = None
        self._desk: TraceDesk | None = None

    @hookimpl
    def pvc_declaration(self) -> Declaration:
        return Declaration(
            summary="The cluster's networks and the node's bridges; keeps VMs from nodes that lack theirs"
        )

    @hookimpl
    def pvc_config_schema(self) -> Mapping[str, Any]:
        from pvc.plugins.networking.schema import SCHEMA

        return SCHEMA

    @hookimpl
    def pvc_services(self, context: Context) -> Sequence[Service]:
        gateways = self._the_gateways(context)
        return [
            *(self._the_service(context), self._the_evpn(context), self._the_networks(context)),
            *(self._the_firewall(context), self._the_traffic(context)),
            *(gateways, gateways.tenure, self._the_desk(context)),
        ]

    @hookimpl
    def pvc_flush_steps(self, context: Context) -> "Sequence[GatewayMoves]":
        from pvc.plugins.networking.gateway.step import GatewayMoves

        return [GatewayMoves(context)]

    @hookimpl
    def pvc_vm_observers(self, context: Context) -> Sequence[VmObserver]:
        return [self._the_networks(context), self._the_desk(context)]

    @hookimpl
    def pvc_node_facts(self, context: Context) -> Mapping[str, Any]:
        bridges, evpn, networks = self._the_service(context), self._the_evpn(context), self._the_networks(context)
        return {**bridges.facts(), **evpn.facts(), **networks.facts()}

    @hookimpl
    def pvc_health(self, context: Context) -> Sequence[Finding]:
        parts = (
            *(self._the_service(context), self._the_evpn(context), self._the_networks(context)),
            *(self._the_firewall(context), self._the_gateways(context)),
        )
        return [finding for part in parts for finding in part.findings()]

    @hookimpl
    def pvc_vm_needs(self, xml: str, nodes: Mapping[str, NodeFacts]) -> Sequence[str]:
        from pvc.plugins.networking.decide.attachment import needed
        from pvc.plugins.networking.decide.bridges import bridges_of

        return (*bridges_of(xml), *needed(xml))

    @hookimpl
    def pvc_vm_definition(self, context: Context, vm: Vm, xml: str) -> str | None:
        from pvc.plugins.networking.decide.attachment import with_bridges

        return with_bridges(xml, vm.uuid, self._the_networks(context).bridge)

    @hookimpl
    def pvc_placement(self, context: Context, vm: Vm, nodes: Sequence[str]) -> Mapping[str, Verdict]:
        from pvc.plugins.networking.schema import SECTION
        from pvc.plugins.networking.verdicts import verdicts

        needed = vm.needs.get(SECTION, ())
        if not needed:
            return {}
        if self._mirror is None:
            self._mirror = Mirror(context.coordinator, context.runtime, context.operations_wake)
        return verdicts(self._mirror, needed, nodes)

    @hookimpl
    def pvc_commands(self, cli: CommandLine) -> None:
        cli.group("bridge", help="Linux bridges of the nodes with the networking role.").later(
            ("list",), partial(_add_commands, cli)
        )
        cli.group("network", help="The cluster's networks, which VMs are plugged into.").later(
            ("add", "modify", "remove", "list", "info"), partial(_add_network_commands, cli)
        )
        cli.group("network reservation", help="Addresses that belong to one VM for good.").later(
            ("add", "remove", "list"), partial(_add_reservation_commands, cli)
        )
        cli.group("network lease", help="The addresses that VMs have got.").later(
            ("list", "release"), partial(_add_lease_commands, cli)
        )
        cli.group("vm")
        cli.group("vm network", help="The networks that a VM is plugged into.").later(
            ("add", "remove", "list"), partial(_add_vm_commands, cli)
        )
        cli.group("network acl", help="What VMs of a network may receive and send.").later(
            ("add", "list", "remove", "move", "default", "set"), partial(_add_acl_commands, cli)
        )
        cli.group("network").later(("trace",), partial(_add_trace, cli))

    def _the_service(self, context: Context) -> "BridgeWatch":
        if self._service is None:
            from pvc.plugins.networking.schema import SECTION, settings_from
            from pvc.plugins.networking.service import BridgeWatch

            settings = settings_from(context.config.section(SECTION))
            self._service = BridgeWatch(context, self._bridges(), settings)
        return self._service

    def _the_networks(self, context: Context) -> "NetworkService":
        if self._networks is None:
            from pvc.plugins.networking.networks import NetworkService

            guard, meter, evpn = self._the_firewall(context), self._the_traffic(context), self._the_evpn(context)
            self._networks = NetworkService(context, self._open_dataplane, guard, meter, evpn)
        return self._networks

    def _the_evpn(self, context: Context) -> "EvpnService":
        if self._evpn is None:
            from pvc.plugins.networking.evpn.service import EvpnService
            from pvc.plugins.networking.schema import SECTION, settings_from

            settings = settings_from(context.config.section(SECTION))
            self._evpn = EvpnService(context, self._open_dataplane, self._open_daemons, settings)
        return self._evpn

    def _the_desk(self, context: Context) -> "TraceDesk":
        if self._desk is None:
            from pvc.plugins.networking.trace.desk import Parts, TraceDesk

            parts = Parts(
                refusal=self._the_firewall(context).judgement,
                counts=self._open_filter().counts,
                routers=self._look_at_routers,
                hosts=self._the_gateways(context).hosts,
            )
            self._desk = TraceDesk(context, self._open_dataplane, parts)
        return self._desk

    def _look_at_routers(self) -> "Mapping[str, RouterState]":
        """By a door of its own: each is for one thread."""
        with closing(self._open_routers()) as routers:
            return routers.glance()

    def _the_firewall(self, context: Context) -> "FirewallService":
        if self._firewall is None:
            from pvc.plugins.networking.firewall.service import FirewallService
            from pvc.plugins.networking.schema import SECTION, settings_from

            settings = settings_from(context.config.section(SECTION))
            self._firewall = FirewallService(context, self._open_filter, settings)
        return self._firewall

    def _the_traffic(self, context: Context) -> "TrafficService":
        if self._traffic is None:
            from pvc.plugins.networking.traffic import TrafficService

            self._traffic = TrafficService(context)
        return self._traffic

    def _the_gateways(self, context: Context) -> "GatewayService":
        if self._gateways is None:
            from pvc.plugins.networking.gateway.service import GatewayService

            self._gateways = GatewayService(context, self._the_networks(context), self._open_routers())
        return self._gateways

    def _bridges(self) -> "Bridges":
        if self._open_bridges is not None:
            return self._open_bridges()
        from pvc.plugins.networking.sysfs import SysfsBridges

        return SysfsBridges()


def _namespaces() -> "Routers":
    from pvc.core.process import SystemProcesses
    from pvc.core.threads import ThreadRuntime
    from pvc.plugins.networking.gateway.absent import AbsentRouters

    try:
        from pvc.plugins.networking.gateway.netns import NamespaceRouters
    except ImportError as error:
        return AbsentRouters(f"pyroute2 is missing ({error}); install the extra `networking` of pvc")
    return NamespaceRouters(SystemProcesses(), ThreadRuntime())


def _kernel() -> "Dataplane":
    from pvc.plugins.networking.dataplane import DataplaneError

    try:
        from pvc.plugins.networking.netlink import NetlinkDataplane
    except ImportError as error:
        raise DataplaneError(f"pyroute2 is missing ({error}); install the extra `networking` of pvc") from error
    return NetlinkDataplane()


def _frr(runtime: Runtime) -> "Daemons":
    from pvc.core.process import SystemProcesses
    from pvc.plugins.networking.evpn.frr import FrrDaemons

    return FrrDaemons(SystemProcesses(), runtime)


def _nftables() -> "PacketFilter":
    from pvc.core.process import SystemProcesses
    from pvc.plugins.networking.firewall.nftables import NftProgram

    return NftProgram(SystemProcesses())


def _add_acl_commands(cli: CommandLine) -> None:
    from pvc.plugins.networking.firewall.cli import add_commands

    add_commands(cli)


def _add_network_commands(cli: CommandLine) -> None:
    from pvc.plugins.networking.networkcli import add_commands

    add_commands(cli)


def _add_trace(cli: CommandLine) -> None:
    from pvc.plugins.networking.trace.cli import add_commands

    add_commands(cli)


def _add_reservation_commands(cli: CommandLine) -> None:
    from pvc.plugins.networking.gateway.cli import add_reservation_commands

    add_reservation_commands(cli)


def _add_lease_commands(cli: CommandLine) -> None:
    from pvc.plugins.networking.gateway.cli import add_lease_commands

    add_lease_commands(cli)


def _add_vm_commands(cli: CommandLine) -> None:
    from pvc.plugins.networking.vmcli import add_commands

    add_commands(cli)


def _add_commands(cli: CommandLine) -> None:
    from pvc.plugins.networking.cli import add_commands

    add_commands(cli)
