"""Whether an OSD may be made of a device: everything on it would be lost."""

import re

from pvc.plugins.storage.ceph.osdhost import Device

SMALLEST = 1 << 30
"""Bytes: below that BlueStore has hardly room for its own records."""
COMPLAINT = re.compile(r"error|denied|fail|refuse|unable|cannot|no such", re.IGNORECASE)
ROLLBACK = "will rollback changes"
"""What ceph-volume says before it undoes what it has begun, which may fail for reasons that matter less."""
BLUESTORE = "ceph_bluestore"
"""What util-linux calls the signature of an OSD."""


def why_not_device(device: Device) -> str:
    """Why no OSD is made of a device, and what to do; empty: it is free."""
    path = device.path
    if not device.block:
        return f"{path} is no block device; `lsblk` shows those of the node"
    if device.mounts:
        return f"{path} is in use: mounted at {', '.join(device.mounts)}; unmount it first if nobody needs it"
    if device.osds:
        held = ", ".join(f"osd.{osd.id}" for osd in device.osds)
        return f"{path} holds {held} already; `pvc storage osd list` shows it if it is of this cluster"
    if device.holders:
        return f"{path} is in use by {', '.join(device.holders)} (LVM, RAID or encryption); take it out of that first"
    if device.parts:
        return f"{path} has partitions: {', '.join(device.parts)}; wipe it (`wipefs --all`) if nobody needs them"
    if BLUESTORE in device.signatures:
        return f"{path} holds an OSD of some cluster; `ceph-volume lvm zap --destroy {path}` if nobody needs it"
    if device.signatures:
        return f"{path} holds data ({', '.join(device.signatures)}); wipe it (`wipefs --all`) if nobody needs it"
    if device.read_only:
        return f"{path} is read-only; choose another device"
    if device.size < SMALLEST:
        return f"{path} has {device.size >> 20} MiB; an OSD takes {SMALLEST >> 20} MiB at least"
    return ""


def why_failed(said: str) -> str:
    """What ceph-volume, or a program like it, complains of first among the many lines that it says; else its last."""
    lines = [line.strip().removeprefix("-->").removeprefix("stderr:").strip() for line in said.splitlines()]
    lines = [line for line in lines if line]
    undone = next((number for number, line in enumerate(lines) if ROLLBACK in line), len(lines))
    first = next((line for line in lines[:undone] if COMPLAINT.search(line)), "")
    return first or (lines[-1] if lines else "")
