"""What the contract tests of `Hypervisor` run on: two fake hosts and two real libvirts behind the same few verbs."""

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

import pytest

from pvc.core.storage import HypervisorSecret
from pvc.core.threads import ThreadRuntime
from pvc.lab.cluster import Lab, missing_tools
from pvc.lab.deadline import wait_until
from pvc.lab.shape import Shape
from pvc.lab.vm import vm_id
from pvc.plugins.hypervisor.host import Hypervisor, MigrationOptions, NoSuchGuest
from pvc.plugins.hypervisor.secretxml import element
from pvc.testing.hypervisor import FakeFabric
from pvc.testing.migration import MigrationPhase
from tests.contract.clusters import PATIENCE

BUSY_BANDWIDTH = 20
"""MiB/s at which a busy guest is copied: it dirties its memory about four times as fast."""


IMAGE_SIZE = 16 << 20
"""Bytes of a new image."""

BUSY_SECONDS = 1.0
"""How long the fake copies a busy guest, in post-copy too."""


class HostPair(Protocol):
    """Two hosts between which guests migrate. Guests are told apart by the names the tests give them."""

    @property
    def here(self) -> Hypervisor: ...

    @property
    def there(self) -> Hypervisor: ...

    @property
    def here_uri(self) -> str: ...

    @property
    def there_uri(self) -> str: ...

    @property
    def nowhere_uri(self) -> str: ...

    @property
    def there_address(self) -> str: ...

    def uuid(self, name: str) -> str: ...

    def definition(self, name: str, *, busy: bool = False, powers_off: bool = False, clings: bool = False) -> str:
        """A guest that idles; `busy`: its migration never converges; `powers_off`: as `let_power_off` says; `clings`:
        it never lets go of a device."""

    def wait_until_busy(self, name: str) -> None:
        """Return once a guest here that was defined as busy changes its memory: until then its migration converges."""

    def lingering(self, name: str) -> AbstractContextManager[None]:
        """As long as the block lasts a migration of that guest is not over once it has switched, if that can be had."""

    def let_power_off(self, name: str) -> None:
        """Have a guest defined with `powers_off` power itself off soon."""

    def crash(self, name: str) -> None:
        """The guest's emulator dies."""

    def start_behind_our_back(self, name: str) -> None:
        """Somebody else starts a guest here."""

    def image(self, name: str, format: str = "qcow2") -> str:
        """The path of a new disk image of 16 MiB, empty, for guests here."""

    def grow(self, path: str, size: int) -> None:
        """A raw image gets that many bytes behind the back of the guest that has it."""

    def seen_size(self, name: str, target: str) -> int:
        """The bytes that a guest here sees of its disk."""

    def hold_secret(self, uuid: str, name: str) -> None:
        """Somebody else defines a secret of that name for Ceph here."""

    def kill_here(self) -> None:
        """The hypervisor's daemon here dies."""

    def revive_here(self) -> None:
        """It is started again."""

    def close(self) -> None:
        """End all guests and connections."""


def options(pair: HostPair, *, busy: bool = False, post_copy: bool = False) -> MigrationOptions:
    """How the tests migrate from here to there."""
    bandwidth = BUSY_BANDWIDTH if busy else None
    return MigrationOptions(pair.there_uri, pair.there_address, bandwidth=bandwidth, post_copy=post_copy)


class FakePair:
    here_uri, there_uri, nowhere_uri = "qemu+tcp://hv1/system", "qemu+tcp://hv2/system", "qemu+tcp://hv9/system"
    there_address = "10.0.0.2"

    def __init__(self) -> None:
        self._fabric = FakeFabric(ThreadRuntime(), copy_seconds=0.05, shutdown_seconds=0.05, moment=0.01)
        self._fabric.register_address(self.there_address, "hv2")
        self.here = self._fabric.host("hv1")
        self.there = self._fabric.host("hv2")

    def uuid(self, name: str) -> str:
        return vm_id("fake", name)

    def definition(self, name: str, *, busy: bool = False, powers_off: bool = False, clings: bool = False) -> str:
        if busy:
            self._fabric.copy_seconds = BUSY_SECONDS
            self._fabric.never_converges(self.uuid(name))
        if clings:
            self._fabric.keeps_devices(self.uuid(name))
        return f"<domain type='qemu'><name>{name}</name><uuid>{self.uuid(name)}</uuid></domain>"

    def wait_until_busy(self, name: str) -> None:
        pass  # it is from the start

    @contextmanager
    def lingering(self, name: str) -> Iterator[None]:
        pause = self._fabric.pause_at(self.uuid(name), MigrationPhase.SWITCHED)
        try:
            yield
        finally:
            pause.go_on()

    def let_power_off(self, name: str) -> None:
        self._fabric.guest_powers_off(self.uuid(name))

    def crash(self, name: str) -> None:
        self._fabric.guest_crashes(self.uuid(name))

    def start_behind_our_back(self, name: str) -> None:
        self.here.start(self.definition(name))

    def image(self, name: str, format: str = "qcow2") -> str:
        return f"/srv/{name}.{format}"

    def grow(self, path: str, size: int) -> None:
        pass  # the fake looks at no image

    def seen_size(self, name: str, target: str) -> int:
        return self.here.guest(self.uuid(name)).disk_sizes.get(target, IMAGE_SIZE)

    def hold_secret(self, uuid: str, name: str) -> None:
        self._fabric.host("hv1").known_secrets[uuid] = HypervisorSecret(uuid, "ceph", name, b"theirs")

    def kill_here(self) -> None:
        self.here.down()

    def revive_here(self) -> None:
        self.here.up()

    def close(self) -> None:
        for host in (self.here, self.there):
            host.close()
            host.power_off()


