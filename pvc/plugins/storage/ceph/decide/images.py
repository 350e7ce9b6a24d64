"""What `rbd` and `ceph` say of images, and how they are asked (Ceph 16 and later)."""

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from xml.sax.saxutils import quoteattr

from pvc.core.config.problems import near
from pvc.core.storage import (
    BadPool,
    Image,
    ImageExists,
    ImageInUse,
    NoSuchImage,
    Pool,
    Room,
    StorageError,
    StorageUnusable,
)
from pvc.plugins.storage.ceph.decide.conf import Monitor
from pvc.plugins.storage.decide.names import is_name

SECTOR = 512
"""Images are whole sectors."""
STALE = 86400.0
"""Seconds after which a half image that nobody has open or writes to is what a crash left."""

_OPTIONS = ("pool", "user")
_HEARD = re.compile(r'^osd\.(\d+): .*"newest_map":\s*(\d+)', re.MULTILINE)
_PART = re.compile(r"\.making\.(?P<image>.+)\.(?P<time>[0-9a-f]{8})\.[0-9a-f]{8}")

# errno(3), which are the exit codes of `rbd`; of `ceph` only in part.
_NO_ENTRY, _BUSY, _EXISTS, _NOT_EMPTY, _SHUT_DOWN, _TIMED_OUT = 2, 16, 17, 39, 108, 110

_UNUSABLE = ("couldn't connect", "error opening pool")


@dataclass(frozen=True, slots=True)
class Options:
    """How an RBD pool is used."""

    pool: str
    """Ceph's name of it."""
    user: str = "libvirt"
    """The client that VMs are, without `client.`."""


@dataclass(frozen=True, slots=True)
class ImageSnapshot:
    """A snapshot of an image."""

    name: str
    size: int
    """Bytes that the image had."""
    protected: bool
    made: float | None = None
    """Seconds since the epoch; None: it does not tell."""


def options_of(pool: Pool) -> Options:
    """The options of a pool. Raises BadPool for what is unknown or impossible."""
    for name, value in pool.options.items():
        if name not in _OPTIONS:
            hint = near(name, _OPTIONS) or f"there are {', '.join(_OPTIONS)}"
            raise BadPool(f"pool {pool.name}: ceph has no option {name}; {hint}")
        if name == "user" and value.startswith("client."):
            raise BadPool(f"pool {pool.name}: user cannot be {value!r}; leave `client.` out")
        if not is_name(value):
            raise BadPool(f"pool {pool.name}: {name} cannot be {value!r}; use letters, digits, '.', '_' and '-'")
    return Options(pool.options.get("pool", pool.name), pool.options.get("user", "libvirt"))


def must_be_name(name: str) -> None:
    """Raises StorageError for what no volume or snapshot can be called."""
    if not is_name(name):
        raise StorageError(f"{name!r} cannot be the name of an image; use letters, digits, '.', '_' and '-'")


def must_be_whole(size: int) -> None:
    """Raises StorageError for a size that no image can have."""
    if size <= 0 or size % SECTOR:
        raise StorageError(f"an image cannot have {size} bytes; give it a multiple of {SECTOR}")


def volume_names(names: Sequence[str]) -> Sequence[str]:
    """Those images that may be volumes: none that is being made, or has a name that no volume can have."""
    return [name for name in names if is_name(name)]


def part_of(image: str, now: float, random: str) -> str:
    """Under which name an image is made, before it is whole; `random`: hexadecimal digits, at least eight.

    No volume can have such a name, and it keeps within the 96 characters that RBD allows.
    """
    return f".making.{image}.{int(now):08x}.{random[-8:]}"


def earlier_parts(names: Sequence[str], image: str) -> Sequence[str]:
    """Those of a pool's images that are left of earlier attempts to make `image`."""
    return [name for name, part in _parts(names) if part["image"] == image]


def old_parts(names: Sequence[str], image: str, now: float) -> Sequence[str]:
    """Those of other images that were begun more than `STALE` seconds ago: left by a crash, or of work that is long."""
    return [name for name, part in _parts(names) if part["image"] != image and now - int(part["time"], 16) > STALE]


def is_left(watchers: Sequence[str], info: Mapping[str, Any], now: float) -> bool:
    """Whether a crash has left an old part; `info`: the answer to `rbd info`, asked after `watchers`.

    Between the copying and the renaming nobody has it open, but then it was written to not long ago.
    """
    written = moment_of(info.get("modify_timestamp"))
    return not watchers and written is not None and now - written > STALE


def image_in(info: Mapping[str, Any], snapshots: Sequence[ImageSnapshot]) -> Image:
    """An image, of the answers to `rbd info` and `rbd snap ls`."""
    parent = info.get("parent")
    return Image(
        size=int(info["size"]),
        format="raw",
        snapshots=tuple(snapshot.name for snapshot in snapshots),
        parent=f"{parent['image']}@{parent['snapshot']}" if parent else "",
        made=moment_of(info.get("create_timestamp")),
        snapshots_made=tuple(snapshot.made or 0.0 for snapshot in snapshots),
    )


def snapshots_in(answer: Sequence[Mapping[str, Any]]) -> Sequence[ImageSnapshot]:
    """The answer to `rbd snap ls`, in which Ceph 16 writes truth as text."""
    return [
        ImageSnapshot(
            one["name"],
            int(one["size"]),
            str(one["protected"]).lower() == "true",
            moment_of(one.get("timestamp")),
        )
        for one in answer
    ]


