"""The same tests on the fake bridges and on the kernel's, in a network namespace of the test's own."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from pvc.core.process import SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.plugins.networking.bridges import BridgesUnreadable
from pvc.plugins.networking.sysfs import SysfsBridges
from pvc.testing.bridges import FakeBridges

LOOK = """
import json
from pvc.plugins.networking.sysfs import SysfsBridges
print(json.dumps(SysfsBridges().look()))
"""
RUN = SystemProcesses()


class Machine(Protocol):
    """A machine whose bridges a test changes."""

    def look(self) -> Mapping[str, bool]: ...
    def add(self, name: str) -> None: ...
    def switch(self, name: str, on: bool) -> None: ...
    def remove(self, name: str) -> None: ...


class Namespace:
    """The kernel's bridges in a network namespace."""

    def __init__(self) -> None:
        self._name = f"pvc-test-{ThreadRuntime().new_id()[:8]}"
        RUN.check(["ip", "netns", "add", self._name], timeout=30)

    def close(self) -> None:
        RUN.check(["ip", "netns", "del", self._name], timeout=30)

    def look(self) -> Mapping[str, bool]:
        # `ip netns exec` mounts /sys anew: it shows the devices of the namespace it was mounted in
        out = RUN.check(["ip", "netns", "exec", self._name, sys.executable, "-c", LOOK], timeout=30)
        seen: Mapping[str, bool] = json.loads(out)
        return seen

    def add(self, name: str) -> None:
        self._ip("add", "name", name, "type", "bridge")

    def switch(self, name: str, on: bool) -> None:
        self._ip("set", name, "up" if on else "down")

    def remove(self, name: str) -> None:
        self._ip("del", name)

    def add_dummy(self, name: str) -> None:
        """A device that is up and no bridge."""
        self._ip("add", "name", name, "type", "veth")
        self.switch(name, True)

    def _ip(self, *words: str) -> None:
        RUN.check(["ip", "-n", self._name, "link", *words], timeout=30)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.lab)])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    if request.param == "fake":
        yield FakeBridges()
        return
    namespace = Namespace()
    try:
        namespace.add_dummy("eth7")
        yield namespace
    finally:
        namespace.close()


def test_a_bridge_is_seen_down_up_down_and_gone(machine: Machine) -> None:
    assert machine.look() == {}
    machine.add("br1")
    machine.add("br0")
    assert machine.look() == {"br0": False, "br1": False}
    machine.switch("br1", True)  # nothing is plugged into it: it counts as up all the same
    assert machine.look() == {"br0": False, "br1": True}
    machine.switch("br1", False)
    machine.remove("br0")
    assert machine.look() == {"br1": False}


def device(directory: Path, name: str, flags: str, *, bridge: bool = True) -> None:
    (directory / name / ("bridge" if bridge else "statistics")).mkdir(parents=True)
    (directory / name / "flags").write_text(flags)


def test_the_door_reads_flags_and_passes_over_what_is_no_bridge(tmp_path: Path) -> None:
    device(tmp_path, "br0", "0x1003\n")
    device(tmp_path, "br1", "0x1002\n")
    device(tmp_path, "br2", "garbage\n")
    device(tmp_path, "eth0", "0x1003\n", bridge=False)
    (tmp_path / "bonding_masters").write_text("")
    assert SysfsBridges(tmp_path).look() == {"br0": True, "br1": False, "br2": False}


def test_a_machine_that_does_not_tell_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    fake = FakeBridges(["br0"])
    fake.unreadable = "is /sys mounted?"
    for bridges in (fake, SysfsBridges(tmp_path / "absent")):
        with pytest.raises(BridgesUnreadable, match=r"is /sys mounted\?"):
            bridges.look()
