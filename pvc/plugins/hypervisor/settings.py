"""The section `hypervisor` as typed values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pvc.core.config.overrides import overlaid, sound
from pvc.core.model import Vm
from pvc.plugins.hypervisor.decide.planner import Selector
from pvc.plugins.hypervisor.schema import SCHEMA, SECTION


@dataclass(frozen=True, slots=True)
class MigrationSettings:
    """See the schema for meaning and units of each."""

    uri: str
    parallel: int
    retries: int
    bandwidth: int | None
    downtime: tuple[float, ...]
    auto_converge: bool
    post_copy: bool
    connections: int
    tls: bool
    deadline_per_gib: float
    inbound: int | None = None


@dataclass(frozen=True, slots=True)
class PlacementSettings:
    """See the schema for meaning and units of each."""

    selector: Selector
    head_room: int


@dataclass(frozen=True, slots=True)
class Settings:
    """See the schema for meaning and units of each."""

    uri: str
    memory: int | None
    reserve: int
    shutdown_timeout: float
    placement: PlacementSettings
    migration: MigrationSettings


def settings_from(section: Mapping[str, Any]) -> Settings:
    """The settings in a validated section."""
    values = dict(section)
    migration = dict(values.pop("migration"))
    migration["downtime"] = tuple(migration["downtime"])
    placement = values.pop("placement")
    return Settings(
        placement=PlacementSettings(Selector(placement["selector"]), placement["head_room"]),
        migration=MigrationSettings(**migration),
        **values,
    )


@dataclass(frozen=True, slots=True)
class VmSettings:
    """The settings that hold for one VM, and what its own ones say that cannot be used."""

    settings: Settings
    problems: tuple[str, ...] = ()


class SettingsPerVm:
    """The settings of a node with each VM's own laid over them. What a VM's record says that this version does not
    understand is left out and told."""

    def __init__(self, settings: Settings) -> None:
        self._node = VmSettings(settings)
        self._known: dict[str, tuple[Mapping[str, Any], VmSettings]] = {}

    def of(self, vm: Vm) -> VmSettings:
        """What holds for a VM as its record is now."""
        if not vm.options:
            self._known.pop(vm.uuid, None)
            return self._node
        options, found = self._known.get(vm.uuid, ({}, self._node))
        if options != vm.options:
            found = self._laid_over(vm.options)
            self._known[vm.uuid] = (vm.options, found)
        return found

    def _laid_over(self, options: Mapping[str, Any]) -> VmSettings:
        usable = sound(SECTION, SCHEMA, options)
        section = overlaid(SECTION, asdict(self._node.settings), usable.options)
        return VmSettings(settings_from(section), usable.problems)
