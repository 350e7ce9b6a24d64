"""What is asked of ceph-volume to find an OSD, and to wipe it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pvc.core.process import Finished, Running
from pvc.core.storage import StorageError
from pvc.plugins.storage.ceph.osdhost import LocalOsd
from pvc.plugins.storage.ceph.volume import CephVolume
from pvc.plugins.storage.schema import CephSettings

HERE, THERE = "cluster-here", "cluster-there"


class Programs:
    """`Processes` that answer as they were told to, and note what changes something."""

    def __init__(self, answers: Mapping[tuple[str, ...], Any]) -> None:
        self._answers = answers
        self.did: list[tuple[str, ...]] = []

    def run(
        self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Finished:
        for start, answer in self._answers.items():
            if tuple(command[: len(start)]) == start:
                return Finished(0, answer if isinstance(answer, str) else json.dumps(answer), "")
        if command[0] in ("cat", "lsblk"):
            return Finished(1, "", "there is none")
        self.did.append(tuple(command))
        return Finished(0, "", "")

    def check(self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None) -> str:
        raise AssertionError(command)

    def start(
        self, command: Sequence[str], *, output: Path, env: Mapping[str, str] | None = None, new_session: bool = True
    ) -> Running:
        raise AssertionError(command)


def raw(device: str, uuid: str, cluster: str) -> dict[str, Any]:
    return {"osd_id": 3, "osd_uuid": uuid, "ceph_fsid": cluster, "device": device, "type": "bluestore"}


def machine(programs: Programs, *, systemd: bool = True) -> CephVolume:
    return CephVolume(programs, CephSettings(), systemd=systemd)


def test_osds_of_one_number_are_all_found_each_with_its_cluster() -> None:
    volume = {
        "type": "block",
        "path": "/dev/vg/osd",
        "devices": ["/dev/sdd"],
        "tags": {"ceph.osd_fsid": "u-lvm", "ceph.cluster_fsid": HERE},
    }
    seen_twice = raw("/dev/mapper/vg-osd", "u-lvm", HERE)
    lists = {
        ("ceph-volume", "raw"): {"a": raw("/dev/sdb", "a", HERE), "b": raw("/dev/sdc", "b", THERE), "c": seen_twice},
        ("ceph-volume", "lvm", "list"): {"3": [volume]},
    }
    assert machine(Programs(lists)).osds() == [
        LocalOsd(3, "u-lvm", HERE, ("/dev/sdd",), lvm=True, volumes=("/dev/vg/osd",)),
        LocalOsd(3, "a", HERE, ("/dev/sdb",)),
        LocalOsd(3, "b", THERE, ("/dev/sdc",)),
    ]


@pytest.mark.parametrize(("systemd", "words"), [(True, ()), (False, ("--no-systemd",))])
def test_what_is_on_volumes_is_wiped_by_the_osd_and_never_by_the_device(systemd: bool, words: tuple[str, ...]) -> None:
    programs = Programs({})
    osd = LocalOsd(3, "u3", HERE, ("/dev/nvme0n1",), ("/dev/nvme1n1",), lvm=True, volumes=("/dev/vg/a",))
    machine(programs, systemd=systemd).wipe(osd)
    zap = ("ceph-volume", "lvm", "zap", "--destroy", *words, "--osd-id", "3", "--osd-fsid", "u3")
    assert programs.did == [zap]


def test_a_bare_osd_is_wiped_with_its_further_devices() -> None:
    programs = Programs({})
    machine(programs).wipe(LocalOsd(3, "u3", HERE, ("/dev/sdb",), ("/dev/sdd",)))
    assert programs.did == [("ceph-volume", "lvm", "zap", "--destroy", "/dev/sdb", "/dev/sdd")]


@pytest.mark.parametrize(("mounted", "unmounted"), [("u3\n", True), ("another\n", False)])
def test_the_directory_of_a_number_is_unmounted_only_if_it_is_that_osds(mounted: str, unmounted: bool) -> None:
    programs = Programs({("cat", "/var/lib/ceph/osd/ceph-3/fsid"): mounted})
    machine(programs).wipe(LocalOsd(3, "u3", HERE, ("/dev/sdb",)))
    assert (("umount", "/var/lib/ceph/osd/ceph-3") in programs.did) is unmounted


def test_what_mounts_and_makes_volumes_runs_outside_of_the_daemons_unit() -> None:
    outside = ("systemd-run", "--pipe")
    environment = "--setenv=CEPH_CONF=/etc/ceph/ceph.conf"
    programs = Programs({("cat",): "u3\n"})
    host = CephVolume(programs, CephSettings(), systemd=True, outside=outside)
    host.prepare("/dev/sdb")
    host.wipe(LocalOsd(3, "u3", HERE, ("/dev/sdb",)))
    beginnings = [(*outside, f"--property=RuntimeMaxSec={limit}", environment, "--") for limit in (600, 30, 600)]
    assert [command[:5] for command in programs.did] == beginnings
    assert [command[5] for command in programs.did] == ["ceph-volume", "umount", "ceph-volume"]


def test_the_reason_names_the_program_and_not_who_runs_it() -> None:
    class Failing(Programs):
        def run(self, command: Sequence[str], **_: Any) -> Finished:
            return Finished(1, "", "")

    host = CephVolume(Failing({}), CephSettings(), systemd=True, outside=("systemd-run",))
    with pytest.raises(StorageError, match=r"^ceph-volume lvm create: it ended with code 1"):
        host.prepare("/dev/sdb")