def moment_of(text: str | None) -> float | None:
    """When something was made, as `rbd` tells it: in words, in the time zone of this machine. None: it does not tell.

    An hour that there is twice in a year is taken for the earlier one.
    """
    try:
        return None if text is None else datetime.strptime(text, "%a %b %d %H:%M:%S %Y").astimezone().timestamp()
    except ValueError:
        return None


def room_in(answer: Mapping[str, Any], pool: str) -> Room:
    """The answer to `ceph df detail`: what is stored, and what could be, each byte counted once.

    `max_avail` leaves the pool's quota out. Raises StorageUnusable.
    """
    for one in answer["pools"]:
        if one["name"] == pool:
            stored, free = int(one["stats"]["stored"]), int(one["stats"]["max_avail"])
            if quota := int(one["stats"].get("quota_bytes", 0)):
                free = max(0, min(free, quota - stored))
            return Room(stored + free, free)
    raise StorageUnusable(f"Ceph has no pool {pool}; make it with `ceph osd pool create {pool}` and `rbd pool init`")


def watchers_in(status: Mapping[str, Any]) -> Sequence[str]:
    """The answer to `rbd status`: the clients that have the image open to write, as address:port/number."""
    return [str(one["address"]) for one in status["watchers"]]


def owners_in(locks: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """The answer to `rbd lock ls`: likewise those that own its lock, alive or not."""
    return [str(one["address"]) for one in locks]


def machines(clients: Sequence[str]) -> Sequence[str]:
    """The addresses of the machines of clients, each once."""
    found = [_CLIENT.fullmatch(client) for client in clients]
    return tuple(dict.fromkeys(one["host"].strip("[]") for one in found if one))


_CLIENT = re.compile(r"(?:(?:any|v1|v2):)?(?P<host>\[[^\]]+\]|[^\[\]:]+):\d+/\d+")


def entry_of(address: str) -> str:
    """How a blocklist names all clients of a machine, those to come included. Raises StorageError for no address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError as error:
        raise StorageError(f"{address!r} is no address of a machine; give an IP address") from error
    return f"[{parsed}]:0/0" if parsed.version == 6 else f"{parsed}:0/0"


def cut_off_in(dump: Mapping[str, Any]) -> frozenset[str]:
    """The answer to `ceph osd dump`: who is on the blocklist, machines as `entry_of` writes them."""
    return frozenset(dump.get("blocklist", dump.get("blacklist", {})))


def late_osds(dump: Mapping[str, Any], told: str, epoch: int) -> Sequence[int]:
    """The OSDs that serve, by `ceph osd dump`, and do not say that they have the map of that epoch or a later one.

    `told`: what `ceph tell 'osd.*' status` says, a line for each.
    """
    heard = {int(number): int(newest) for number, newest in _HEARD.findall(told)}
    return [int(one["osd"]) for one in dump["osds"] if one["up"] and heard.get(one["osd"], 0) < epoch]


def qemu_name(pool: str, image: str, snapshot: str | None, conf: str, user: str) -> str:
    """How QEMU's programs are told of an image; they find the key as the configuration says."""
    node: dict[str, Any] = {"driver": "rbd", "pool": pool, "image": image, "conf": conf, "user": user}
    if snapshot is not None:
        node["snapshot"] = snapshot
    return "json:" + json.dumps({"driver": "raw", "file": node})


def source_of(pool: str, image: str, monitors: Sequence[Monitor], user: str, secret: str) -> str:
    """libvirt's <source> of an image; `secret`: the UUID of its secret."""
    hosts = "".join(f"<host name={quoteattr(one.host)}{_port(one)}/>" for one in monitors)
    auth = f"<auth username={quoteattr(user)}><secret type='ceph' uuid={quoteattr(secret)}/></auth>"
    return f"<source protocol='rbd' name={quoteattr(f'{pool}/{image}')}>{hosts}{auth}</source>"


def refusal(code: int, said: str, what: str, new: str) -> StorageError:
    """What it means that `rbd` ended so; `what` it was asked about, `new`: what it should have made.

    Its exit codes tell; its words only where one code has two meanings.
    """
    lines = [line.strip() for line in re.split(r"[\r\n]", said) if line.strip() and "% complete" not in line]
    reason = lines[-1].removeprefix("rbd: ") if lines else f"it ended with code {code}"
    if code == _SHUT_DOWN:
        return StorageUnusable(
            "Ceph has cut this machine off: its node was declared dead, and is let in again once its pvcd has seen"
            " that nothing is left of it; what `ceph osd blocklist ls` lists of another machine that had this address"
            " before, take out with `ceph osd blocklist rm`"
        )
    unusable = [line for line in lines if any(words in line for words in _UNUSABLE)]
    if code == _TIMED_OUT or unusable:
        reason = unusable[0].removeprefix("rbd: ") if unusable else reason
        return StorageUnusable(f"Ceph cannot be used from this node: {reason}; see whether `rbd ls` works here")
    if code == _NO_ENTRY:
        return NoSuchImage(f"there is no {what}; see `rbd ls` and `rbd snap ls`")
    if code == _EXISTS:
        return ImageExists(f"there is a {new or what} already; choose another name")
    if code in (_BUSY, _NOT_EMPTY):
        return ImageInUse(f"{what} is in use: {reason}")
    return StorageError(f"{what}: rbd failed: {reason}; see to that and try again")


def _parts(names: Sequence[str]) -> Sequence[tuple[str, re.Match[str]]]:
    return [(name, part) for name in names if (part := _PART.fullmatch(name))]


def _port(monitor: Monitor) -> str:
    return "" if monitor.port is None else f" port='{monitor.port}'"
