"""The section `hypervisor` as typed values."""

from collections.abc import Callable, Mapping
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
class Values:
    """The section at one moment. See the schema for meaning and units of each."""

    uri: str
    memory: int | None
    reserve: int
    shutdown_timeout: float
    placement: PlacementSettings
    migration: MigrationSettings


class Settings:
    """The section as it is in force: a reload of the daemon changes what the next question is answered with."""

    def __init__(self, section: Callable[[], Mapping[str, Any]]) -> None:
        self._section = section
        self._read: tuple[Mapping[str, Any], Values] | None = None

    def now(self) -> Values:
        """All values together; the same object until one of them changes."""
        section, known = self._section(), self._read
        if known is None or known[0] is not section:
            known = self._read = section, settings_from(section)
        return known[1]

    @property
    def uri(self) -> str:
        return self.now().uri

    @property
    def memory(self) -> int | None:
        return self.now().memory

    @property
    def reserve(self) -> int:
        return self.now().reserve

    @property
    def shutdown_timeout(self) -> float:
        return self.now().shutdown_timeout

    @property
    def placement(self) -> PlacementSettings:
        return self.now().placement

    @property
    def migration(self) -> MigrationSettings:
        return self.now().migration


def settings_from(section: Mapping[str, Any]) -> Values:
    """The settings in a validated section."""
    values = dict(section)
    migration = dict(values.pop("migration"))
    migration["downtime"] = tuple(migration["downtime"])
    placement = values.pop("placement")
    return Values(
        placement=PlacementSettings(Selector(placement["selector"]), placement["head_room"]),
        migration=MigrationSettings(**migration),
        **values,
    )


@dataclass(frozen=True, slots=True)
class VmSettings:
    """The settings that hold for one VM, and what its own ones say that cannot be used."""

    settings: Values
    problems: tuple[str, ...] = ()


class SettingsPerVm:
    """The settings of a node with each VM's own laid over them. What a VM's record says that this version does not
    understand is left out and told."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._node = VmSettings(settings.now())
        self._known: dict[str, tuple[Mapping[str, Any], VmSettings]] = {}

    def of(self, vm: Vm) -> VmSettings:
        """What holds for a VM as its record and the node's settings are now."""
        if self._settings.now() is not self._node.settings:
            self._node = VmSettings(self._settings.now())
            self._known.clear()
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
