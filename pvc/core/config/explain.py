"""The effective configuration as plain values, for `pvc config show`. Of secrets, only the path of the file appears."""

from copy import deepcopy
from dataclasses import asdict
from typing import Any

from pvc.core.config.settings import Config


def as_mapping(config: Config) -> dict[str, Any]:
    """The settings in the layout of pvc.yaml, every default written out; reading it again gives the same settings."""
    zookeeper = asdict(config.zookeeper)
    zookeeper["hosts"] = list(config.zookeeper.hosts)
    return {
        "node": config.node,
        "address": config.address,
        "zookeeper": zookeeper,
        "roles": dict(config.roles),
        "plugins": dict(config.plugins),
        **{name: deepcopy(dict(section)) for name, section in config.sections.items()},
    }
