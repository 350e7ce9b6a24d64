"""Which files a definition uses, what is wrong with a node's directories, and whether they will do for a VM."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pvc.core.model import Finding, Severity
from pvc.plugins.storage.directories import Look
from pvc.plugins.storage.schema import SECTION, Directory

PRECISION = 3
"""Digits of the published room that count: a few bytes more or less are no news for the cluster."""


@dataclass(frozen=True, slots=True)
class Room:
    """A directory as its node publishes it."""

    path: str
    total: int = 0
    """MiB."""
    free: int = 0
    """MiB, rounded down."""
    problem: str = ""
    """Why it cannot be used; empty: it can."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a node publishes of its directories, by name."""

    directories: Mapping[str, Room] = field(default_factory=dict)


def files_of(xml: str) -> tuple[str, ...]:
    """The files that a libvirt definition uses as disks; none if it cannot be read."""
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except (DefusedXmlException, ParseError, ValueError):  # refused where it is defined, in words
        return ()
    sources = root.findall("devices/disk[@type='file']/source[@file]")
    return tuple(sorted({path for source in sources if (path := source.get("file", "").strip())}))


def kept_in(files: Iterable[str], published: Iterable[Published]) -> tuple[str, ...]:
    """Those of the files that lie in a directory that some node publishes, usable or not."""
    rooms = [room for one in published for room in one.directories.values()]
    return tuple(file for file in files if any(_holds(room, file) for room in rooms))


def room_of(directory: Directory, look: Look | str) -> Room:
    """What to publish of a directory; `look` is how it was found, or why it cannot be used."""
    if isinstance(look, str):
        return Room(directory.path, problem=look)
    if directory.mount and not look.mounted:
        return Room(directory.path, problem="is not mounted")
    return Room(directory.path, look.total, _rounded(look.free))


def findings(rooms: Mapping[str, Room], nearly_full: int) -> list[Finding]:
    """One for each directory that cannot be used or is full to `nearly_full` percent, with what to do."""
    found = []
    for name, room in rooms.items():
        if room.problem:
            found.append(Finding(SECTION, Severity.CRITICAL, _complaint(name, room)))
        elif room.total and 100 * (room.total - room.free) >= nearly_full * room.total:
            used = 100 * (room.total - room.free) // room.total
            text = f"directory {name} ({room.path}) is full to {used} %: delete from it, move disks away, or enlarge it"
            found.append(Finding(SECTION, Severity.WARNING, text))
    return found


def why_not(needed: Sequence[str], published: Published | None) -> str:
    """Why a node that publishes these directories cannot run a VM that needs those files; empty: it can."""
    if not needed:
        return ""
    if published is None:
        return "has not published its directories"
    reasons = dict.fromkeys(_why_not(file, published) for file in needed)
    return " and ".join(reason for reason in reasons if reason)


def _why_not(file: str, published: Published) -> str:
    holding = {name: room for name, room in published.directories.items() if _holds(room, file)}
    if not holding:
        return f"has no directory for {file}"
    name, room = max(holding.items(), key=lambda item: len(item[1].path))  # the innermost one holds it
    return f"cannot use its directory {name}, which {room.problem}" if room.problem else ""


def _holds(room: Room, file: str) -> bool:
    return file.startswith(f"{room.path}/")


def _rounded(mebibytes: int) -> int:
    unit: int = 10 ** max(0, len(str(mebibytes)) - PRECISION)
    return mebibytes // unit * unit


def _complaint(name: str, room: Room) -> str:
    advice = {
        "does not exist": f"create it and mount it, or take it out of {SECTION}.directories",
        "is not mounted": f"mount it (`mount {room.path}`), or set mount: false if it is a plain directory",
    }.get(room.problem, "look at the mount and at the server that it comes from")
    return f"directory {name} ({room.path}) {room.problem}: no VM with a disk in it comes here; {advice}"
