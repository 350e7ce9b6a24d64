"""What the networking role needs of the machine it runs on."""

from collections.abc import Mapping
from typing import Protocol

from pvc.core.errors import PvcError


class BridgesUnreadable(PvcError):
    """The machine does not tell its bridges."""


class Bridges(Protocol):
    """The Linux bridges of one machine. `pvc.testing.bridges` has a fake."""

    def look(self) -> Mapping[str, bool]:
        """Every bridge by name, and whether it is switched on. Quick. Raises BridgesUnreadable.

        A bridge that is on and has nothing plugged in counts as on: the first VM on it plugs itself in.
        """
