"""The door to the files of images. Changes nothing that a program has open, replaces nothing, follows no link.

QEMU marks an image that it uses by locks on bytes 100 to 299 of the file (block/file-posix.c of QEMU). Whoever has all
of them for himself knows that no QEMU has the image open, on no node where the file system shares locks, and that none
can open it meanwhile.
"""

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pvc.core.storage import ImageExists, ImageInUse, NoSuchImage, StorageError, StorageUnusable
from pvc.plugins.storage.directory.decide.images import HEADER, SECTOR, is_part

MOUNTS = Path("/proc/self/mountinfo")
_FLOCK = "hhqqixxxx"
"""struct flock of fcntl(2): type, whence, start, length, process."""
_FIRST, _COUNT = 100, 200
_BUSY = (errno.EAGAIN, errno.EACCES)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_GONE = (errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN)


@contextmanager
def locked(path: str) -> Iterator[int]:
    """Keep every QEMU from a file as long as the block lasts; its descriptor. Raises NoSuchImage, ImageInUse."""
    with _told(path):
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with _told(path):
            _lock(handle, path)
        yield handle
    finally:
        os.close(handle)


def make(path: str) -> None:
    """Make an empty file that only its owner may read. Raises ImageExists."""
    with _told(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def cut(path: str, size: int) -> None:
    """Give a file `size` bytes; new ones take no room and are zero. Raises NoSuchImage, ImageInUse."""
    with locked(path) as handle, _told(path):
        os.ftruncate(handle, size)
        os.fsync(handle)


def keep(path: str) -> None:
    """See to it that a file survives a crash of the machine."""
    with _told(path):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def move(path: str, new: str) -> None:
    """Give a file of the same directory another name, which must be free. Raises NoSuchImage, ImageExists, ImageInUse.

    A move that a crash broke off, so that the file has both names, is brought to its end.
    """
    with locked(path), _told(new):
        try:
            os.link(path, new, follow_symlinks=False)
        except FileExistsError:  # which NFS says as well when the answer to the first attempt was lost
            if path == new or not _has_both_names(path, new):
                raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _replace_placeholder(path, new)
        with suppress(FileNotFoundError):
            Path(path).unlink()
        _keep_directory(new)


def remove(path: str) -> None:
    """Raises NoSuchImage, ImageInUse."""
    with locked(path), _told(path):
        Path(path).unlink()
        _keep_directory(path)


def discard(path: str) -> None:
    """Remove a file that was never whole, if it is there."""
    with suppress(OSError):
        Path(path).unlink()


def sweep(directory: str, before: float) -> None:
    """Remove files that were being made, that nobody has written to since `before` (seconds since the epoch) and that
    no program has open: what a crash left."""
    for entry in _entries(directory):
        with suppress(OSError, StorageError):
            if is_part(entry.name) and entry.stat(follow_symlinks=False).st_mtime < before:
                remove(entry.path)


def mounts() -> str:
    """What is mounted on this machine, as the kernel tells."""
    return MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")


def size_of(path: str) -> tuple[int, int]:
    """The bytes that a file has, and those that it takes. Raises NoSuchImage."""
    with _told(path):
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            raise StorageError(f"{path} is no file; put the image itself there")
        return found.st_size, found.st_blocks * 512


def part(path: str, begin: int, count: int) -> bytes:
    """So many bytes of a file from `begin` on; fewer at its end. Raises NoSuchImage."""
    with _told(path):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.pread(handle, count, begin)
        finally:
            os.close(handle)


def names(directory: str) -> list[str]:
    """The names of the files in a directory; links are none."""
    return [entry.name for entry in _entries(directory) if entry.is_file(follow_symlinks=False)]


def must_be_free(path: str) -> None:
    """Raises ImageExists if anything has that name."""
    with _told(path), suppress(FileNotFoundError):
        os.lstat(path)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def ends(path: str) -> tuple[bytes, bytes, int]:
    """The first bytes of a file or block device, links followed, its last sector, and its size. Raises StorageError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"{path} cannot be read on this node ({error.strerror}); name an image") from error
    with _told(path):
        try:
            kind = os.fstat(handle).st_mode
            if not stat.S_ISREG(kind) and not stat.S_ISBLK(kind):
                raise StorageError(f"{path} is neither a file nor a block device; name an image")
            size = os.lseek(handle, 0, os.SEEK_END)
            return os.pread(handle, HEADER, 0), os.pread(handle, SECTOR, max(0, size - SECTOR)), size
        finally:
            os.close(handle)


def _has_both_names(path: str, new: str) -> bool:
    """Not so where names that differ in case only are the same name: then there is but one to lose."""
    before = os.lstat(path)
    return before.st_nlink > 1 and os.path.samestat(before, os.lstat(new))


def _replace_placeholder(path: str, new: str) -> None:
    """Where there are no hard links: whoever makes the empty file has the name, and its crash here leaves that file,
    which nobody replaces: who has made it may only be late, and would put an old image over one in use."""
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        Path(path).rename(new)
    except OSError:
        discard(new)
        raise


def _lock(handle: int, path: str) -> None:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise StorageError(f"{path} is no file; put the image itself there")
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _FIRST, _COUNT, 0))
    except OSError as error:
        if error.errno in _BUSY:
            raise ImageInUse(f"{path} is open in a program, such as a VM's QEMU; stop the VM that uses it") from error
        raise StorageError(f"{path} cannot be locked ({error.strerror}); mount the directory with locks") from error


def _entries(directory: str) -> list["os.DirEntry[str]"]:
    with _told(directory), os.scandir(directory) as entries:
        return list(entries)


def _keep_directory(path: str) -> None:
    """A name, too, survives a crash only once its directory is written."""
    handle = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _told(path: str) -> Iterator[None]:
    """The system's errors in the words of the contract."""
    try:
        yield
    except FileNotFoundError as error:
        raise NoSuchImage(f"there is no {path}; look at what the pool holds") from error
    except FileExistsError as error:
        raise ImageExists(f"{path} exists already; choose another name") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StorageError(f"{path} is a symbolic link; put the image itself there") from error
        kind = StorageUnusable if error.errno in _GONE else StorageError
        raise kind(f"{path}: {error.strerror}; look at the mount and at the server that it comes from") from error
