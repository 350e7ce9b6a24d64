"""What the names and the first bytes of files say, and what qemu-img says."""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from pvc.core.storage import Image, ImageInUse, StorageError
from pvc.plugins.storage.decide.names import is_name

SECTOR = 512
"""Images are whole sectors."""
HEADER = 104
"""Bytes at the beginning of a file that tell what it is: a qcow2 header of version 3."""

_PART = re.compile(r"\..+\.[0-9a-f]{16}\.part")
_LOCKED = re.compile(r"Failed to (get .*lock|lock byte)")
_QCOW2 = b"QFI\xfb"
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


def why_no_image(header: bytes, size: int) -> str:
    """Why a file that begins so, with `size` bytes, cannot be loaded; empty: it may be raw or qcow2.

    Read before any program opens the file: one that names other files would have them opened. Layout of the header:
    docs/interop/qcow2.txt of QEMU.
    """
    if not header.startswith(_QCOW2):
        if size == 0:
            return "is empty"
        return f"is no disk image: its size is not a multiple of {SECTOR} bytes" if size % SECTOR else ""
    if len(header) < 72:
        return "is cut off"
    if int.from_bytes(header[8:16], "big"):
        return "depends on another image (a backing file); merge them with qemu-img convert first"
    if int.from_bytes(header[32:36], "big"):
        return "is encrypted; decrypt it with qemu-img convert first"
    if int.from_bytes(header[4:8], "big") >= 3 and int.from_bytes(header[72:80], "big") & _DATA_FILE:
        return "keeps its contents in another file; merge them with qemu-img convert first"
    return ""


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


def snapshots_of(table: bytes, count: int) -> dict[str, str] | None:
    """The number of each of so many snapshots by its name, the first of a name; None: the table is cut off.

    The order of an entry (same source): where its table of clusters is and how long, the lengths of number and name,
    date, clock, state, the length of further data; that, the number, the name, and what fills up eight bytes.
    """
    found: dict[str, str] = {}
    place = 0
    for _ in range(count):
        if place + _ENTRY.size > len(table):
            return None
        of_number, of_name, further = _ENTRY.unpack_from(table, place)
        begin = place + _ENTRY.size + further
        middle, end = begin + of_number, begin + of_number + of_name
        if end > len(table):
            return None
        found.setdefault(table[middle:end].decode(errors="replace"), table[begin:middle].decode(errors="replace"))
        place = end + -end % 8
    return found


_ENTRY = struct.Struct(">12xHH20xI")


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
