"""What ceph-volume's lists of OSDs mean (JSON, Ceph 16). Neither asks whose cluster an OSD is of."""

from collections.abc import Mapping, Sequence
from typing import Any

from pvc.core.storage import StorageError
from pvc.plugins.storage.ceph.osdhost import LocalOsd

FURTHER = ("db", "wal", "journal")
"""What an OSD may have on other devices than its data."""


def raw_osds(answer: Mapping[str, Any]) -> list[LocalOsd]:
    """The OSDs that `ceph-volume raw list` tells of. Raises StorageError.

    Left out is one of which there is no more than a block.db or block.wal: that does not say whose it is.
    """
    try:
        return [
            LocalOsd(
                id=one["osd_id"],
                uuid=one["osd_uuid"],
                cluster=one["ceph_fsid"],
                data=(one["device"],),
                further=tuple(one[f"device_{kind}"] for kind in FURTHER if f"device_{kind}" in one),
            )
            for one in answer.values()
            if "device" in one
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise _strange(error) from error


def lvm_osds(answer: Mapping[str, Any]) -> list[LocalOsd]:
    """The OSDs that `ceph-volume lvm list` tells of: by their numbers, under which it mixes OSDs of different clusters,
    and of different times. Raises StorageError."""
    try:
        found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
        for id, parts in answer.items():
            for part in parts:
                tags = part["tags"]
                if "ceph.osd_fsid" in tags:  # a partition with a block.db is told of without, after its OSD's data
                    key = (id, tags["ceph.osd_fsid"], tags["ceph.cluster_fsid"])
                    found.setdefault(key, []).append(part)
        return [_on_volumes(int(id), uuid, cluster, parts) for (id, uuid, cluster), parts in found.items()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _strange(error) from error


def _on_volumes(id: int, uuid: str, cluster: str, parts: Sequence[Mapping[str, Any]]) -> LocalOsd:
    data = [part for part in parts if part["type"] not in FURTHER]
    rest = [part for part in parts if part["type"] in FURTHER]
    return LocalOsd(
        id=id,
        uuid=uuid,
        cluster=cluster,
        data=tuple(dict.fromkeys(device for part in data for device in part["devices"])),
        further=tuple(dict.fromkeys(device for part in rest for device in part["devices"])),
        lvm=True,
        volumes=tuple(part["path"] for part in data),
    )


def _strange(error: Exception) -> StorageError:
    return StorageError(f"ceph-volume's answer lacks {error}; pvc knows Ceph 16 and what answers like it")
