"""What pvc brings for the tests of plugins: its fixtures, and a command line that keeps what commands say."""

import pytest

from pvc.core import keys
from pvc.core.commands import CommandLine, DuplicateCommand
from pvc.core.coordination import Create
from pvc.core.deadline import Overdue, within
from pvc.testing.commandline import Failed, FakeCommandLine
from pvc.testing.coordinator import FakeCoordinator
from pvc.testing.hypervisor import FakeFabric
from pvc.testing.pytest_plugin import MakeCluster
from pvc.testing.runtime import SimProcess, World


def test_clusters_are_made_with_plugins_and_settings(pvc_cluster: MakeCluster) -> None:
    one = pvc_cluster(1, config={"hypervisor": {"memory": 777}})
    two = pvc_cluster(["alpha", "beta"], plugins={"lamp": object})
    assert one.nodes["hv1"].config.section("hypervisor")["memory"] == 777
    assert (list(two.nodes), two.node("beta").plugins) == (["alpha", "beta"], ("flushlock", "lamp"))


def test_the_parts_share_one_simulated_time(
    pvc_world: World, pvc_runtime: SimProcess, pvc_coordinator: FakeCoordinator, pvc_fabric: FakeFabric
) -> None:
    pvc_world.run_for(7.0)
    assert pvc_runtime.monotonic() == 7.0
    pvc_coordinator.commit([Create(f"{keys.NODES}/hv1")])
    assert pvc_coordinator.children(keys.NODES) == ("hv1",)
    assert pvc_fabric.host("hv1") is not None


def test_a_test_that_waits_for_a_signal_lets_time_pass(pvc_world: World, pvc_runtime: SimProcess) -> None:
    signal = pvc_runtime.signal()

    def later() -> None:
        pvc_runtime.sleep(3.0)
        signal.set()

    pvc_runtime.spawn("later", later)
    assert signal.wait(10.0)
    assert pvc_world.time == 3.0
    assert not signal.wait(10.0)
    assert pvc_world.time == 13.0


def test_a_call_is_waited_for_only_so_long_and_told_of_when_it_returns(
    pvc_world: World, pvc_runtime: SimProcess
) -> None:
    told: list[str] = []

    def work() -> int:
        pvc_runtime.sleep(20.0)
        return 7

    def call(seconds: float) -> int:
        return within(pvc_runtime, seconds, "it", work, lambda: told.append("up"), lambda: told.append("late"))

    assert call(30.0) == 7
    with pytest.raises(Overdue, match="it has not returned within 10 s"):
        call(10.0)
    assert told == ["up"]
    pvc_world.run_for(30.0)
    assert told == ["up", "late"]


def test_commands_are_run_as_functions_and_what_they_say_is_kept(
    pvc_coordinator: FakeCoordinator, pvc_runtime: SimProcess
) -> None:
    cli = FakeCommandLine(pvc_coordinator, pvc_runtime)
    add_commands(cli)
    cli.run("lamp show", node="hv1")
    assert (cli.rows, cli.said) == ([{"node": "hv1"}], ["done"])
    with pytest.raises(Failed, match="no such lamp") as failed:
        cli.run("lamp show", node="")
    assert failed.value.code == 3
    with pytest.raises(DuplicateCommand):
        add_commands(cli)


def test_a_command_that_is_left_for_later_is_made_when_it_is_run(
    pvc_coordinator: FakeCoordinator, pvc_runtime: SimProcess
) -> None:
    cli = FakeCommandLine(pvc_coordinator, pvc_runtime)
    group = cli.group("lamp")

    def add() -> None:
        group.command("light")(lambda: cli.say("it is lit"))

    group.later(("light",), add)
    assert cli.commands == {}
    with pytest.raises(DuplicateCommand):
        group.later(("light",), lambda: None)
    cli.run("lamp light")
    cli.run("lamp light")
    assert cli.said == ["it is lit", "it is lit"]


def add_commands(cli: CommandLine) -> None:
    @cli.group("lamp", help="Lamps.").command("show", listing=True)
    def show(node: str = "") -> None:
        if not node:
            cli.fail("no such lamp", 3)
        cli.show([{"node": node}], ["node"])
        cli.say("done")
