"""What the installed ceph-volume destroys when it is to wipe one OSD on logical volumes. Its LVM is a stand-in: kernels
of test machines have no device mapper."""

import json
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.core.process import SystemProcesses
from pvc.plugins.storage.ceph.volume import CephVolume
from pvc.plugins.storage.schema import CephSettings
from tests.contract.test_ceph_osds import MOUNTS, Elsewhere, until

pytestmark = pytest.mark.ceph

RUN = SystemProcesses()
HERE, THERE = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"
LVM = Path("/usr/sbin/lvm")

STAND_IN = """#!/usr/bin/python3
# lvs, pvs and what removes, on the volumes of a JSON file; every change is noted
import json, os, re, sys
me, words = os.path.basename(sys.argv[0]), sys.argv[1:]
place = {place!r}
volumes = json.load(open(place + "/volumes.json"))
if me == "lvs" or (me == "pvs" and "-S" in words):
    wanted = words[words.index("-S") + 1]
    tags = re.search("tags=[{{](.*)[}}]", wanted)
    tags = set(tags[1].split(",")) if tags else set()
    fields = dict(one.split("=") for one in re.sub("tags=.*", "", wanted).strip(",").split(",") if one)
    for volume in volumes:
        row = {{"lv_path": "/dev/" + volume["vg_name"] + "/" + volume["lv_name"], **volume}}
        if tags <= set(row["lv_tags"].split(",")) and all(row.get(key) == value for key, value in fields.items()):
            print('";"'.join(row.get(field, "") for field in words[words.index("-o") + 1].split(",")))
elif me == "pvs":
    pass  # of a logical volume: it is no physical one
else:
    target = next((word.removeprefix("of=") for word in words if word.startswith("of=")), words[-1])
    with open(place + "/did", "a") as did:
        did.write(me + " " + target + "\\n")
    left = [one for one in volumes if target not in ("/dev/" + one["vg_name"] + "/" + one["lv_name"], one["vg_name"])]
    json.dump(left, open(place + "/volumes.json", "w")) if me in ("lvremove", "vgremove") else None
"""


def volume(id: int, vg: str, device: str, *, kind: str = "block", cluster: str = HERE) -> dict[str, str]:
    """A logical volume of an OSD, as LVM has it."""
    uuid = f"{id:08x}-{'1' if cluster == HERE else '2'}000-4000-8000-000000000000"
    tags = {"cluster_fsid": cluster, "osd_fsid": uuid, "osd_id": str(id), "type": kind, "cluster_name": "ceph"}
    name = f"osd-{kind}-{uuid}"
    return {
        "lv_tags": ",".join(f"ceph.{key}={value}" for key, value in tags.items()),
        "lv_name": name,
        "vg_name": vg,
        "lv_uuid": f"lv-{vg}-{name}",
        "lv_size": str(1 << 30),
        "pv_name": device,
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the stand-in keeps its volumes, and notes what it did."""
    if os.geteuid() != 0:
        pytest.skip("ceph-volume wants to be root")
    if shutil.which("ceph-volume") is None or not LVM.exists():
        pytest.skip("ceph-volume and LVM are not installed")
    return tmp_path


@pytest.fixture
def machine(place: Path) -> Iterator[Elsewhere]:
    """A machine whose LVM is the stand-in, as are the programs that write to a device."""
    stand_in = place / "stand-in"
    stand_in.write_text(STAND_IN.format(place=str(place)))
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    (place / "did").touch()
    script, ready = place / "mounts.sh", place / "ready"
    bound = "".join(f"mount --bind {stand_in} {path}\n" for path in (LVM.resolve(), "/usr/sbin/wipefs", "/bin/dd"))
    script.write_text(bound + MOUNTS)
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-e", str(script), str(ready)]
    keeper = RUN.start(command, output=place / "mounts.log")
    try:
        until(ready.exists, lambda: (place / "mounts.log").read_text())
        yield Elsewhere(keeper.pid)
    finally:
        keeper.signal(signal.SIGKILL)
        keeper.wait(10)


def test_one_osd_of_a_shared_device_is_wiped_with_its_db_and_no_other(place: Path, machine: Elsewhere) -> None:
    volumes = [
        volume(3, "fast", "/dev/nvme0n1"),
        volume(4, "fast", "/dev/nvme0n1"),
        volume(3, "dbs", "/dev/sdx", kind="db"),
        volume(4, "dbs", "/dev/sdx", kind="db"),
        volume(3, "foreign", "/dev/sdc", cluster=THERE),
    ]
    (place / "volumes.json").write_text(json.dumps(volumes))
    host = CephVolume(machine, CephSettings(), systemd=False)
    (own,) = (osd for osd in host.osds() if (osd.id, osd.cluster) == (3, HERE))
    assert (own.data, own.further) == (("/dev/nvme0n1",), ("/dev/sdx",))
    host.wipe(own)
    data, db = (f"/dev/{one['vg_name']}/{one['lv_name']}" for one in (volumes[0], volumes[2]))
    assert done(place) == {(program, path) for program in ("wipefs", "dd", "lvremove") for path in (data, db)}
    assert json.loads((place / "volumes.json").read_text()) == [volumes[1], volumes[3], volumes[4]]


def test_of_an_osd_that_has_its_device_to_itself_nothing_is_left(place: Path, machine: Elsewhere) -> None:
    volumes = [volume(3, "own", "/dev/sdb"), volume(4, "other", "/dev/sdc")]
    (place / "volumes.json").write_text(json.dumps(volumes))
    host = CephVolume(machine, CephSettings(), systemd=False)
    (own,) = (osd for osd in host.osds() if osd.id == 3)
    host.wipe(own)
    assert {("vgremove", "own"), ("pvremove", "/dev/sdb")} <= done(place)
    assert json.loads((place / "volumes.json").read_text()) == [volumes[1]]


def done(place: Path) -> set[tuple[str, str]]:
    """Which programs have changed what."""
    return {(words[0], words[1]) for words in map(str.split, (place / "did").read_text().splitlines())}
