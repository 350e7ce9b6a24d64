"""The backend of a directory that all nodes share. Each call first looks whether the directory is what it should be:
below a mount point without its mount there is another one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import quoteattr

from pvc.core.process import Processes
from pvc.core.runtime import Runtime
from pvc.core.storage import (
    DamagedImage,
    Disk,
    Feature,
    HypervisorSecret,
    Image,
    ImageExists,
    NoSuchImage,
    OpenBackend,
    Pool,
    Report,
    Room,
    StorageError,
    StorageUnusable,
    Unsupported,
)
from pvc.plugins.storage.directories import Directories, DirectoryUnusable
from pvc.plugins.storage.directory import imagefiles
from pvc.plugins.storage.directory.decide.images import (
    HEADER,
    SECTOR,
    Header,
    ImageSnapshot,
    Source,
    file_of,
    header_of,
    image_of,
    part_of,
    snapshots_of,
    why_no_copy,
)
from pvc.plugins.storage.directory.decide.mounts import mount_of
from pvc.plugins.storage.directory.decide.options import FORMATS, Options, options_of
from pvc.plugins.storage.directory.foreign import look_at
from pvc.plugins.storage.directory.qemuimg import QemuImg

KIND = "directory"
"""What pools call it by."""
MEBIBYTE = 1 << 20
_ALONE = (
    "{path} is mounted with {option}, so that no node sees another's locks on images, and one can be opened twice;"
    " mount it without that"
)
TABLE = 1 << 16
"""Bytes that the table of an image's snapshots seldom exceeds."""
LONGEST_TABLE = 1 << 26
"""As QEMU has it (block/qcow2.h)."""
STALE = 86400.0
"""Seconds after which a half file that nobody writes to is what a crash left."""


