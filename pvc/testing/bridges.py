"""Bridges in memory: the public fake of the networking role's `Bridges`."""

from collections.abc import Iterable, Mapping

from pvc.plugins.networking.bridges import BridgesUnreadable


class FakeBridges:
    """The bridges of one machine; they outlive its daemon."""

    def __init__(self, up: Iterable[str] = ()) -> None:
        self._bridges = dict.fromkeys(up, True)
        self.unreadable = ""
        """Why the machine does not tell; empty: it does."""

    def look(self) -> Mapping[str, bool]:
        if self.unreadable:
            raise BridgesUnreadable(self.unreadable)
        return dict(sorted(self._bridges.items()))

    def add(self, name: str) -> None:
        """Somebody makes a bridge. It is down at first, as a new one is."""
        self._bridges.setdefault(name, False)

    def switch(self, name: str, on: bool) -> None:
        """Somebody switches a bridge on or off."""
        self._bridges[name] = on

    def remove(self, name: str) -> None:
        """Somebody removes a bridge."""
        self._bridges.pop(name, None)
