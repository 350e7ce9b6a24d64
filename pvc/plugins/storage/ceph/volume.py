"""OSDs of this machine through ceph-volume, systemd and util-linux. Decides nothing: whether a device is free, and
an OSD may go, is found out before."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pvc.core.process import CommandFailed, Processes
from pvc.core.storage import StorageError
from pvc.core.systemd import outside as by_systemd
from pvc.plugins.storage.ceph.decide.devices import why_failed
from pvc.plugins.storage.ceph.decide.listing import lvm_osds, raw_osds
from pvc.plugins.storage.ceph.osdhost import Device, LocalOsd
from pvc.plugins.storage.schema import CephSettings

QUICK = 30.0
"""Seconds that a look at a device may take."""
SLOW = 600.0
"""Seconds that making or wiping an OSD may take: a large device with LVM and encryption takes a minute."""
DIRECTORY = Path("/var/lib/ceph")
"""OSDs have directories in `osd`; those in containers of cephadm in one by the name of the cluster."""
SYSTEMD = Path("/run/systemd/system")
"""Is there where systemd is what runs the machine (sd_booted(3))."""


class CephVolume:
    """The real `OsdHost`."""

    def __init__(
        self,
        processes: Processes,
        settings: CephSettings,
        systemd: bool | None = None,
        outside: Sequence[str] | None = None,
    ) -> None:
        """`systemd`: whether it starts the OSDs; None: look. `outside`: see `core.systemd`; None: ask it."""
        self._processes = processes
        self._settings = settings
        self._systemd = SYSTEMD.is_dir() if systemd is None else systemd
        self._outside = by_systemd() if outside is None else tuple(outside)

    def local(self) -> bool:
        return any(DIRECTORY.glob("osd/ceph-*")) or any(DIRECTORY.glob("*/osd.*"))

    def device(self, path: str) -> Device:
        path = os.path.realpath(path)
        words = ("lsblk", "--json", "--bytes", "--paths", "--output", "NAME,SIZE,RO,MOUNTPOINTS", path)
        code, text = self._run(*words)
        if code != 0:
            return Device(path, block=False)
        (block,) = json.loads(text)["blockdevices"]
        return Device(
            path=path,
            block=True,
            size=block["size"],
            read_only=block["ro"],
            mounts=tuple(mount for one in [block, *_below(block)] for mount in one["mountpoints"] if mount),
            parts=tuple(one["name"] for one in _below(block)),
            holders=_holders(path),
            signatures=self._signatures(path),
            osds=tuple(osd for osd in self.osds() if path in osd.devices),
        )

    def prepare(self, path: str) -> None:
        words = ["lvm", "create"] if self._lvm else ["raw", "prepare"]
        start = ["--no-systemd"] if self._lvm and not self._systemd else []
        self._volume(*words, "--bluestore", *start, "--data", path, timeout=SLOW)

    def start(self, id: int, path: str) -> None:
        if not self._lvm:
            self._volume("raw", "activate", "--device", path, "--no-systemd", timeout=SLOW)
        if self._systemd:
            self._check("systemctl", "start", f"ceph-osd@{id}")
        elif self._pid(id) is None:
            conf = ("--conf", self._settings.conf)
            self._check("ceph-osd", *conf, "--id", str(id), "--setuser", "ceph", "--setgroup", "ceph")

    def osds(self) -> Sequence[LocalOsd]:
        raw = raw_osds(_json(self._volume("raw", "list", "--format", "json")))
        lvm = lvm_osds(_json(self._volume("lvm", "list", "--format", "json")))
        on_volumes = {osd.uuid for osd in lvm}  # the first list has some of these too, by Ceph's version
        return [*lvm, *(osd for osd in raw if osd.uuid not in on_volumes)]

    def stop(self, id: int) -> None:
        if self._systemd:
            self._check("systemctl", "disable", "--now", f"ceph-osd@{id}")
        elif (pid := self._pid(id)) is not None:
            self._check("kill", str(pid))

    def wipe(self, osd: LocalOsd) -> None:
        directory = f"/var/lib/ceph/osd/ceph-{osd.id}"
        _, mounted = self._run("cat", f"{directory}/fsid")
        if mounted.strip() == osd.uuid:
            with suppress(StorageError):  # it may be no mount
                self._check(*self._freely("umount", directory))
        if osd.lvm:  # by a device it would wipe each volume there, whose ever it is
            check = [] if self._systemd else ["--no-systemd"]
            which = ("--osd-id", str(osd.id), "--osd-fsid", osd.uuid)
            self._volume("lvm", "zap", "--destroy", *check, *which, timeout=SLOW)
        else:
            self._volume("lvm", "zap", "--destroy", *osd.devices, timeout=SLOW)

    @property
    def _lvm(self) -> bool:
        return self._settings.osd_method == "lvm"

    def _signatures(self, path: str) -> tuple[str, ...]:
        text = self._check("wipefs", "--json", path)
        return tuple(one["type"] for one in json.loads(text or "{}").get("signatures", ()))

    def _pid(self, id: int) -> int | None:
        """The daemon of an OSD where systemd does not run it, as its pid file and its command line say."""
        conf = ("--conf", self._settings.conf, "--name", f"osd.{id}", "--show-config-value", "pid_file")
        with suppress(OSError, ValueError):
            pid = int(Path(self._check("ceph-conf", *conf).strip()).read_text(encoding="ascii"))
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if command[0].endswith(b"ceph-osd") and str(id).encode() in command:
                return pid
        return None

    def _volume(self, *words: str, timeout: float = 60.0) -> str:
        return self._check(*self._freely("ceph-volume", *words, timeout=timeout), timeout=timeout)

    def _freely(self, *command: str, timeout: float = QUICK) -> Sequence[str]:
        """A command that mounts, makes volumes or writes to `/etc`, as one that is not kept from it."""
        if not self._outside:
            return command
        environment = (f"--setenv={name}={value}" for name, value in self._environment().items())
        return (*self._outside, f"--property=RuntimeMaxSec={timeout:g}", *environment, "--", *command)

    def _check(self, *command: str, timeout: float = QUICK) -> str:
        try:
            done = self._processes.run(command, timeout=timeout, env=self._environment())
        except CommandFailed as failed:
            raise StorageError(str(failed)) from failed
        if done.code != 0:
            why = why_failed(done.stderr) or f"it ended with code {done.code}"
            of_it = command[command.index("--") + 1 :] if "--" in command else command
            raise StorageError(f"{' '.join(of_it[:3])}: {why}; its log is in /var/log/ceph")
        return done.stdout

    def _run(self, *command: str) -> tuple[int, str]:
        try:
            done = self._processes.run(command, timeout=QUICK, env=self._environment())
        except CommandFailed as failed:
            raise StorageError(str(failed)) from failed
        return done.code, done.stdout

    def _environment(self) -> Mapping[str, str]:
        """ceph-volume takes the place of Ceph's configuration from here only."""
        return {"CEPH_CONF": self._settings.conf}


def _below(block: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All that lies upon a device, as lsblk tells it."""
    children: Sequence[Mapping[str, Any]] = block.get("children", ())
    return [one for child in children for one in [child, *_below(child)]]


def _holders(path: str) -> tuple[str, ...]:
    with suppress(OSError):
        return tuple(sorted(one.name for one in Path("/sys/class/block", Path(path).name, "holders").iterdir()))
    return ()


def _json(text: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise StorageError(f"ceph-volume did not answer in JSON ({error}); see /var/log/ceph") from error
    return answer