class DirectoryBackend:
    """One pool of files on one node."""

    def __init__(self, options: Options, processes: Processes, runtime: Runtime, directories: Directories) -> None:
        self._options = options
        self._qemu_img = QemuImg(processes)
        self._runtime = runtime
        self._directories = directories

    @property
    def features(self) -> frozenset[Feature]:
        return frozenset({Feature.SNAPSHOTS} if self._options.format == "qcow2" else ())

    def look(self) -> Room:
        path = self._options.path
        try:
            look = self._directories.look(path)
        except DirectoryUnusable as why:
            raise StorageUnusable(f"{path} {why}; look at the mount and at the server that it comes from") from why
        if self._options.mount and not look.mounted:
            raise StorageUnusable(f"nothing is mounted at {path}; mount it, or make the pool with mount=false")
        mount = mount_of(imagefiles.mounts(), path)
        if mount.read_only:
            raise StorageUnusable(f"{path} is mounted read-only; see the kernel's log for why, and mount it again")
        warning = _ALONE.format(option=mount.keeps_locks, path=path) if mount.keeps_locks else ""
        return Room(look.total * MEBIBYTE, look.free * MEBIBYTE, warning)

    def images(self) -> Sequence[str]:
        self.look()
        found = (image_of(name, self._options.format) for name in imagefiles.names(self._options.path))
        return sorted(name for name in found if name is not None)

    def inspect(self, image: str) -> Image:
        path = self._existing(image)
        size, used = imagefiles.size_of(path)
        if self._options.format == "raw":
            if size == 0:  # the name alone, which a crash has left where there are no hard links
                raise DamagedImage(f"{path} is empty, and so no image; remove the volume")
            return Image(size, "raw", used)
        header = _header(path)
        return Image(header.size, "qcow2", used, tuple(_snapshots(path, header)))

    def create(self, image: str, size: int) -> None:
        _must_be_whole(size)
        with self._new(image) as part:
            if self._options.format == "qcow2":
                self._qemu_img.create(part, size)
            else:
                imagefiles.cut(part, size)

    def remove(self, image: str) -> None:
        imagefiles.remove(self._existing(image))

    def resize(self, image: str, size: int) -> None:
        _must_be_whole(size)
        self._give_size(self._existing(image), self._options.format, size)

    def rename(self, image: str, new: str) -> None:
        imagefiles.move(self._existing(image), self._path(new))

    def clone(self, image: str, snapshot: str | None, new: str, report: Report) -> None:
        source = self._source(image, snapshot)
        with self._new(new) as part:
            imagefiles.sweep(self._options.path, self._runtime.now() - STALE)
            self._copy(source, part, self._options.format, report)

    def load(self, path: str, image: str, report: Report) -> None:
        self.look()
        found = look_at(path, self._qemu_img)
        with self._new(image) as part:
            imagefiles.sweep(self._options.path, self._runtime.now() - STALE)
            self._copy(Source(path, found.format, found.size), part, self._options.format, report)

    def save(self, image: str, snapshot: str | None, path: str, format: str, report: Report) -> None:
        source = self._source(image, snapshot)
        _must_be_absolute(path)
        if not Path(path).parent.is_dir():
            raise StorageError(f"there is no directory {Path(path).parent} on this node; make it")
        if format not in FORMATS:
            raise StorageError(f"an image cannot be saved as {format!r}; choose {' or '.join(FORMATS)}")
        with self._made(path) as part:
            self._copy(source, part, format, report)

    def add_snapshot(self, image: str, snapshot: str) -> None:
        path = self._with_snapshots(image)
        if snapshot in _snapshots(path, _header(path)):
            raise ImageExists(f"{image} has a snapshot {snapshot} already; choose another name")
        self._qemu_img.add_snapshot(path, snapshot)
        imagefiles.keep(path)

    def remove_snapshot(self, image: str, snapshot: str) -> None:
        path = self._with_snapshots(image)
        self._snapshot(path, snapshot)
        self._qemu_img.remove_snapshot(path, snapshot)
        imagefiles.keep(path)

    def protect_snapshot(self, image: str, snapshot: str, on: bool) -> None:
        """A file protects nothing: the record of the volume does."""
        self._snapshot(self._with_snapshots(image), snapshot)

    def roll_back(self, image: str, snapshot: str, report: Report) -> None:
        path = self._with_snapshots(image)
        id = self._snapshot(path, snapshot).number
        size = imagefiles.size_of(path)[0]
        report(0, size)  # the last moment to stop: half a roll-back is no image
        self._qemu_img.apply_snapshot(path, id)
        imagefiles.keep(path)

    def disk(self, image: str, format: str) -> Disk:
        """Past the page cache: what a VM was told is written must be seen by the host that it moves to."""
        source = f"<source file={quoteattr(self._path(image))}/>"
        return Disk("file", format, source, {"cache": "none", "discard": "unmap"})

    def secret(self) -> HypervisorSecret | None:
        return None

    def addresses(self) -> Sequence[str]:
        return ()

    def writers(self, image: str) -> Sequence[str] | None:
        return None

    def cut_off(self, addresses: Sequence[str]) -> None:
        raise Unsupported(
            "a shared directory cannot cut a machine off: only QEMU's lock on each image protects it, as long as the"
            " machine lives; see to it that the machine is off"
        )

    def readmit(self, addresses: Sequence[str]) -> None:
        """Nobody ever was cut off."""

    def _path(self, image: str) -> str:
        return f"{self._options.path}/{file_of(image, self._options.format)}"

    def _existing(self, image: str) -> str:
        """The file of an image, which is no link."""
        self.look()
        path = self._path(image)
        imagefiles.size_of(path)
        return path

    def _source(self, image: str, snapshot: str | None) -> Source:
        """What is to be copied. Raises NoSuchImage, and Unsupported for what cannot be copied whole."""
        if snapshot is None:
            return Source(self._path(image), self._options.format, self.inspect(image).size)
        path = self._with_snapshots(image)
        found, now = self._snapshot(path, snapshot), _header(path).size
        size = now if found.size is None else found.size
        if why := why_no_copy(snapshot, size, now):
            raise Unsupported(f"{image} {why}")
        return Source(path, self._options.format, size, snapshot, grown=size < now)

    def _copy(self, source: Source, part: str, format: str, report: Report) -> None:
        self._qemu_img.convert(source, part, format, report)
        if source.grown:  # what lies beyond are zeros: a snapshot reads so behind its end
            self._give_size(part, format, source.size)
        report(source.size, source.size)

    def _give_size(self, path: str, format: str, size: int) -> None:
        if format == "raw":
            imagefiles.cut(path, size)
        else:
            self._qemu_img.resize(path, size)
            imagefiles.keep(path)

    def _with_snapshots(self, image: str) -> str:
        if Feature.SNAPSHOTS not in self.features:
            raise Unsupported("a raw file has no snapshots; clone the volume, or use a pool with format=qcow2")
        return self._existing(image)

    def _snapshot(self, path: str, snapshot: str) -> ImageSnapshot:
        """Raises NoSuchImage."""
        found = _snapshots(path, _header(path))
        if snapshot not in found:
            raise NoSuchImage(f"{path} has no snapshot {snapshot}; look at which it has")
        return found[snapshot]

    @contextmanager
    def _new(self, image: str) -> Iterator[str]:
        """A file to make an image in; at the end of the block it gets its name, or is gone."""
        path = self._path(image)
        self.look()
        with self._made(path) as part:
            yield part

    @contextmanager
    def _made(self, path: str) -> Iterator[str]:
        imagefiles.must_be_free(path)
        part = str(Path(path).with_name(part_of(Path(path).name, self._runtime.new_id().replace("-", ""))))
        imagefiles.make(part)
        try:
            yield part
            imagefiles.keep(part)
            imagefiles.move(part, path)
        finally:
            imagefiles.discard(part)


def opener(processes: Processes, runtime: Runtime, directories: Directories) -> OpenBackend:
    """What makes the backends of pools on this node."""

    def open_backend(pool: Pool, /) -> DirectoryBackend:
        return DirectoryBackend(options_of(pool), processes, runtime, directories)

    return open_backend


def _header(path: str) -> Header:
    """Read from the file itself: starting `qemu-img info` takes as long as changing an image."""
    header = header_of(imagefiles.part(path, 0, HEADER))
    if header is None:
        raise DamagedImage(f"{path} is no qcow2 image; look at it with qemu-img info, or remove the volume")
    return header


def _snapshots(path: str, header: Header) -> Mapping[str, ImageSnapshot]:
    """An image's snapshots by their names. `qemu-img snapshot -a` takes what it is given for a number
    first and for a name second: a snapshot named 2 is another one than the second."""
    length = TABLE
    while header.snapshots:
        table = imagefiles.part(path, header.table, length)
        if (found := snapshots_of(table, header.snapshots)) is not None:
            return found
        if len(table) < length or length > LONGEST_TABLE:
            raise DamagedImage(
                f"the table of snapshots in {path} is cut off; look at it with qemu-img check, or remove the volume"
            )
        length *= 8
    return {}


def _must_be_whole(size: int) -> None:
    if size <= 0 or size % SECTOR:
        raise StorageError(f"an image cannot have {size} bytes; give it a multiple of {SECTOR}")


def _must_be_absolute(path: str) -> None:
    if not path.startswith("/"):
        raise StorageError(f"{path} is no whole path; begin it with /")
