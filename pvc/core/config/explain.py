"""The effective configuration as plain values, and where each is from. Of secrets, only their place appears."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from pvc.core.config.document import Document
from pvc.core.config.problems import KeyPath, key_text
from pvc.core.config.secret import Secret
from pvc.core.config.settings import Config, ZooKeeperSettings


@dataclass(frozen=True, slots=True)
class Explained:
    """One key that is in force."""

    key: str
    """As people write it."""
    value: Any
    origin: str
    """`file:line`, what overrides the files, or `default`."""


def as_mapping(config: Config) -> dict[str, Any]:
    """The settings in the layout of pvc.yaml, every default written out; reading it again gives the same settings."""
    return {
        "node": config.node,
        "address": config.address,
        "zookeeper": _zookeeper(config.zookeeper),
        "roles": dict(config.roles),
        "plugins": dict(config.plugins),
        "deny_plugins": list(config.denied),
        **{name: plain(section) for name, section in config.sections.items()},
    }


def plain(value: Any) -> Any:
    """A copy of a setting in which a secret is the mapping that names its place."""
    if isinstance(value, Secret):
        return value.place()
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else deepcopy(value)


def explained(config: Config, document: Document, overridden: Mapping[KeyPath, str]) -> list[Explained]:
    """Every key with its value and origin; `overridden` names what has replaced the value of a key."""
    return [
        Explained(key_text(key), value, overridden.get(key) or _origin(document, key))
        for key, value in _leaves(as_mapping(config), ())
    ]


def secrets_of(config: Config) -> Iterator[tuple[KeyPath, Secret]]:
    """Every secret that the configuration names, by its key."""
    if config.zookeeper.secret is not None:
        yield ("zookeeper", "password_file" if config.zookeeper.password_file else "password"), config.zookeeper.secret
    for name, section in config.sections.items():
        yield from _secrets(section, (name,))


def _secrets(value: Any, key: KeyPath) -> Iterator[tuple[KeyPath, Secret]]:
    if isinstance(value, Secret):
        yield key, value
    elif isinstance(value, Mapping | list):
        for part, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _secrets(inner, (*key, part))


def _zookeeper(settings: ZooKeeperSettings) -> dict[str, Any]:
    return {
        "hosts": list(settings.hosts),
        "root": settings.root,
        "session_timeout": settings.session_timeout,
        "connect_timeout": settings.connect_timeout,
        "user": settings.user,
        "password_file": settings.password_file,
        "password": plain(settings.password),
    }


def _leaves(value: Any, key: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*key, name))
    else:
        yield key, value


def _origin(document: Document, key: KeyPath) -> str:
    place = document.origin(key)
    if place is None:
        return "default, the short host name" if key == ("node",) else "default"
    return f"{place[0]}:{place[1]}"
