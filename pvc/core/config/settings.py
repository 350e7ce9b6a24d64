"""The validated configuration as the rest of the system sees it: typed, frozen, complete with defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pvc.core.config.secret import Secret


@dataclass(frozen=True, slots=True)
class ZooKeeperSettings:
    """Where the cluster's tree is and how to reach it."""

    hosts: tuple[str, ...] = ("localhost:2181",)
    """host:port of each server."""
    root: str = "/pvc"
    """The path under which this cluster keeps everything."""
    session_timeout: float = 10.0
    """Seconds after which a silent client counts as dead."""
    connect_timeout: float = 15.0
    """Seconds to try to reach a server before giving up."""
    user: str | None = None
    """Name for digest authentication; with it, nodes are readable and writable by this user only."""
    password_file: str | None = None
    """File that holds the password of `user`."""
    password: Secret | None = None
    """Where the password is, in place of `password_file`."""

    @property
    def secret(self) -> Secret | None:
        """Where the password is, whichever way it was written."""
        return self.password if self.password_file is None else Secret(file=self.password_file)


@dataclass(frozen=True, slots=True)
class Config:
    """One validated pvc.yaml."""

    node: str
    """This node's name in the cluster."""
    address: str | None = None
    """Address other nodes reach this one at; None: resolve the node's name."""
    zookeeper: ZooKeeperSettings = field(default_factory=ZooKeeperSettings)
    roles: Mapping[str, bool] = field(default_factory=dict)
    """Every known role and whether it is on."""
    plugins: Mapping[str, bool] = field(default_factory=dict)
    """Features and third-party plugins by entry-point name."""
    denied: tuple[str, ...] = ()
    """Plugins that are never loaded; those of them that are installed are off in `plugins`."""
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The section of each enabled plugin, validated by that plugin's schema and complete with defaults."""
    path: str | None = None
    """The file it was read from; None: defaults only."""

    def section(self, plugin: str) -> Mapping[str, Any]:
        """The settings of an enabled plugin; empty if it declares no schema."""
        return self.sections.get(plugin, {})

    def roles_on(self) -> tuple[str, ...]:
        """Names of the roles that are on, sorted: their order in the file means nothing."""
        return tuple(sorted(name for name, on in self.roles.items() if on))

    def enabled(self) -> tuple[str, ...]:
        """Names of the plugins to load: roles first, then features and third parties, each in the order of the file."""
        return tuple(name for group in (self.roles, self.plugins) for name, on in group.items() if on)
