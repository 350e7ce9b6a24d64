"""Looks at this node's bridges every few seconds and remembers what it saw."""

from collections.abc import Mapping
from typing import Any

from pvc.core.context import Context
from pvc.core.model import Finding
from pvc.core.runtime import Signal
from pvc.plugins.networking import keys
from pvc.plugins.networking.bridges import Bridges
from pvc.plugins.networking.decide.bridges import findings, lacking
from pvc.plugins.networking.schema import Settings


class BridgeWatch:
    """Service `networking`."""

    name = "networking"
    after: tuple[str, ...] = ()

    def __init__(self, context: Context, bridges: Bridges, settings: Settings) -> None:
        self.wake: Signal = context.runtime.signal()
        self._refresh_facts = context.refresh_facts
        self._log = context.log
        self._bridges = bridges
        self._settings = settings
        self._seen: Mapping[str, bool] | None = None

    def step(self) -> float:
        seen = self._bridges.look()
        if seen != self._seen:
            self._seen = seen
            self._log.info("bridges that are up: %s", ", ".join(self._up()) or "none")
            self._refresh_facts()
        return self._settings.interval

    def stop(self) -> None:
        """There is nothing to give back."""

    def facts(self) -> Mapping[str, Any]:
        """What the node publishes; nothing before the first look."""
        if self._seen is None:
            return {}
        return {keys.UP: " ".join(self._up()), keys.LACKING: " ".join(lacking(self._settings.bridges, self._seen))}

    def findings(self) -> list[Finding]:
        """What is wrong with the bridges that this node should have."""
        return [] if self._seen is None else findings(self._settings.bridges, self._seen)

    def _up(self) -> list[str]:
        return sorted(name for name, on in (self._seen or {}).items() if on)
