"""libvirt XML of the lab's VMs: one processor, a serial console and nothing that costs start time. Pure."""

import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path
from string import ascii_lowercase
from xml.sax.saxutils import escape, quoteattr

LAB_VMS = uuid.UUID("4cd8d1c2-2f5b-5d0c-9d6c-6a2c3f1b7e10")


def vm_id(lab: str, name: str) -> str:
    """The UUID of a lab's VM: the same each time the lab is made, so that logs of two runs can be compared."""
    return str(uuid.uuid5(LAB_VMS, f"{lab}/{name}"))


def mac(identity: str, network: str) -> str:
    """The MAC address of a VM on a network: the same each time the lab is made, too."""
    digest = hashlib.sha256(f"{identity}/{network}".encode()).hexdigest()
    return ":".join(["52:54:00", *(digest[at : at + 2] for at in (0, 2, 4))])


def shell_file(name: str) -> str:
    """The unix socket that is the second serial port of a VM, below a node's /run/libvirt."""
    return f"{name}.shell"


def vm_xml(
    name: str,
    identity: str,
    memory: int,
    kernel: Path,
    command_line: str,
    initrd: Path | None = None,
    *,
    shell: bool = False,
    networks: Sequence[str] = (),
    disks: Sequence[str] = (),
) -> str:
    """The XML of a VM with `memory` MiB, emulated without KVM, plugged into networks of the cluster, with disks.

    ACPI is on because without it no power button reaches the guest. There is no <log> element: who wants one adds it.
    """
    initrd_element = f"\n    <initrd>{escape(str(initrd))}</initrd>" if initrd else ""
    devices = "".join(_interface(mac(identity, network), network) for network in networks)
    devices += "".join(_disk(disk, f"vd{letter}") for disk, letter in zip(disks, ascii_lowercase, strict=False))
    if shell:
        devices += f"""
    <serial type='unix'>
      <source mode='bind' path='/run/libvirt/{escape(shell_file(name))}'/>
      <target port='1'/>
    </serial>"""
    return f"""\
<domain type='qemu'>
  <name>{escape(name)}</name>
  <uuid>{identity}</uuid>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{escape(str(kernel))}</kernel>{initrd_element}
    <cmdline>{escape(command_line)}</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <serial type='pty'><target port='0'/></serial>
    <console type='pty'><target type='serial' port='0'/></console>{devices}
    <memballoon model='none'/>
  </devices>
</domain>
"""


def _disk(disk: str, device: str) -> str:
    """A cluster's volume, POOL/VOLUME, or a raw file by its absolute path."""
    pool, _, volume = disk.partition("/")
    kind, source = "volume", f"<source pool={quoteattr(pool)} volume={quoteattr(volume)}/>"
    if disk.startswith("/"):
        kind, source = "file", f"<driver name='qemu' type='raw' cache='none'/>\n      <source file={quoteattr(disk)}/>"
    return f"""
    <disk type='{kind}' device='disk'>
      {source}
      <target dev='{device}' bus='virtio'/>
    </disk>"""


def _interface(address: str, network: str) -> str:
    """Without the boot ROM, which would look for a server to boot from."""
    return f"""
    <interface type='network'>
      <mac address='{address}'/>
      <source network='{escape(network)}'/>
      <model type='virtio'/>
      <rom enabled='no'/>
    </interface>"""
