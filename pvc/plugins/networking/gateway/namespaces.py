"""The door to named network namespaces: makes, enters and removes them. Nothing outside `/run/netns` is named."""

import ctypes
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pvc.core.process import CommandFailed, Processes
from pvc.plugins.networking.gateway.routers import RouterError

DIRECTORY = Path("/run/netns")
CLONE_NEWNET = 0x40000000
"""Of setns(2), which Python has from 3.12 on."""
PATIENCE = 20.0
"""Seconds for a program; the kernel has been seen to hold `ip` for four while it removed a large namespace."""
_libc = ctypes.CDLL(None, use_errno=True)


class Namespaces:
    """The network namespaces of one machine."""

    def __init__(self, processes: Processes, outside: Sequence[str] = ()) -> None:
        """`outside` runs a command where its mounts are seen by the whole machine, for who has mounts of his own."""
        self._processes = processes
        self._outside = tuple(outside)

    def names(self) -> frozenset[str]:
        """Those that there are. Raises RouterError."""
        try:
            return frozenset(path.name for path in DIRECTORY.iterdir())
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise RouterError(f"{DIRECTORY} cannot be read: {error.strerror}; pvcd needs root") from error

    def sound(self, name: str) -> bool:
        """Whether it is a namespace: a file without one is left behind if `ip` is killed while it makes it."""
        with suppress(OSError):
            return self.identity(name)[0] == Path("/proc/self/ns/net").stat().st_dev
        return False

    def identity(self, name: str) -> tuple[int, int]:
        """What a process in this namespace has too, and in no other. Raises OSError."""
        about = (DIRECTORY / name).stat()
        return about.st_dev, about.st_ino

    def add(self, name: str) -> None:
        """Make one. Raises RouterError."""
        if name in self.names():
            self.remove(name)
        self._ip("add", name)

    def remove(self, name: str) -> None:
        """Remove it, with everything in it. Raises RouterError."""
        self._ip("delete", name)

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """The calling thread is in it meanwhile, and so is every process that it starts. Raises RouterError."""
        with Path("/proc/thread-self/ns/net").open() as home:
            try:
                with (DIRECTORY / name).open() as there:
                    _enter(there.fileno())
            except OSError as error:
                raise RouterError(
                    f"network namespace {name} cannot be entered: {error.strerror}; look at `ip netns`"
                ) from error
            try:
                yield
            finally:
                _enter(home.fileno())

    def _ip(self, *words: str) -> None:
        try:
            self._processes.check([*self._outside, "ip", "netns", *words], timeout=PATIENCE, env={"LC_ALL": "C"})
        except CommandFailed as error:
            raise RouterError(f"{error}; it is in the package iproute2, and pvcd needs root") from error


def set_kernel(values: Mapping[str, str]) -> None:
    """Set what differs, by paths below /proc/sys/net, of the namespace that the thread is in. Raises RouterError.

    What this kernel does not have is left out: bridge-nf-call-* exist only with br_netfilter.
    """
    for path, value in values.items():
        file = Path("/proc/sys/net", path)
        try:
            if file.read_text().strip() != value:
                file.write_text(f"{value}\n")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RouterError(f"{file} cannot be set to {value}: {error.strerror}; pvcd needs root") from error


def packets() -> socket.socket:
    """To send whole frames by devices of the namespace that the thread is in. To close it takes up to 15 ms."""
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
