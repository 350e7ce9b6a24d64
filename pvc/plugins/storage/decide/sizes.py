"""Sizes as people write them, and which a volume may have."""

import re
from fractions import Fraction

from pvc.core.commands import UNITS, in_units
from pvc.core.errors import PvcError

SECTOR = 512
"""Bytes: the smallest part of a disk that can be read or written."""
SMALLEST = 1024**2
"""Bytes of a volume at least: less holds no partition table and file system."""
LARGEST = 1024**5
"""Bytes of a volume at most. Volumes may promise more than the pool has; this much is a slip of the hand."""

EXAMPLES = "write it as 10G, 512M or 1.5TiB"
_LETTERS = "KMGTPE"
_LONGEST = 64
"""Characters of a size: Python reads no number of thousands of digits, and nobody a refusal that repeats them."""
_WRITTEN = re.compile(rf"(\d+(?:\.\d+)?)\s*(?:B|([{_LETTERS}])(B|IB)?)?", re.IGNORECASE | re.ASCII)


class BadSize(PvcError):
    """The size cannot be read, or no volume can have it."""


def size_in(text: str) -> int:
    """How many bytes a text says: K, M, G, T and P are powers of 1024, as KiB, MiB and so on are; KB, MB and so on are
    powers of 1000; a number alone is bytes. Raises BadSize."""
    if len(text) > _LONGEST:
        raise BadSize(f"{text[:_LONGEST]!r} and so on is no size; {EXAMPLES}")
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise BadSize(f"{text!r} is no size; {EXAMPLES}")
    figure, letter, ending = found.groups()
    power = _LETTERS.index(letter.upper()) + 1 if letter else 0
    size = Fraction(figure) * (1000 if (ending or "").upper() == "B" else 1024) ** power
    if size.denominator != 1:
        raise BadSize(f"{text!r} is not a whole number of bytes; {EXAMPLES}")
    return int(size)


def volume_size(text: str) -> int:
    """How many bytes a volume is to have. Raises BadSize, also for what no volume can have."""
    size = size_in(text)
    if why := why_no_size(size):
        raise BadSize(why)
    return size


def why_no_size(size: int) -> str:
    """Why no volume can have so many bytes, and what would do; empty: one can."""
    if size < SMALLEST:
        return f"{exactly(size)} is too small for a volume: it has at least {exactly(SMALLEST)}"
    if size > LARGEST:
        return f"{exactly(size)} is too large for a volume: it has at most {exactly(LARGEST)}"
    if size % SECTOR:
        nearest = -(-size // SECTOR) * SECTOR
        return f"{size} bytes are no whole number of sectors of {SECTOR} bytes; {nearest} would be"
    return ""


def exactly(size: int) -> str:
    """So many bytes in the largest unit that tells them exactly, with three decimals at most."""
    for power in reversed(range(len(UNITS))):
        thousandths = Fraction(size * 1000, 1024**power)
        if abs(size) >= 1024**power and thousandths.denominator == 1:
            whole, rest = divmod(thousandths.numerator, 1000)
            return f"{whole}.{rest:03}".rstrip("0").rstrip(".") + f" {UNITS[power]}"
    return f"{size} B"


def part(done: int, total: int) -> str:
    """How far something is, in words."""
    return f"{100 * done // total} %, {in_units(done)} of {in_units(total)}"
