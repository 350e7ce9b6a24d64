"""A small real Ceph cluster to throw away: one monitor, one manager, some OSDs, cephx, a pool for RBD.

Everything lies in one directory. Signals go only to processes that were started from it: their command line names its
ceph.conf.
"""

import shlex
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from pvc.core.errors import PvcError
from pvc.core.process import Finished, Processes
from pvc.core.runtime import Runtime
from pvc.lab.cephtexts import (
    MGR,
    MGR_MODULES,
    MGR_STUB,
    MGR_STUBS,
    MON,
    POOL,
    Place,
    Plan,
    conf_text,
    keyring_text,
    keys_to_make,
    monitor_addresses,
    osd_text,
    osds_in,
)
from pvc.lab.deadline import tail_of, wait_until
from pvc.lab.errors import LabError
from pvc.lab.together import do_together

RunOn = Callable[[str, Sequence[str]], Finished]
"""Runs a command to its end on the host of that name."""

TOOLS = ("ceph-mon", "ceph-mgr", "ceph-osd", "ceph-authtool", "monmaptool", "ceph", "rbd")
PACKAGES = "ceph-mon ceph-mgr ceph-osd ceph-common qemu-block-extra"
LONGEST_PATH = 70
"""Characters of the directory: sockets lie in it, whose paths may have 107."""
START_TIME = 120.0
"""Seconds until all is well; it takes five, but machines under test are busy."""
COMMAND_TIME = 60.0
END_TIME = 30.0
"""Seconds that a daemon has to end by itself."""

# Debian's Ceph uses the C library's malloc: without these an OSD keeps 250 MiB of what it had while it was busy.
MEMORY = ("MALLOC_ARENA_MAX=2", "MALLOC_MMAP_THRESHOLD_=131072", "MALLOC_TRIM_THRESHOLD_=131072")

# Arguments: the pid file and ceph.conf. A process that is not, or no more, the one that is meant has another command
# line; a dead one that nobody has collected yet has none.
_FIND = 'pid=$(cat "$1") && tr "\\0" " " < /proc/$pid/cmdline | grep -qF -- "-c $2 "'


