"""The door to the kernel's network devices: reads /sys/class/net, and nothing else."""

from collections.abc import Mapping
from pathlib import Path

from pvc.plugins.networking.bridges import BridgesUnreadable

DEVICES = Path("/sys/class/net")
IFF_UP = 0x1
"""Of a device's flags: it is switched on (netdevice(7))."""


class SysfsBridges:
    """The real `Bridges`: those of the network namespace that /sys was mounted in."""

    def __init__(self, devices: Path = DEVICES) -> None:
        self._devices = devices

    def look(self) -> Mapping[str, bool]:
        try:
            names = sorted(device.name for device in self._devices.iterdir())
        except OSError as error:
            raise BridgesUnreadable(f"{self._devices} cannot be read ({error.strerror}); is /sys mounted?") from error
        return {name: _is_on(self._devices / name) for name in names if (self._devices / name / "bridge").is_dir()}


def _is_on(device: Path) -> bool:
    try:
        return bool(int((device / "flags").read_text(), 16) & IFF_UP)
    except (OSError, ValueError):  # removed since it was listed
        return False
