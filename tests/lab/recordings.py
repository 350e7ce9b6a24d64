"""What the guests' program `recorder` left on a disk, compared with what the disk had acknowledged.

Pure, but for `read`. The format of a record is told in pvc/lab/kernel/recorder.c.
"""

import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

SECTOR = 512
MOST = 1 << 16
"""Sectors that the program uses."""
MAGIC = b"PVCREC01"
HEAD = struct.Struct("<8sQ40s")
SUM = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Said:
    """What the program said on the console of its VM, all starts one after the other."""

    acknowledged: tuple[int, ...]
    writers: tuple[str, ...]
    """The name that it took at each start."""
    complaints: tuple[str, ...]
    """Lines that tell of something wrong."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The records on a disk."""

    numbers: Mapping[int, str]
    """Each record's number, and who wrote it."""
    sectors: int
    """How many records the disk holds until the first are written over."""

    @property
    def highest(self) -> int:
        return max(self.numbers, default=0)

    def up_to(self, number: int) -> "Recording":
        """Without what is later: of a disk that was written to while it was read, only what was on it before counts."""
        return Recording({each: writer for each, writer in self.numbers.items() if each <= number}, self.sectors)

    @property
    def writers(self) -> list[str]:
        """Who has written, in the order of the numbers; one that comes twice wrote beside another."""
        return [writer for writer, _ in groupby(self.numbers[number] for number in sorted(self.numbers))]


def recording_of(image: bytes) -> Recording:
    """The records in the contents of a disk; what is no record, or not where it belongs, is none."""
    sectors = min(len(image) // SECTOR, MOST)
    found = {}
    for sector in range(sectors):
        record = image[sector * SECTOR : (sector + 1) * SECTOR]
        magic, number, writer = HEAD.unpack_from(record)
        whole = magic == MAGIC and SUM.unpack(record[-SUM.size :])[0] == checksum(record[: -SUM.size])
        if whole and (number - 1) % sectors == sector:
            found[number] = writer.rstrip(b"\0").decode(errors="replace")
    return Recording(found, sectors)


def checksum(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    total = 0xCBF29CE484222325
    for byte in data:
        total = (total ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return total


def said_in(console: str) -> Said:
    """What the program said, from the text of a console."""
    lines = console.replace("\r", "").splitlines()
    starts = [found[1] for line in lines if (found := re.fullmatch(r"recording from \d+ as (\S{36})", line))]
    numbers = [int(found[1]) for line in lines if (found := re.fullmatch(r"acknowledged (\d+)\.", line))]
    wrong = [line for line in lines if re.match(r"hole at|foreign record|stopped at", line)]
    return Said(tuple(numbers), tuple(starts), tuple(wrong))


def last_words(console: str, writer: str) -> str:
    """What the console showed before the start at which the program took that name, from the start before on."""
    before = console.partition(f" as {writer}")[0]
    return before[max(0, before.rfind("\nrecording from ", 0, before.rfind("\nrecording from "))) :]


def faults(recording: Recording, said: Said) -> list[str]:
    """All that shows that something was lost, or that two have written; empty: neither."""
    kept = range(max(1, recording.highest - recording.sectors + 1), recording.highest + 1)
    lost = [number for number in said.acknowledged if number >= kept.start and number not in recording.numbers]
    holes = [number for number in kept if number not in recording.numbers]
    back = [b for a, b in zip(said.acknowledged, said.acknowledged[1:], strict=False) if b <= a]
    strangers = [writer for writer in recording.writers if writer not in said.writers]
    return [
        *said.complaints,
        *_some("acknowledged, but not on the disk", lost),
        *_some("missing on the disk among others", holes),
        *_some("acknowledged after a later one", back),
        *_some("on the disk, but not from a start that the console tells of", strangers),
        *_some("wrote before and after another", twice(recording.writers)),
    ]


def twice(names: Iterable[str]) -> list[str]:
    """Those that come more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def read(path: Path) -> Recording:
    """The records in a raw image."""
    with path.open("rb") as file:
        return recording_of(file.read(MOST * SECTOR))


def _some(what: str, which: list[int] | list[str]) -> list[str]:
    return [f"{len(which)} {what}: {', '.join(map(str, which[:8]))}"] if which else []