def missing_for_ceph() -> str | None:
    """What this machine lacks to run a cluster, as a sentence; None if it has all."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    return f"{', '.join(missing)} are not installed; install the packages {PACKAGES}" if missing else None


class MiniCeph:
    """One cluster in one directory; it may be built or not, and run or not. Methods raise LabError or CommandFailed."""

    def __init__(
        self,
        directory: Path,
        *,
        processes: Processes,
        runtime: Runtime,
        address: str = "127.0.0.1",
        monitor: Place | None = None,
        osds: Sequence[Place] | int = 3,
        run_on: RunOn | None = None,
        size: int = 3 << 30,
        grace: float = 5.0,
        watch: float = 30.0,
    ) -> None:
        """`osds`: where they are, or how many on `address`. `run_on`: None: hosts are names only, all is run here.

        `size`: bytes of each OSD; `grace` and `watch`: seconds, see `Plan`. A cluster that is in the directory already
        keeps what it was built with.
        """
        places = _places(osds, address) if isinstance(osds, int) else tuple(osds)
        own_place = monitor or Place("hv1", address)
        plan = Plan(directory, own_place, places, runtime.new_id(), size=size, grace=grace, watch=watch)
        self.plan = plan
        self.directory = directory
        self.conf = directory / "ceph.conf"
        self.admin_keyring = directory / "ceph.client.admin.keyring"
        self.libvirt_keyring = directory / "ceph.client.libvirt.keyring"
        self.pool = POOL
        self._runtime = runtime
        self._run_on = run_on or (lambda host, command: processes.run(command, timeout=COMMAND_TIME))
        self._places = {MON: own_place, MGR: own_place}
        there = osds_in(self.conf.read_text()) if self.conf.exists() else dict(enumerate(places))
        self._places |= {f"osd.{number}": place for number, place in there.items()}

    @property
    def daemons(self) -> tuple[str, ...]:
        """The names of all daemons: mon.a, mgr.x, osd.0 and so on."""
        return tuple(self._places)

    # the cluster

    def start(self, seconds: float = START_TIME) -> None:
        """Build the cluster if there is none, start what does not run, and return when all is well."""
        if not (self.directory / "built").exists():
            self._build()
        self.start_daemon(MON)
        self._together([partial(self.start_daemon, name) for name in self.daemons if name != MON])
        self.wait_healthy(seconds)

    def stop(self) -> None:
        """End all daemons; the data stays."""
        osds = [name for name in self.daemons if name.startswith("osd.")]
        self._together([partial(self.stop_daemon, name) for name in osds])  # they take leave of the monitor
        self.kill_daemon(MGR)  # it keeps nothing, and takes its time to end by itself
        self.stop_daemon(MON)

    def wipe(self) -> None:
        """Kill all daemons and delete the directory."""
        self._together([partial(self.kill_daemon, name) for name in self.daemons])
        shutil.rmtree(self.directory, ignore_errors=True)

    def wait_healthy(self, seconds: float = START_TIME) -> None:
        """Wait until every daemon that runs has its place in the cluster's maps and all data is where it belongs.

        A daemon that was sent SIGSTOP counts as one that runs. Raises LabError after so many seconds with what is
        missing.
        """
        wait_until(self._runtime, seconds, self._not_well, log=self.directory / "log" / "cluster.log", pause=0.1)

    # one daemon

    def start_daemon(self, name: str) -> None:
        """Start a daemon that is dead; returns once it runs, which is before it serves."""
        if self.running(name):
            return
        kind, _, identity = name.partition(".")
        output = self.directory / "log" / f"{name}.out"
        # It would otherwise keep the pipes of whoever started it.
        apart = ["sh", "-c", 'log=$1; shift; exec "$@" < /dev/null >> "$log" 2>&1', "sh", str(output)]
        command = ["env", *MEMORY, f"ceph-{kind}", "-i", identity, "-c", str(self.conf)]
        done = self._run_on(self._place(name).host, [*apart, *command])
        if done.code != 0:
            raise LabError(f"{name} did not start (code {done.code}); {tail_of(output)}")

    def stop_daemon(self, name: str) -> None:
        """Ask a daemon to end, and wait for it; kill it if it does not. Nothing happens if it does not run."""
        self.signal_daemon(name, "TERM")
        try:
            self._wait_gone(name)
        except LabError:
            self.kill_daemon(name)

    def kill_daemon(self, name: str) -> None:
        """End a daemon between two instructions, and wait for it."""
        self.signal_daemon(name, "KILL")
        self._wait_gone(name)

    def signal_daemon(self, name: str, signal: str) -> bool:
        """Send a signal, such as STOP or CONT, to a daemon; False if it does not run."""
        return self._about(name, f'{_FIND} && kill -s "$3" "$pid"', signal).code == 0

    def running(self, name: str) -> bool:
        """Whether a daemon's process lives; it may be stopped."""
        return self._about(name, _FIND).code == 0

    def pid(self, name: str) -> int:
        """The process of a daemon, as its host numbers it."""
        return int(self._pid_file(name).read_text())

    def add_osd(self, place: Place) -> int:
        """Make one more OSD and start it; its number. Data begins to move there."""
        number = self._new_osd()
        with self.conf.open("a") as conf:
            conf.write(osd_text(number, place))
        self._places[f"osd.{number}"] = place
        self._make_osd(number)
        self.start_daemon(f"osd.{number}")
        return number

    def ceph(self, *words: str) -> Any:
        """What the cluster says to a command, from its JSON. Raises LabError if it refuses."""
        text = self._check("ceph", "-c", str(self.conf), "--connect-timeout", "10", "--format", "json", *words)
        return msgspec.json.decode(text) if text.strip() else None

    # building

    def _build(self) -> None:
        if self.directory.exists() and any(self.directory.iterdir()):
            raise LabError(f"{self.directory} holds something that is not a finished cluster; remove it first")
        if len(str(self.directory)) > LONGEST_PATH:
            raise LabError(f"{self.directory} has more than {LONGEST_PATH} characters; choose a shorter directory")
        for name in ("run", "log", "crash", MON, MGR, "mgr-modules"):
            (self.directory / name).mkdir(parents=True)
        self.conf.write_text(conf_text(self.plan))
        _write_mgr_modules(self.directory / "mgr-modules")
        self._make_keys()
        self._make_monitor()
        self.start_daemon(MON)
        for number in range(len(self.plan.osds)):
            if (given := self._new_osd()) != number:
                raise LabError(f"the new cluster calls its OSD {number} {given}")
        self._together([partial(self._make_osd, number) for number in range(len(self.plan.osds))])
        self.ceph("osd", "pool", "create", POOL, str(self.plan.groups))
        self.ceph("osd", "pool", "application", "enable", POOL, "rbd")
        (self.directory / "built").touch()

    def _make_keys(self) -> None:
        everybody = str(self.directory / "mon.keyring")
        for entity, path, caps in keys_to_make(self.directory):
            words = [word for kind, what in caps for word in ("--cap", kind, what)]
            self._check("ceph-authtool", "--create-keyring", str(path), "--gen-key", "-n", entity, *words)
            if str(path) != everybody:
                self._check("ceph-authtool", everybody, "--import-keyring", str(path))

    def _make_monitor(self) -> None:
        monmap, keyring = self.directory / "monmap", self.directory / "mon.keyring"
        addresses = monitor_addresses(self.plan)
        self._check("monmaptool", "--create", "--fsid", self.plan.fsid, "--addv", "a", addresses, str(monmap))
        given = ("--monmap", str(monmap), "--keyring", str(keyring))
        self._check("ceph-mon", "-i", "a", "-c", str(self.conf), "--mkfs", *given)

    def _new_osd(self) -> int:
        """Have the monitor know a new OSD, whose key and identity wait in its file; its number."""
        identity = self._runtime.new_id()
        key = self._check("ceph-authtool", "--gen-print-key").strip()
        secrets = self.directory / "run" / f"{identity}.json"
        secrets.write_bytes(msgspec.json.encode({"cephx_secret": key}))
        number = int(self.ceph("osd", "new", identity, "-i", str(secrets))["osdid"])
        secrets.unlink()
        own = self.directory / f"osd.{number}"
        own.mkdir()
        (own / "keyring").write_text(keyring_text(f"osd.{number}", key))
        (own / "identity").write_text(identity)
        return number

    def _make_osd(self, number: int) -> None:
        identity = (self.directory / f"osd.{number}" / "identity").read_text()
        given = ("--no-mon-config", "--mkfs", "--osd-uuid", identity)
        self._check("ceph-osd", "-i", str(number), "-c", str(self.conf), *given)

    # whether all is well

    def _not_well(self) -> str | None:
        try:
            return self._not_in_maps() or self._not_clean()
        except (PvcError, msgspec.DecodeError) as error:
            return str(error)

    def _not_in_maps(self) -> str | None:
        """After a start the monitor tells for seconds what it knew before; a daemon's nonce is its process."""
        alive = [name for name in self.daemons if self.running(name)]
        manager = self.ceph("mgr", "dump")
        if MGR in alive and not (manager["available"] and _nonce(manager["active_addrs"]) == self.pid(MGR)):
            return "the manager is not active"
        known = {f"osd.{osd['osd']}": osd for osd in self.ceph("osd", "dump")["osds"]}
        for name in alive:
            if not name.startswith("osd."):
                continue
            osd = known.get(name)
            if osd is None or not osd["up"] or _nonce(osd["public_addrs"]) != self.pid(name):
                return f"{name} is not up"
        return None

    def _not_clean(self) -> str | None:
        groups = self.ceph("pg", "stat")["pg_summary"]
        states = {state["name"]: state["num"] for state in groups["num_pg_by_state"]}
        if set(states) != {"active+clean"} or not groups["num_pgs"]:
            return f"placement groups are {states}"
        health = self.ceph("health")
        if health["status"] != "HEALTH_OK":
            messages = [check["summary"]["message"] for check in health["checks"].values()]
            return f"{health['status']}: {'; '.join(messages)}"
        return None

    # running things

    def _check(self, *command: str) -> str:
        done = self._run_on(self.plan.monitor.host, command)
        if done.code != 0:
            said = (done.stderr.strip() or done.stdout.strip())[-500:]
            raise LabError(f"{shlex.join(command[:6])} ended with code {done.code}: {said}")
        return done.stdout

    def _about(self, name: str, script: str, *more: str) -> Finished:
        words = [str(self._pid_file(name)), str(self.conf), *more]
        return self._run_on(self._place(name).host, ["sh", "-c", script, "sh", *words])

    def _wait_gone(self, name: str) -> None:
        gone = f"{name} did not end"
        wait_until(self._runtime, END_TIME, lambda: gone if self.running(name) else None)
        self._pid_file(name).unlink(missing_ok=True)

    def _place(self, name: str) -> Place:
        if name not in self._places:
            raise LabError(f"there is no {name}; there are {', '.join(self.daemons)}")
        return self._places[name]

    def _pid_file(self, name: str) -> Path:
        return self.directory / "run" / f"{name}.pid"

    def _together(self, works: Sequence[Callable[[], None]]) -> None:
        do_together(self._runtime, works, 4, START_TIME)


def _places(count: int, address: str) -> tuple[Place, ...]:
    return tuple(Place(f"hv{number}", address) for number in range(1, count + 1))


def _nonce(addresses: Any) -> int | None:
    vector = addresses["addrvec"]
    return int(vector[0]["nonce"]) if vector else None


def _write_mgr_modules(directory: Path) -> None:
    for name in MGR_MODULES:
        (directory / name).symlink_to(Path("/usr/share/ceph/mgr") / name)
    for name in MGR_STUBS:
        (directory / name).mkdir()
        (directory / name / "__init__.py").write_text("from .module import Module\n")
        (directory / name / "module.py").write_text(MGR_STUB)
