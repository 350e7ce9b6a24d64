"""VMs that are nothing but console files: their names, their records, and what they print."""

from pathlib import Path
from random import Random
from uuid import UUID

from pvc.core import keys
from pvc.core.coordination import Create, Op
from pvc.core.model import Node, Vm, VmState
from pvc.core.records import encode
from pvc.plugins.consolelog.definition import log_path

NODE = "bench"
TEXTS = (
    "systemd[1]: Started session {n} of user www-data.",
    "eth0: link becomes ready, flow control rx/tx",
    "nginx: 10.1.{a}.{b} GET /static/img/{n}.png 200 {n} 0.00{a}",
    "EXT4-fs (vda{a}): mounted filesystem with ordered data mode",
    "audit: type=1400 audit(17000{n}.{a}:{b}): apparmor=ALLOWED",
    "usb {a}-{b}: new high-speed USB device number {n} using xhci_hcd",
)
"""Somewhat like what guests print: 45 to 65 characters, with numbers that change."""


def vm_name(number: int) -> str:
    return f"vm{number}"


def uuid_of(number: int) -> str:
    return str(UUID(int=number + 1))


def console_path(directory: Path, number: int) -> Path:
    return Path(log_path(str(directory), vm_name(number), uuid_of(number)))


def line(number: int, random: Random) -> bytes:
    """The VM's line of that number; `number_of` finds the number again."""
    text = random.choice(TEXTS).format(n=number, a=random.randrange(9), b=random.randrange(250))
    return f"[{number:9d}.{random.randrange(10**6):06d}] {text}\r\n".encode()


def tree(vms: int) -> list[Op]:
    """Records of one node and its VMs, as far as publishers and readers look at them."""
    ops: list[Op] = [Create(branch) for branch in keys.BRANCHES]
    ops += [Create(keys.node(NODE), encode(Node(NODE))), Create(keys.node_session(NODE), b"{}")]
    for number in range(vms):
        vm = Vm(uuid_of(number), vm_name(number), VmState.RUNNING, NODE, 64, 1)
        ops += [Create(keys.vm(vm.uuid), encode(vm)), Create(keys.name(vm.name), vm.uuid.encode())]
    return ops
