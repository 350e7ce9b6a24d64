"""The section `hypervisor` as typed values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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


@dataclass(frozen=True, slots=True)
class Settings:
    """See the schema for meaning and units of each."""

    uri: str
    memory: int | None
    reserve: int
    shutdown_timeout: float
    migration: MigrationSettings


def settings_from(section: Mapping[str, Any]) -> Settings:
    """The settings in a validated section."""
    values = dict(section)
    migration = dict(values.pop("migration"))
    migration["downtime"] = tuple(migration["downtime"])
    return Settings(migration=MigrationSettings(**migration), **values)
