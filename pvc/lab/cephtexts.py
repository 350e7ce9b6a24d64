"""The texts and the plan of a small Ceph cluster of a lab. Pure: values in, text out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POOL = "vms"
"""The RBD pool that the cluster has from the start."""
MON, MGR = "mon.a", "mgr.x"
MGR_MODULES = (
    *("mgr_module.py", "mgr_util.py", "balancer", "crash", "iostat", "pg_autoscaler"),
    *("progress", "rbd_support", "status"),
)
"""What of the manager is real. It imports all that it finds, which costs seconds and 200 MiB."""
MGR_STUBS = ("devicehealth", "orchestrator", "telemetry", "volumes")
"""What the manager counts as broken when it is missing, and the lab has no use for: made empty.

`devicehealth` would make a pool of its own at some moment after the third OSD.
"""
MGR_STUB = "from mgr_module import MgrModule\n\n\nclass Module(MgrModule):\n    pass\n"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon runs: the name of a host, which is its CRUSH host too, and the address it takes there."""

    host: str
    address: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What the cluster was asked to be."""

    directory: Path
    monitor: Place
    """Where mon and mgr are."""
    osds: tuple[Place, ...]
    fsid: str
    size: int = 3 << 30
    """Bytes of each OSD; its file is sparse."""
    groups: int = 8
    """Placement groups of the pool."""
    grace: float = 5.0
    """Seconds without a heartbeat until an OSD counts as down."""
    watch: float = 30.0
    """Seconds that the watch, and so the exclusive lock, of a dead client lives on unless it is blocklisted."""

    @property
    def copies(self) -> int:
        """Of each object."""
        return min(3, len(self.osds))


def monitor_addresses(plan: Plan) -> str:
    """As `mon host` and monmaptool want them."""
    return f"[v2:{plan.monitor.address}:3300,v1:{plan.monitor.address}:6789]"


def conf_text(plan: Plan) -> str:
    """ceph.conf, for daemons and clients alike."""
    sections = (_global(plan), _client(plan), _monitor(plan), _manager(plan), _osd(plan))
    return "".join(sections) + "".join(osd_text(number, place) for number, place in enumerate(plan.osds))


def osd_text(number: int, place: Place) -> str:
    """The part of ceph.conf for one OSD."""
    values = {
        "public addr": place.address,
        "cluster addr": place.address,
        "crush location": f"root=default host={place.host}",
    }
    return _section(f"osd.{number}", values)


def osds_in(conf: str) -> dict[int, Place]:
    """The OSDs that a text of `conf_text`, and of `osd_text` after it, has."""
    pattern = r"^\[osd\.(\d+)\]\n\tpublic addr = (\S+)\n.*\n\tcrush location = root=default host=(\S+)$"
    return {int(found[1]): Place(found[3], found[2]) for found in re.finditer(pattern, conf, re.MULTILINE)}


def keyring_text(entity: str, key: str) -> str:
    """A keyring with one key."""
    return _section(entity, {"key": key})


def keys_to_make(directory: Path) -> Sequence[tuple[str, Path, Sequence[tuple[str, str]]]]:
    """Whose keys are made before there is a cluster: entity, file, and what it may do."""
    every = (("mon", "allow *"), ("osd", "allow *"), ("mds", "allow *"), ("mgr", "allow *"))
    rbd = (("mon", "profile rbd"), ("osd", "profile rbd"), ("mgr", "profile rbd"))
    return (
        ("mon.", directory / "mon.keyring", (("mon", "allow *"),)),
        ("client.admin", directory / "ceph.client.admin.keyring", every),
        ("client.libvirt", directory / "ceph.client.libvirt.keyring", rbd),
        (
            "client.bootstrap-osd",
            directory / "ceph.client.bootstrap-osd.keyring",
            (("mon", "allow profile bootstrap-osd"),),
        ),
        (
            MGR,
            directory / MGR / "keyring",
            (("mon", "allow profile mgr"), ("osd", "allow *"), ("mds", "allow *")),
        ),
    )


def _section(name: str, values: Mapping[str, object]) -> str:
    return f"[{name}]\n" + "".join(f"\t{key} = {value}\n" for key, value in values.items())


def _global(plan: Plan) -> str:
    own = plan.directory
    values: dict[str, object] = {
        "fsid": plan.fsid,
        "mon initial members": "a",
        "mon host": monitor_addresses(plan),
        "ms bind ipv6": "false",
        "auth cluster required": "cephx",
        "auth service required": "cephx",
        "auth client required": "cephx",
        "auth allow insecure global id reclaim": "false",
        "keyring": f"{own}/$cluster.$name.keyring",
        "run dir": f"{own}/run",
        "pid file": f"{own}/run/$type.$id.pid",
        "admin socket": f"{own}/run/$cluster-$name.asok",
        "log file": f"{own}/log/$type.$id.log",
        "log to stderr": "false",
        "mon cluster log file": f"{own}/log/cluster.log",
        "crash dir": f"{own}/crash",
        "max open files": 0,
        # The monitor goes by its own copy of these, so they are not for OSDs alone.
        "osd heartbeat interval": 1,
        "osd heartbeat grace": f"{plan.grace:g}",
        "osd client watch timeout": f"{plan.watch:g}",
        # At each tick clients say that they still watch.
        "objecter tick interval": f"{min(5.0, plan.watch / 3):g}",
        "osd crush chooseleaf type": 1,
        "osd pool default size": plan.copies,
        "osd pool default min size": max(1, plan.copies - 1),
        "osd pool default pg num": plan.groups,
        "osd pool default pgp num": plan.groups,
        "osd pool default pg autoscale mode": "off",
        # Milliseconds: a busy machine's pings are slow, and would be warned of for minutes after.
        "mon warn on slow ping time": 60000,
    }
    return _section("global", values)


def _client(plan: Plan) -> str:
    values: dict[str, object] = {
        "admin socket": f"{plan.directory}/run/$cluster-$name.$pid.$cctid.asok",
        "log file": "/dev/null",
    }
    return _section("client", values)


def _monitor(plan: Plan) -> str:
    values: dict[str, object] = {
        "public addr": plan.monitor.address,
        "mon data": f"{plan.directory}/{MON}",
        "keyring": f"{plan.directory}/{MON}/keyring",
        "mgr initial modules": "iostat",
        "mon allow pool delete": "true",
        # The disk below is not the cluster's own: how full it is says nothing about the cluster.
        "mon data avail warn": 2,
        "mon data avail crit": 1,
        "mon warn on pool no redundancy": "false",
        "mon osd min down reporters": 1,
        "mon osd down out interval": 600,
        "mon max pg per osd": 1000,
        "mon pg warn min per osd": 0,
        "mon memory target": 256 << 20,
        "mon osd cache size": 50,
        "mon rocksdb options": "write_buffer_size=4194304,compression=kNoCompression,max_background_jobs=1",
        # Maps come out at once rather than collected for a second.
        "paxos propose interval": 0.1,
        "paxos min wait": 0.02,
    }
    return _section("mon", values)


def _manager(plan: Plan) -> str:
    values: dict[str, object] = {
        "public addr": plan.monitor.address,
        "mgr data": f"{plan.directory}/{MGR}",
        "mgr module path": f"{plan.directory}/mgr-modules",
        "keyring": f"{plan.directory}/{MGR}/keyring",
        "mgr tick period": 1,
        "mgr stats period": 1,
    }
    return _section("mgr", values)


def _osd(plan: Plan) -> str:
    values: dict[str, object] = {
        "osd data": f"{plan.directory}/osd.$id",
        "keyring": f"{plan.directory}/osd.$id/keyring",
        "osd objectstore": "bluestore",
        "osd mon heartbeat interval": 5,
        "bluestore block size": plan.size,
        "bluestore block create": "true",
        "bluestore block db create": "false",
        "bluestore block wal create": "false",
        "bluestore cache autotune": "false",
        "bluestore cache size": 32 << 20,
        # Its tables in memory take up to 256 MiB each by default.
        "bluestore rocksdb options": "compression=kNoCompression,max_write_buffer_number=4,"
        "min_write_buffer_number_to_merge=1,recycle_log_file_num=4,write_buffer_size=4194304,"
        "writable_file_max_buffer_size=0,compaction_readahead_size=2097152,max_background_compactions=2",
        "osd memory target": 896 << 20,
        # Each close of the store waits for threads that sleep this long; 250 by default cost two seconds.
        "bdev aio poll ms": 20,
        "bluestore fsck on mkfs": "false",
        "osd op num shards": 2,
        "osd op num threads per shard": 1,
        "osd min pg log entries": 100,
        "osd max pg log entries": 500,
        # A virtual disk counts as a turning one, for which recovery sleeps after each object.
        "osd recovery sleep hdd": 0,
        "osd recovery sleep hybrid": 0,
        "osd recovery max active": 16,
        "osd max backfills": 8,
    }
    return _section("osd", values)
