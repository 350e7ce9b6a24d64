"""Puts the daemon's side of the hypervisor role together: door, service, evacuation, facts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pvc.core.context import Context
from pvc.plugins.hypervisor.evacuation import Evacuation
from pvc.plugins.hypervisor.host import Hypervisor, HypervisorGone
from pvc.plugins.hypervisor.schema import SECTION
from pvc.plugins.hypervisor.secrets import Secrets
from pvc.plugins.hypervisor.service import VmService
from pvc.plugins.hypervisor.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """What one daemon has of this role."""

    hypervisor: Hypervisor
    service: VmService
    evacuation: Evacuation
    settings: Settings
    secrets: Secrets

    def facts(self) -> Mapping[str, Any]:
        """Memory, processors, load and claims; only the claims while the hypervisor does not answer."""
        claims = self.service.claims()
        facts: dict[str, Any] = {
            "vms": {uuid: vm.memory for uuid, vm in claims.items()},
            "vcpus": {uuid: vm.vcpus for uuid, vm in claims.items()},
            "spread": {uuid: vm.spread for uuid, vm in claims.items() if vm.spread},
            "limits": {uuid: vm.nodes for uuid, vm in claims.items() if vm.nodes},
            "arriving": self.service.arriving(),
            "inbound": self.settings.migration.inbound,
        }
        try:
            capacity = self.hypervisor.capacity()
            load = round(self.hypervisor.load(), 1)
        except HypervisorGone:
            return facts
        memory = self.settings.memory or max(0, capacity.memory - self.settings.reserve)
        return {**facts, "memory": memory, "cpus": capacity.cpus, "load": load}


def make_parts(context: Context, connect: Callable[[Context], Hypervisor] | None) -> Parts:
    """The parts on the hypervisor that `connect` opens; None: libvirt, which is imported only here."""
    settings = Settings(lambda: context.config.section(SECTION))
    hypervisor = connect(context) if connect is not None else _libvirt(context, settings)
    secrets = Secrets(context, hypervisor)
    return Parts(
        hypervisor=hypervisor,
        service=VmService(context, hypervisor, settings, secrets.demand),
        evacuation=Evacuation(context, hypervisor, settings),
        settings=settings,
        secrets=secrets,
    )


def _libvirt(context: Context, settings: Settings) -> Hypervisor:
    from pvc.plugins.hypervisor.libvirt import LibvirtHypervisor

    return LibvirtHypervisor(settings.uri, context.runtime, context.log)
