"""The real routers where programs fail: whether their legs are down then, and whether that is known."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pvc.core.process import CommandFailed, Finished, Running
from pvc.core.threads import ThreadRuntime
from pvc.plugins.networking.gateway.netns import NamespaceRouters
from pvc.plugins.networking.gateway.routers import RouterError


class Machine:
    """`Processes` of a machine with two routers' ports and without nft."""

    def __init__(self) -> None:
        self.up = {"pvg-a": True, "pvg-b": True}
        self.fed: list[str] = []
        """What programs were given to do."""
        self.stuck: set[str] = set()
        """The ports that cannot be switched."""
        self.gone: set[str] = set()
        """The ports that go when they are to be switched."""
        self.hangs = False
        """`ip` does not come back when it is to switch ports."""

    def run(
        self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Finished:
        self.fed.append(stdin or "")
        if command[0] == "nft":
            return Finished(1, "", "out of memory")
        assert tuple(command) == ("ip", "-force", "-batch", "-") and stdin is not None
        if self.hangs:
            raise CommandFailed("ip -force -batch - did not end within 20 s")
        ports = [line.split()[2] for line in stdin.splitlines()]
        assert stdin == "".join(f"link set {port} down\n" for port in ports)
        for port in ports:
            self.up[port] = port in self.stuck
        self.up = {port: state for port, state in self.up.items() if port not in self.gone}
        return Finished(int(bool(self.stuck or self.gone)), "", "Command failed -:1")

    def check(self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None) -> str:
        if command[0] == "nft":
            raise CommandFailed("nft list ended with code 1: out of memory")
        assert tuple(command[:4]) == ("ip", "-json", "link", "show")
        return json.dumps([{"ifname": port, "flags": ["UP"] if state else []} for port, state in self.up.items()])

    def start(
        self, command: Sequence[str], *, output: Path, env: Mapping[str, str] | None = None, new_session: bool = True
    ) -> Running:
        raise AssertionError(command)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def routers(machine: Machine, tmp_path: Path) -> NamespaceRouters:
    """As a daemon has them that has just begun."""
    return NamespaceRouters(machine, ThreadRuntime(), tmp_path, outside=())


def test_routers_that_cannot_be_held_nor_switched_off_are_an_error_of_theirs(
    machine: Machine, routers: NamespaceRouters
) -> None:
    machine.hangs = True
    for ask in (routers.look, lambda: routers.hold(["a"], 1.0)):
        with pytest.raises(RouterError, match=r"their legs cannot be switched off: ip .* did not end within 20 s"):
            ask()


def test_whoever_only_glances_at_routers_that_nothing_would_silence_leaves_them_alone(
    machine: Machine, routers: NamespaceRouters
) -> None:
    with pytest.raises(RouterError, match="out of memory"):
        routers.glance()
    assert machine.up == {"pvg-a": True, "pvg-b": True} and machine.fed == []
    assert "its legs are switched off" in routers.look()["a"].problem
    assert machine.up == {"pvg-a": False, "pvg-b": False} and machine.fed


def test_legs_that_stay_up_though_they_were_switched_off_are_not_said_to_be_down(
    machine: Machine, routers: NamespaceRouters, caplog: pytest.LogCaptureFixture
) -> None:
    machine.stuck = {"pvg-b"}
    with pytest.raises(RouterError, match=r"nothing would silence the routers here, .*: pvg-b stay up: Command failed"):
        routers.hold(["a"], 1.0)
    assert machine.up == {"pvg-a": False, "pvg-b": True} and "so their legs are down" not in caplog.text


def test_a_leg_that_goes_while_all_are_switched_off_is_no_error(
    machine: Machine, routers: NamespaceRouters, caplog: pytest.LogCaptureFixture
) -> None:
    machine.gone = {"pvg-b"}
    with pytest.raises(RouterError, match="nft refuses: out of memory"):
        routers.hold(["a"], 1.0)
    assert machine.up == {"pvg-a": False} and "so their legs are down: pvg-a pvg-b" in caplog.text
