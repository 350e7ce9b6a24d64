"""The backend of RBD: each image of a pool of Ceph is a volume. Speaks to Ceph through `rbd`, `ceph` and `qemu-img`.

Ceph's exclusive lock is no protection, it moves to whoever asks: a machine is kept from writing by the blocklist.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from pvc.core.process import Processes
from pvc.core.runtime import Runtime
from pvc.core.storage import (
    DamagedImage,
    Disk,
    Feature,
    HypervisorSecret,
    Image,
    ImageExists,
    ImageInUse,
    NoSuchImage,
    OpenBackend,
    Pool,
    Report,
    Room,
    StorageError,
    StorageUnusable,
)
from pvc.plugins.storage.ceph.access import Access
from pvc.plugins.storage.ceph.decide.images import (
    ImageSnapshot,
    Options,
    cut_off_in,
    earlier_parts,
    entry_of,
    image_in,
    is_left,
    late_osds,
    machines,
    must_be_name,
    must_be_whole,
    old_parts,
    options_of,
    owners_in,
    part_of,
    qemu_name,
    refusal,
    room_in,
    snapshots_in,
    source_of,
    volume_names,
    watchers_in,
)
from pvc.plugins.storage.ceph.programs import CephPrograms
from pvc.plugins.storage.directory import imagefiles
from pvc.plugins.storage.directory.decide.images import part_of as part_of_file
from pvc.plugins.storage.directory.decide.images import refusal as refusal_of_qemu
from pvc.plugins.storage.directory.foreign import look_at
from pvc.plugins.storage.directory.qemuimg import QemuImg
from pvc.plugins.storage.longprograms import GLANCE, follow
from pvc.plugins.storage.schema import CephSettings

KIND = "ceph"
"""What pools call it by."""
SLOW = 6 * 3600.0
"""Seconds for what removes data, which Ceph does object by object."""
FOR_GOOD = 10 * 365 * 86400
"""Seconds that a machine stays cut off unless it is readmitted. A blocklist knows no end that never comes."""
FOR_NOW = 3600
"""Seconds that a program that has been ended stays cut off: as long as librbd takes for that."""
WITH_FEATURES = ("--image-feature", "layering,exclusive-lock,object-map,fast-diff,deep-flatten")
"""Of new images, whatever Ceph's configuration has by default: live migration needs the lock, the rest makes quick.
One list: for an option each, `rbd` takes five milliseconds longer."""
ALIVE = 60.0
"""Seconds after which Ceph surely takes no program for alive any more that was killed."""
UNASKED = "Ceph cannot be asked"
FORMATS = ("raw", "qcow2")


class RbdBackend:
    """One RBD pool on one node."""

    features = frozenset(
        {
            Feature.SNAPSHOTS,
            Feature.LIVE_SNAPSHOTS,
            Feature.LINKED_CLONES,
            Feature.LIVE_RESIZE,
            Feature.CUTS_OFF,
            Feature.DATED,
        }
    )

    def __init__(self, options: Options, processes: Processes, runtime: Runtime, settings: CephSettings) -> None:
        self._pool = options.pool
        self._user = options.user
        self._settings = settings
        self._processes = processes
        self._programs = CephPrograms(processes, settings)
        self._access = Access(settings.conf)
        self._runtime = runtime

    def look(self) -> Room:
        """Asks a monitor for the room and the OSDs for the images: where either hangs, no VM could use the pool."""
        room = room_in(self._programs.ask("ceph", "df", "detail"), self._pool)
        self._names()
        return room

    def images(self) -> Sequence[str]:
        return sorted(volume_names(self._names()))

    def inspect(self, image: str) -> Image:
        try:
            info = self._ask("info", image)
        except NoSuchImage as error:
            self._must_be_half_removed(image)
            raise DamagedImage(f"the image {image} is half removed; remove the volume") from error
        return image_in(info, () if info.get("snapshot_count") == 0 else self._snapshots(image))

    def create(self, image: str, size: int) -> None:
        must_be_name(image)
        must_be_whole(size)
        self._create(image, size)

    def remove(self, image: str) -> None:
        try:
            snapshots = self._snapshots(image)
        except NoSuchImage:
            self._must_be_half_removed(image)
            self._remove_rest(image)
            return
        self._must_be_idle(image)
        if kept := [snapshot.name for snapshot in snapshots if snapshot.protected]:
            raise ImageInUse(f"{image} has protected snapshots: {', '.join(kept)}; take the protection back first")
        self._must_have_no_clones(image, None)
        if snapshots:
            self._rbd(("snap", "purge", "--no-progress", self._spec(image)), image, timeout=SLOW)
        self._destroy(image)

    def resize(self, image: str, size: int) -> None:
        must_be_whole(size)
        now = self.inspect(image).size
        if size == now:  # which rbd calls a mistake
            return
        shrinks = size < now
        if shrinks:
            self._must_be_idle(image)
        words = ("resize", "--no-progress", "--size", f"{size}B", *(["--allow-shrink"] if shrinks else []))
        self._rbd((*words, self._spec(image)), image, timeout=SLOW)

    def rename(self, image: str, new: str) -> None:
        must_be_name(new)
        self._must_be_idle(image)
        self._rbd(("rename", self._spec(image), self._spec(new)), image, new=new)

    def clone(self, image: str, snapshot: str | None, new: str, report: Report) -> None:
        """Of a snapshot a linked one, which takes no time; else a copy, while no program has the image open."""
        must_be_name(new)
        if snapshot is not None:
            report(0, 1)
            report(1, 1)  # the last moment to stop
            words = ("clone", "--rbd-default-clone-format", "2", *WITH_FEATURES)
            both = (self._spec(image, snapshot), self._spec(new))
            self._rbd((*words, *both), _named(image, snapshot), new=new, tied=False)
            return
        size = self._size(image, snapshot)
        with self._made(new) as part:
            self._must_be_idle(image)
            self._follow(("cp", self._spec(image), self._spec(part)), image, size, report)
            report(size, size)

    def load(self, path: str, image: str, report: Report) -> None:
        must_be_name(image)
        found = look_at(path, QemuImg(self._processes))
        with self._made(image) as part:
            self._create(part, found.size)
            what = ("-f", found.format, "-O", "raw", path, self._qemu_name(part))
            self._convert(("-n", "--target-is-zero", *what), path, found.size, report)

    def save(self, image: str, snapshot: str | None, path: str, format: str, report: Report) -> None:
        """An image itself is saved only while no program has it open; a snapshot of it at any time."""
        if format not in FORMATS:
            raise StorageError(f"an image cannot be saved as {format!r}; choose {' or '.join(FORMATS)}")
        if not path.startswith("/") or not Path(path).parent.is_dir():
            raise StorageError(f"there is no directory {Path(path).parent} on this node; make it, or name another file")
        size = self._size(image, snapshot)
        if snapshot is None:
            self._must_be_idle(image)
        with self._made_file(path) as part:
            source = self._qemu_name(image, snapshot)
            self._convert(("-f", "raw", "-O", format, source, part), _named(image, snapshot), size, report)

    def add_snapshot(self, image: str, snapshot: str) -> None:
        must_be_name(snapshot)
        what = _named(image, snapshot)
        self._rbd(("snap", "create", "--no-progress", self._spec(image, snapshot)), what, new=what, tied=False)

    def remove_snapshot(self, image: str, snapshot: str) -> None:
        if self._snapshot(image, snapshot).protected:
            raise ImageInUse(f"{image}@{snapshot} is protected; take that back first")
        # Ceph would keep it for the clones under another name, where nobody finds it.
        self._must_have_no_clones(image, snapshot)
        words = ("snap", "rm", "--no-progress", self._spec(image, snapshot))
        self._rbd(words, _named(image, snapshot), timeout=SLOW)

    def protect_snapshot(self, image: str, snapshot: str, on: bool) -> None:
        if self._snapshot(image, snapshot).protected != on:
            words = ("snap", "protect" if on else "unprotect", self._spec(image, snapshot))
            self._rbd(words, _named(image, snapshot))

    def roll_back(self, image: str, snapshot: str, report: Report) -> None:
        """Stopped on its way it leaves an image that is neither, and is to be rolled back again."""
        size = self._snapshot(image, snapshot).size
        self._must_be_idle(image)
        self._follow(("snap", "rollback", self._spec(image, snapshot)), _named(image, snapshot), size, report)

    def disk(self, image: str, format: str) -> Disk:
        """Without a cache in QEMU: what a VM was told is written is in Ceph, for the host that it moves to as well."""
        identity, monitors = self._access.secret_id(self._user), self._access.monitors(self._user)
        source = source_of(self._pool, image, monitors, self._user, identity)
        return Disk("network", format, source, {"cache": "none", "discard": "unmap"})

    def secret(self) -> HypervisorSecret | None:
        return self._access.secret(self._user)

    def addresses(self) -> Sequence[str]:
        """As which Ceph sees this machine, for others to name in `cut_off`. Asks Ceph nothing."""
        return self._access.addresses(self._user)

    def writers(self, image: str) -> Sequence[str] | None:
        """Also the owner of its lock who does not answer any more: it may be cut from the network and go on later."""
        watchers = self.watchers(image)
        silent = set(owners_in(self._ask("lock ls", image))) - set(watchers)
        out = self._cut_off() if silent else frozenset()
        rest = [client for client in sorted(silent - out) if entry_of(machines([client])[0]) not in out]
        return machines([*watchers, *rest])

    def watchers(self, image: str) -> Sequence[str]:
        """The clients that have an image open to write, as Ceph writes them: address:0/number. Raises NoSuchImage."""
        return watchers_in(self._ask("status", image))

    def cut_off(self, addresses: Sequence[str]) -> None:
        """Every client of Ceph on these machines, of other pools too, those to come included; daemons of Ceph are not.

        Returns once each OSD that serves says that it has the map with that in it. What is left of the old writer's
        requests then comes before anything that another one asks, who has that map too. Raises StorageUnusable if an
        OSD does not say so within the deadline: ask again, once it answers or is marked down.
        """
        entries = [entry_of(address) for address in addresses]
        for entry in entries:
            self._programs.check("ceph", "osd", "blocklist", "add", entry, str(FOR_GOOD))
        dump = self._programs.ask("ceph", "osd", "dump")
        if missing := sorted(set(entries) - cut_off_in(dump)):
            raise StorageError(f"Ceph did not cut off {', '.join(missing)}; see `ceph osd blocklist ls`")
        self._wait_for_osds(int(dump["epoch"]))

    def readmit(self, addresses: Sequence[str]) -> None:
        entries = [entry_of(address) for address in addresses]
        for entry in entries:
            self._programs.check("ceph", "osd", "blocklist", "rm", entry)
        if left := sorted(set(entries) & self._cut_off()):
            raise StorageError(f"Ceph still cuts off {', '.join(left)}; see `ceph osd blocklist ls`")

    # questions

    def _names(self) -> Sequence[str]:
        return [str(name) for name in self._answer(("ls", self._pool), self._pool)]

    def _ask(self, question: str, image: str) -> Any:
        return self._answer((*question.split(), self._spec(image)), image)

    def _answer(self, words: Sequence[str], what: str) -> Any:
        done = self._programs.run("rbd", *words, "--format", "json")
        if done.code != 0:
            raise refusal(done.code, done.stderr, what, "")
        try:
            return msgspec.json.decode(done.stdout)
        except msgspec.DecodeError as error:
            raise StorageError(f"rbd did not answer in JSON ({error}); see whether `rbd ls` works here") from error

    def _snapshots(self, image: str) -> Sequence[ImageSnapshot]:
        return snapshots_in(self._ask("snap ls", image))

    def _snapshot(self, image: str, snapshot: str) -> ImageSnapshot:
        for one in self._snapshots(image):
            if one.name == snapshot:
                return one
        raise NoSuchImage(f"{image} has no snapshot {snapshot}; see `pvc storage snapshot list`")

    def _size(self, image: str, snapshot: str | None) -> int:
        return self.inspect(image).size if snapshot is None else self._snapshot(image, snapshot).size

    def _must_be_half_removed(self, image: str) -> None:
        """Of what `rbd rm` has begun to remove it takes the name first, and the data last: then only `rbd ls` and
        `rbd rm` know it. Raises NoSuchImage if nothing is there."""
        if image not in self._names():
            raise NoSuchImage(f"there is no {image}; see `rbd ls`")

    def _must_be_idle(self, image: str) -> None:
        if watchers := self.watchers(image):
            raise ImageInUse(f"{image} is open on {', '.join(machines(watchers))}; stop the VM that uses it")

    def _must_have_no_clones(self, image: str, snapshot: str | None) -> None:
        of = ("--all", self._spec(image)) if snapshot is None else (self._spec(image, snapshot),)
        what = _named(image, snapshot)
        found = self._answer(("children", *of), what)
        if clones := [f"{one['pool']}/{one['image']}" for one in found]:
            raise ImageInUse(f"{what} is needed by its clones {', '.join(clones)}; remove them first")

    def _cut_off(self) -> frozenset[str]:
        return cut_off_in(self._programs.ask("ceph", "osd", "dump"))

    def _wait_for_osds(self, epoch: int) -> None:
        """A monitor tells its OSDs of a new map after it has answered."""
        end = self._runtime.monotonic() + self._settings.deadline
        while True:
            told = self._programs.run("ceph", "tell", "osd.*", "status", "--format", "json").stdout
            late = late_osds(self._programs.ask("ceph", "osd", "dump"), told, epoch)
            if not late:
                return
            if self._runtime.monotonic() > end:
                names = ", ".join(f"osd.{number}" for number in late)
                raise StorageUnusable(f"{names} may not know yet who is cut off; see `ceph osd tree`, and try again")
            self._runtime.sleep(GLANCE)

    # making

    def _create(self, image: str, size: int) -> None:
        words = ("create", "--size", f"{size}B", *WITH_FEATURES, self._spec(image))
        self._rbd(words, image, new=image, tied=False)

    @contextmanager
    def _made(self, image: str) -> Iterator[str]:
        """An image that gets its name at the end of the block, or is gone."""
        names, now = self._names(), self._runtime.now()
        if image in names:
            raise ImageExists(f"there is a {image} already; choose another name")
        for part in earlier_parts(names, image):
            self._discard(part)
        for part in old_parts(names, image, now):
            self._sweep(part, now)
        part = part_of(image, now, self._runtime.new_id())
        try:
            yield part
            self._rbd(("rename", self._spec(part), self._spec(image)), part, new=image)
        except BaseException:
            self._discard(part)
            raise

    @contextmanager
    def _made_file(self, path: str) -> Iterator[str]:
        imagefiles.must_be_free(path)
        part = str(Path(path).with_name(part_of_file(Path(path).name, self._runtime.new_id().replace("-", ""))))
        imagefiles.make(part)
        try:
            yield part
            imagefiles.keep(part)
            imagefiles.move(part, path)
        finally:
            imagefiles.discard(part)

    def _discard(self, part: str) -> None:
        """Destroy an image of this task that was never whole, and with it the work of who is still at it elsewhere.

        A program that was ended counts as alive for half a minute, for which `rbd rm` would wait.
        """
        with suppress(StorageError):
            with suppress(NoSuchImage):  # or half removed
                for client in self.watchers(part):
                    self._programs.check("ceph", "osd", "blocklist", "add", client, str(FOR_NOW))
            self._destroy(part)

    def _sweep(self, part: str, now: float) -> None:
        """Remove what another task has begun to make, if a crash has left it. Who has it open keeps it."""
        with suppress(StorageError):  # which is no matter of the task at hand
            if self._is_left(part, now):
                self._destroy(part)

    def _is_left(self, part: str, now: float) -> bool:
        for _ in range(2):  # what is just being made has a name before it can be asked for
            try:
                watchers = self.watchers(part)
                return is_left(watchers, self._ask("info", part), now)
            except NoSuchImage:
                if part not in self._names():  # it has its own name by now
                    return False
        return True  # half removed

    def _remove_rest(self, image: str) -> None:
        """Go on where an `rbd rm` was killed. This is no refusal, whoever has it open: half of it is gone."""
        end = self._runtime.monotonic() + ALIVE
        while True:
            try:
                self._destroy(image)
                return
            except ImageInUse as error:
                if self._runtime.monotonic() > end:
                    raise StorageError(
                        f"{image} is half removed, and Ceph keeps the rest: {error}; ask again later"
                    ) from error
            self._runtime.sleep(GLANCE)

    def _destroy(self, image: str) -> None:
        self._rbd(("rm", "--no-progress", self._spec(image)), image, timeout=SLOW)

    # programs

    def _rbd(
        self, words: Sequence[str], what: str, *, new: str = "", timeout: float | None = None, tied: bool = True
    ) -> None:
        """Have something changed, and nothing more once this daemon is dead: the next attempt may begin at once.

        What is broken off halfway can be asked for again; see `_remove_rest`. What is `tied` takes a millisecond
        longer: not so what makes an image or a snapshot, which the next attempt knows by its date to be its own.
        """
        done = self._programs.run("rbd", *words, timeout=timeout, tied=tied)
        if done.code != 0:
            raise refusal(done.code, done.stderr, what, new)

    def _follow(self, words: Sequence[str], what: str, size: int, report: Report) -> None:
        done = follow(self._processes, self._programs.command("rbd", *words), size, report, UNASKED)
        if done.code != 0:
            raise refusal(done.code, done.stdout, what, "")

    def _convert(self, words: Sequence[str], what: str, size: int, report: Report) -> None:
        command = ("qemu-img", "convert", "-p", "-t", "writeback", *words)
        done = follow(self._processes, command, size, report, UNASKED)
        if done.code != 0:
            raise refusal_of_qemu(what, done.stdout)
        report(size, size)

    def _spec(self, image: str, snapshot: str | None = None) -> str:
        return f"{self._pool}/{_named(image, snapshot)}"

    def _qemu_name(self, image: str, snapshot: str | None = None) -> str:
        return qemu_name(self._pool, image, snapshot, self._settings.conf, self._settings.user)


def opener(processes: Processes, runtime: Runtime, settings: CephSettings) -> OpenBackend:
    """What makes the backends of pools on this node."""

    def open_backend(pool: Pool, /) -> RbdBackend:
        return RbdBackend(options_of(pool), processes, runtime, settings)

    return open_backend


def _named(image: str, snapshot: str | None) -> str:
    return image if snapshot is None else f"{image}@{snapshot}"