class LibvirtPair:
    here_uri, there_uri = "qemu+tcp://hv1/system", "qemu+tcp://hv2/system"
    nowhere_uri = "qemu+tcp://hv2:1/system"
    """A port at which nobody listens."""

    def __init__(self, lab: Lab) -> None:
        from pvc.plugins.hypervisor.libvirt import LibvirtHypervisor

        self._lab = lab
        self.there_address = lab.shape.host("hv2").address
        runtime, log = ThreadRuntime(), logging.getLogger("tests.contract.libvirt")
        self.here = LibvirtHypervisor(lab.libvirt_uri("hv1"), runtime, log)
        self.there = LibvirtHypervisor(lab.libvirt_uri("hv2"), runtime, log)

    def uuid(self, name: str) -> str:
        return vm_id(self._lab.name, name)

    def definition(self, name: str, *, busy: bool = False, powers_off: bool = False, clings: bool = False) -> str:
        return self._written(name, busy, powers_off).read_text()  # the tiny kernel hears of no device that is to go

    def wait_until_busy(self, name: str) -> None:
        """It says a line when it has filled its memory, just before it begins to change it."""
        log = self._lab.console_directory("hv1") / _log_file(name)

        def missing() -> str | None:
            return None if f"\n{name} 000001 " in log.read_text() else f"{name} is not busy"

        wait_until(ThreadRuntime(), PATIENCE, missing, log=log)

    def lingering(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()  # as long as its bandwidth says

    def let_power_off(self, name: str) -> None:
        pass  # it does so by itself

    def crash(self, name: str) -> None:
        self._lab.kill("qemu", name)

    def start_behind_our_back(self, name: str) -> None:
        done = self._lab.run(["virsh", "create", str(self._written(name))], "hv1")
        assert done.code == 0, done.stderr

    def image(self, name: str, format: str = "qcow2") -> str:
        path = self._lab.state.path / f"{name}.{format}"
        done = self._lab.run(["qemu-img", "create", "-q", "-f", format, str(path), str(IMAGE_SIZE)], "hv1")
        assert done.code == 0, done.stderr
        return str(path)

    def grow(self, path: str, size: int) -> None:
        os.truncate(path, size)

    def seen_size(self, name: str, target: str) -> int:
        """What QEMU offers the guest: of an image that it has open it knows no other size."""
        done = self._lab.run(["virsh", "domblkinfo", name, target], "hv1")
        assert done.code == 0, done.stderr
        (size,) = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("Capacity:")]
        return int(size)

    def hold_secret(self, uuid: str, name: str) -> None:
        xml = element(HypervisorSecret(uuid, "ceph", name, b""))
        path = self._lab.state.path / "secret.xml"
        path.write_text(xml)
        done = self._lab.run(["virsh", "secret-define", str(path)], "hv1")
        assert done.code == 0, done.stderr

    def kill_here(self) -> None:
        self._lab.kill("libvirtd", "hv1", signal.SIGKILL)

    def revive_here(self) -> None:
        self._lab.start("libvirtd", "hv1")

    def close(self) -> None:
        self._lab.up()
        for hypervisor in (self.here, self.there):
            for uuid in hypervisor.guests():
                with suppress(NoSuchGuest):  # it was on its way out
                    hypervisor.destroy(uuid)
            hypervisor.close()

    def _written(self, name: str, busy: bool = False, powers_off: bool = False) -> Path:
        arguments = "rate=0" + (" fill=40 burst=1 dirty=20000" if busy else "") + (" stop=1" if powers_off else "")
        path = self._lab.write_vm(name, arguments=arguments, memory=64 if busy else None)
        log = f"<serial type='pty'><log file='/var/log/libvirt/{_log_file(name)}' append='off'/>"
        path.write_text(path.read_text().replace("<serial type='pty'>", log))
        return path


def _log_file(name: str) -> str:
    """What a guest's console says, in its host's directory of logs."""
    return f"{name}.log"


@pytest.fixture(scope="session")
def hypervisor_lab() -> Iterator[Lab]:
    """Two real libvirts in network namespaces."""
    if os.geteuid() != 0:
        pytest.skip("a lab needs root")
    if missing := missing_tools():
        pytest.skip(f"a lab needs {', '.join(missing)}")
    pytest.importorskip("libvirt")
    directory = Path(tempfile.mkdtemp(prefix="pvc-lab-", dir="/tmp"))  # short, because sockets lie below it
    lab = Lab("hosts", Shape(nodes=2, vms=0, bare=True), directory=directory)
    try:
        lab.up()
        yield lab
    finally:
        lab.down()
        shutil.rmtree(directory)


@pytest.fixture(params=["fake", pytest.param("libvirt", marks=pytest.mark.libvirt)])
def pair(request: pytest.FixtureRequest) -> Iterator[HostPair]:
    made: HostPair
    made = FakePair() if request.param == "fake" else LibvirtPair(request.getfixturevalue("hypervisor_lab"))
    yield made
    made.close()
