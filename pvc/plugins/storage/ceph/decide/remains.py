"""What an OSD has on a machine: which of all that is there is its own, whether that may be wiped, and what to say."""

from collections.abc import Iterable, Sequence

from pvc.plugins.storage.ceph.decide.devices import BLUESTORE
from pvc.plugins.storage.ceph.osdhost import Device, LocalOsd


def made_on(device: Device, cluster: str) -> LocalOsd | None:
    """The OSD of a cluster that has its data on a device; None: there is none, or more than one."""
    found = [osd for osd in device.osds if osd.cluster == cluster and device.path in osd.data]
    return found[0] if len(found) == 1 else None


def remains_of(osds: Iterable[LocalOsd], cluster: str, id: int, uuid: str) -> LocalOsd | None:
    """What there is of exactly that OSD; None: nothing that says so.

    Neither an OSD of another cluster nor one that had the number earlier, or has it now, is taken for it.
    """
    return next((osd for osd in osds if (osd.cluster, osd.id, osd.uuid) == (cluster, id, uuid)), None)


def why_not_wipe(osd: LocalOsd, devices: Iterable[Device]) -> str:
    """Why wiping an OSD could destroy something of somebody else's; empty: it holds nothing but that OSD.

    `devices`: its own, as they are now.
    """
    if osd.lvm:  # wiped volume by volume, as each says whose it is: what else the devices hold is not touched
        copies = ", ".join(osd.volumes)
        return f"several logical volumes say that they are osd.{osd.id}: {copies}" if len(osd.volumes) > 1 else ""
    return next((why for device in devices if (why := _further(device))), "")


def _further(device: Device) -> str:
    """What a device holds beside the one OSD that it belongs to."""
    path = device.path
    if not device.block:
        return f"{path} is no block device"
    if len(device.osds) != 1:
        return f"{path} holds {' and '.join(f'osd.{osd.id}' for osd in device.osds) or 'no OSD'}"
    if device.mounts:
        return f"{path} is mounted at {', '.join(device.mounts)}"
    if others := [*device.parts, *device.holders]:
        return f"{path} holds more than the OSD: {', '.join(others)}"
    if others := [one for one in device.signatures if one != BLUESTORE]:
        return f"{path} holds more than the OSD: {', '.join(others)}"
    return ""


def succeeded(osds: Iterable[LocalOsd], cluster: str, id: int, uuid: str) -> bool:
    """Whether a machine holds the OSD that has the number of a removed one now; `uuid`: its own, empty: there is none.

    What is mounted or runs by that number is then the new one's, and ceph-volume goes by the number.
    """
    return bool(uuid) and remains_of(osds, cluster, id, uuid) is not None


def command(osd: LocalOsd) -> str:
    """What wipes an OSD by hand."""
    if len(osd.volumes) > 1:
        return "`ceph-volume lvm zap --destroy VOLUME` wipes one that nobody needs"
    what = f"--osd-id {osd.id} --osd-fsid {osd.uuid}" if osd.lvm else " ".join(osd.devices)
    return f"`ceph-volume lvm zap --destroy {what}` wipes it if nobody needs more of it"


def wiped(osd: LocalOsd, node: str, empty: Sequence[str]) -> str:
    """The closing sentence of a removal; `empty`: those of its devices that hold nothing now."""
    shared = [path for path in osd.devices if path not in empty]
    said = f"osd.{osd.id} is removed"
    if empty:
        said += f", and {', '.join(empty)} of {node} {'is' if len(empty) == 1 else 'are'} empty"
    if shared:
        said += f"; what it had on {', '.join(shared)} of {node} is wiped, what else is there was left as it is"
    return said


def left(osd: LocalOsd, node: str, why: str) -> str:
    """Likewise where it was not wiped."""
    devices = ", ".join(osd.devices)
    return f"osd.{osd.id} is removed, but what it has left on {devices} of {node} was not wiped: {why}; {command(osd)}"


def unknown(id: int, node: str) -> str:
    """Likewise where nothing was found that says that it is that OSD's."""
    return (
        f"osd.{id} is removed; its device was not found on {node}, and nothing was wiped;"
        " `ceph-volume lvm zap --destroy DEVICE` wipes one that nobody needs"
    )
