"""What the names and the first bytes of files say, and what qemu-img says."""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from pvc.core.storage import Image, ImageInUse, StorageError
from pvc.plugins.storage.decide.names import is_name
from pvc.plugins.storage.decide.sizes import exactly

SECTOR = 512
"""Images are whole sectors."""
HEADER = 104
"""Bytes at the beginning of a file that tell what it is: a qcow2 header of version 3."""

_PART = re.compile(r"\..+\.[0-9a-f]{16}\.part")
_LOCKED = re.compile(r"Failed to (get .*lock|lock byte)")
_QCOW2 = b"QFI\xfb"
_OTHERS = (
    (0, b"KDMV", "VMDK"),
    (0, b"COWD", "VMDK"),
    (0, b"# Disk DescriptorFile", "VMDK"),
    (64, b"\x7f\x10\xda\xbe", "VDI"),
    (0, b"conectix", "VHD"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"QED\0", "QED"),
    (0, b"WithoutFreeSpace", "Parallels"),
    (0, b"WithouFreSpacExt", "Parallels"),
    (0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", "cloop"),
    (0, b"Bochs Virtual HD Image", "Bochs"),
    (0, b"LUKS\xba\xbe", "LUKS"),
)
"""Where in an image of another format which bytes are, as block/*.c of QEMU has them."""
_TRAILERS = ((b"conectix", "VHD"), (b"koly", "DMG"))
"""With which the last sector of such an image begins."""
_CONVERT = (
    "convert it to raw or qcow2 with qemu-img convert first"
    " (a raw disk of which only the contents are so: with -f raw -O qcow2)"
)
_DATA_FILE = 1 << 2
"""The incompatible feature of qcow2 by which the contents are in another file."""


def file_of(image: str, format: str) -> str:
    """The name of the file that an image is. Raises StorageError for a name that no volume can have."""
    if not is_name(image):
        raise StorageError(f"{image!r} cannot be the name of an image; use letters, digits, '.', '_' and '-'")
    return f"{image}.{format}"


def image_of(file: str, format: str) -> str | None:
    """The image that a file is; None: it is none."""
    image, dot, suffix = file.rpartition(".")
    return image if dot and suffix == format and is_name(image) else None


def part_of(file: str, random: str) -> str:
    """Under which name a file is made, before it is whole; `random`: hexadecimal digits, at least 16."""
    return f".{file}.{random[-16:]}.part"


def is_part(file: str) -> bool:
    """Whether a file has the name of one that is being made."""
    return _PART.fullmatch(file) is not None


def format_by(header: bytes) -> str:
    """What a file that begins so is loaded as, if nothing speaks against it."""
    return "qcow2" if header.startswith(_QCOW2) else "raw"


def why_no_image(header: bytes, end: bytes, size: int) -> str:
    """Why a file cannot be loaded that begins so, whose last sector is `end`, with `size` bytes; empty: it may be raw
    or qcow2.

    Read before any program opens the file: one that names other files would have them opened. Layout of the header:
    docs/interop/qcow2.txt of QEMU.
    """
    if format_by(header) == "raw":
        if other := _other_format(header, end):
            return f"is an image of the format {other}; {_CONVERT}"
        if size == 0:
            return "is empty"
        return f"is no disk image: its size is not a multiple of {SECTOR} bytes" if size % SECTOR else ""
    if len(header) < 72:
        return "is cut off"
    if (version := int.from_bytes(header[4:8], "big")) not in (2, 3):
        return f"is an image of the format qcow {version}; {_CONVERT}"
    if int.from_bytes(header[8:16], "big"):
        return "depends on another image (a backing file); merge them with qemu-img convert first"
    if int.from_bytes(header[32:36], "big"):
        return "is encrypted; decrypt it with qemu-img convert first"
    if version >= 3 and int.from_bytes(header[72:80], "big") & _DATA_FILE:
        return "keeps its contents in another file; merge them with qemu-img convert first"
    return ""


def _other_format(header: bytes, end: bytes) -> str:
    found = [name for place, magic, name in _OTHERS if header[place:].startswith(magic)]
    found += [name for magic, name in _TRAILERS if end.startswith(magic)]
    return found[0] if found else ""


def read_info(text: str) -> Mapping[str, Any]:
    """What `qemu-img info --output json` says. Raises StorageError if it is something else."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise StorageError(f"qemu-img info did not answer in JSON ({error}); look at it by hand") from error


@dataclass(frozen=True, slots=True)
class Header:
    """What the beginning of a qcow2 image tells."""

    size: int
    """Bytes that a VM sees."""
    snapshots: int
    """How many it has."""
    table: int
    """Where the table of its snapshots begins."""


def header_of(data: bytes) -> Header | None:
    """The header of a qcow2 image, as docs/interop/qcow2.txt of QEMU lays it out; None: it is no such image."""
    if len(data) < 72 or not data.startswith(_QCOW2) or int.from_bytes(data[4:8], "big") not in (2, 3):
        return None
    size, snapshots, table = struct.unpack_from(">Q28xIQ", data, 24)
    return Header(size, snapshots, table)


@dataclass(frozen=True, slots=True)
class ImageSnapshot:
    """A snapshot in a qcow2 image."""

    number: str
    size: int | None
    """Bytes that a VM saw; None: it does not tell, and QEMU takes what the image has now."""


def snapshots_of(table: bytes, count: int) -> dict[str, ImageSnapshot] | None:
    """So many snapshots by their names, the first of a name; None: the table is cut off.

    The order of an entry (same source): where its table of clusters is and how long, the lengths of number and name,
    date, clock, state, the length of further data; that, in which the size is the second number of eight bytes; the
    number, the name, and what fills up eight bytes.
    """
    found: dict[str, ImageSnapshot] = {}
    place = 0
    for _ in range(count):
        if place + _ENTRY.size > len(table):
            return None
        of_number, of_name, further = _ENTRY.unpack_from(table, place)
        begin = place + _ENTRY.size + further
        middle, end = begin + of_number, begin + of_number + of_name
        if end > len(table):
            return None
        size = int.from_bytes(table[begin - further + 8 :][:8], "big") if further >= 16 else None
        snapshot = ImageSnapshot(table[begin:middle].decode(errors="replace"), size)
        found.setdefault(table[middle:end].decode(errors="replace"), snapshot)
        place = end + -end % 8
    return found


_ENTRY = struct.Struct(">12xHH20xI")


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be copied."""

    path: str
    format: str
    size: int
    """Bytes that a VM sees or saw in it."""
    snapshot: str | None = None
    grown: bool = False
    """The image is larger than the snapshot was; qemu-img makes every copy as large as the image is."""


def why_no_copy(snapshot: str, size: int, now: int) -> str:
    """Why a snapshot of so many bytes cannot be copied out of an image that has `now`; empty: it can."""
    if size <= now:
        return ""
    return (
        f"has {exactly(now)}, and {exactly(size)} at snapshot {snapshot}, of which qemu-img would copy no more than the"
        f" volume has now; resize the volume to {exactly(size)}, which keeps all snapshots, then try again"
    )


def image_in(info: Mapping[str, Any]) -> Image:
    """An image, as qemu-img tells of it."""
    return Image(
        size=int(info["virtual-size"]),
        format=str(info["format"]),
        used=int(info["actual-size"]),
        snapshots=tuple(str(snapshot["name"]) for snapshot in info.get("snapshots", ())),
    )


def refusal(what: str, said: str) -> StorageError:
    """What qemu-img means by what it says when it fails."""
    if _LOCKED.search(said):
        return ImageInUse(f"{what} is open in another program, such as a VM's QEMU; stop the VM that uses it")
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("Is another process")]
    reason = lines[-1].removeprefix("qemu-img: ") if lines else "it said nothing"
    advice = "make room in the pool" if "No space left" in reason else "see to that and try again"
    return StorageError(f"{what}: qemu-img failed: {reason}; {advice}")
