"""What the names and the first bytes of files say, and what qemu-img says."""

import re
from collections.abc import Mapping
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


def image_in(info: Mapping[str, Any]) -> Image:
    """An image, as qemu-img tells of it."""
    return Image(
        size=int(info["virtual-size"]),
        format=str(info["format"]),
        used=int(info["actual-size"]),
        snapshots=tuple(str(snapshot["name"]) for snapshot in info.get("snapshots", ())),
    )


def snapshot_id(info: Mapping[str, Any], snapshot: str) -> str | None:
    """The number of a snapshot; None: there is none of that name.

    `qemu-img snapshot -a` takes what it is given for a number first and for a name second: a snapshot named 2 is
    another one than the second.
    """
    found = [str(one["id"]) for one in info.get("snapshots", ()) if one["name"] == snapshot]
    return found[0] if found else None


def refusal(what: str, said: str) -> StorageError:
    """What qemu-img means by what it says when it fails."""
    if _LOCKED.search(said):
        return ImageInUse(f"{what} is open in another program, such as a VM's QEMU; stop the VM that uses it")
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("Is another process")]
    reason = lines[-1].removeprefix("qemu-img: ") if lines else "it said nothing"
    advice = "make room in the pool" if "No space left" in reason else "see to that and try again"
    return StorageError(f"{what}: qemu-img failed: {reason}; {advice}")
