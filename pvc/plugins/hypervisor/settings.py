"""The section `hypervisor` as typed values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pvc.plugins.hypervisor.decide.planner import Selector


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
