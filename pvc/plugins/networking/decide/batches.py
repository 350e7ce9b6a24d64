"""Many changes of devices as the input of `ip -batch` and `bridge -batch`: text only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pvc.plugins.networking.dataplane import (
    FLOOD,
    AddBridge,
    AddTunnel,
    AddVlan,
    Change,
    Forward,
    Mute,
    Plug,
    Raise,
    Remove,
    Resize,
    StopLearning,
    Withdraw,
)


@dataclass(frozen=True, slots=True)
class Batches:
    """What to do, in this order."""

    devices: str
    """For `ip`: removes, makes and arranges devices."""
    muted: tuple[str, ...]
    """Devices that the host is to be kept out of IPv6 on: not a matter of these programs."""
    forwarding: str
    """For `bridge`: ports and forwarding entries."""
    raised: str
    """For `ip`: switches devices on, when all else about them is as it should be."""


def batches(changes: Sequence[Change], *, mark: int, port: int) -> Batches:
    """The changes, with the order kept as far as it matters. `mark`: device group of what is made; `port`: of VXLAN."""
    first = [change for change in changes if isinstance(change, Remove)]
    later = [change for change in changes if not isinstance(change, Remove)]
    return Batches(
        _text(line for change in (*first, *later) for line in _device(change, mark, port)),
        tuple(change.name for change in changes if isinstance(change, Mute)),
        _text(line for change in changes for line in _forwarding(change)),
        _text(f"link set dev {change.name} up" for change in changes if isinstance(change, Raise)),
    )


def _device(change: Change, mark: int, port: int) -> Iterator[str]:
    match change:
        case Remove(name):
            yield f"link del dev {name}"
        case AddBridge(name):
            yield f"link add name {name} group {mark} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        case AddTunnel(name, vni, local):
            yield f"link add name {name} group {mark} type vxlan id {vni} local {local} dstport {port} nolearning"
        case AddVlan(name, parent, vlan):
            yield f"link add link {parent} name {name} group {mark} type vlan id {vlan}"
        case Plug(name, bridge):
            yield f"link set dev {name} master {bridge}"
        case Resize(name, mtu):
            yield f"link set dev {name} mtu {mtu}"


def _forwarding(change: Change) -> Iterator[str]:
    match change:
        case StopLearning(name):
            yield f"link set dev {name} learning off"
        case Forward(name, entry):
            how = "append" if entry.mac == FLOOD else "replace"
            yield f"fdb {how} {entry.mac} dev {name} dst {entry.address} self permanent"
        case Withdraw(name, entry):
            yield f"fdb del {entry.mac} dev {name} dst {entry.address} self"


def _text(lines: Iterator[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
