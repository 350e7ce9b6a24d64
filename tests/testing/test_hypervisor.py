"""The faults of the simulated hypervisors, on simulated time. What they share with libvirt is in tests/contract."""

from collections.abc import Callable

import pytest

from pvc.plugins.hypervisor.host import (
    EndReason,
    GuestEvent,
    GuestState,
    HypervisorError,
    HypervisorGone,
    MigrationOptions,
)
from pvc.testing.hypervisor import FakeFabric
from pvc.testing.migration import MigrationPhase
from pvc.testing.runtime import SimProcess, World

VM = "6f3f8e0e-30a5-4d0e-9d25-3f9a0f9b1c01"
XML = f"<domain><name>vm1</name><uuid>{VM}</uuid><memory unit='MiB'>64</memory></domain>"
TO_HV2 = MigrationOptions("qemu+tcp://hv2/system")
BEFORE = (MigrationPhase.BEGIN, MigrationPhase.COPYING)
AFTER = (MigrationPhase.SWITCHED,)


class Scene:
    """Two hosts, a guest on the first, and a daemon there that can be killed."""

    def __init__(self) -> None:
        self.world = World()
        self.fabric = FakeFabric(self.world.process("fabric"))
        self.daemon: SimProcess = self.world.process("daemon")
        self.hv1, self.hv2 = self.fabric.host("hv1"), self.fabric.host("hv2")
        self.hv1.start(XML)
        self.raised: list[HypervisorError | None] = []

    def migrate(self, options: MigrationOptions = TO_HV2) -> None:
        def work() -> None:
            try:
                self.hv1.migrate(VM, options)
            except HypervisorError as error:
                self.raised.append(error)
            else:
                self.raised.append(None)

        self.daemon.spawn("migrate", work)

    def migrate_until(self, phase: MigrationPhase, options: MigrationOptions = TO_HV2) -> Callable[[], None]:
        """Migrate and stand still at a phase; calling what is returned lets it go on."""
        pause = self.fabric.pause_at(VM, phase)
        self.migrate(options)
        assert self.world.run_until(lambda: pause.reached)
        return pause.go_on

    def states(self) -> tuple[str | None, str | None]:
        """The guest's state on both hosts, whether or not their hypervisors answer."""
        found = [host.state_of(VM) for host in (self.hv1, self.hv2)]
        return found[0] and found[0].value, found[1] and found[1].value


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_migration_takes_its_time_and_changes_hosts_in_one_instant(scene: Scene) -> None:
    scene.migrate()
    scene.world.run_for(0.9)
    assert (scene.states(), scene.fabric.running(VM)) == (("running", "incoming"), ["hv1"])
    scene.world.run_for(0.12)
    assert (scene.states(), scene.fabric.running(VM)) == (("leaving", "running"), ["hv2"])
    scene.world.run_for(1.0)
    assert (scene.states(), scene.fabric.running(VM)) == ((None, "running"), ["hv2"])
    assert scene.raised == [None]
    assert scene.fabric.twice == []


@pytest.mark.parametrize("phase", MigrationPhase)
def test_a_migration_goes_on_when_its_daemon_is_killed(scene: Scene, phase: MigrationPhase) -> None:
    scene.fabric.call_at(VM, phase, scene.daemon.kill)
    scene.migrate()
    scene.world.run_for(10.0)
    assert scene.states() == (None, "running")
    assert scene.raised == []


@pytest.mark.parametrize("phase", BEFORE)
@pytest.mark.parametrize("victim", ["hv1", "hv2"])
def test_before_the_switch_a_dead_hypervisor_leaves_the_guest_on_the_source(
    scene: Scene, phase: MigrationPhase, victim: str
) -> None:
    scene.migrate_until(phase)
    scene.fabric.host(victim).down()
    scene.world.run_for(10.0)
    assert scene.states() == ("running", None)
    assert isinstance(scene.raised[0], HypervisorGone) == (victim == "hv1")


@pytest.mark.parametrize("victim", ["hv1", "hv2"])
def test_after_the_switch_a_dead_hypervisor_leaves_a_remnant_on_the_source(scene: Scene, victim: str) -> None:
    scene.migrate_until(MigrationPhase.SWITCHED)
    scene.fabric.host(victim).down()
    scene.world.run_for(10.0)
    assert scene.states() == ("leaving", "running")
    assert scene.raised[0] is not None
    scene.fabric.host(victim).up()
    assert scene.hv1.guests()[VM].moving is False
    scene.hv1.destroy(VM)
    assert scene.fabric.running(VM) == ["hv2"]


@pytest.mark.parametrize("phase", [*BEFORE, *AFTER])
def test_a_cut_network_ends_a_migration(scene: Scene, phase: MigrationPhase) -> None:
    scene.migrate_until(phase)
    scene.fabric.cut("hv1", "hv2")
    scene.world.run_for(10.0)
    assert scene.raised[0] is not None
    assert scene.fabric.running(VM) == (["hv1"] if phase in BEFORE else ["hv2"])
    if phase in BEFORE:
        scene.migrate()
        scene.world.run_for(10.0)
        scene.fabric.heal("hv1", "hv2")
        scene.migrate()
        scene.world.run_for(10.0)
        assert scene.fabric.running(VM) == ["hv2"]


@pytest.mark.parametrize(
    ("victim", "phase", "left"),
    [
        ("hv1", MigrationPhase.COPYING, []),
        ("hv2", MigrationPhase.COPYING, ["hv1"]),
        ("hv1", MigrationPhase.SWITCHED, ["hv2"]),
        ("hv2", MigrationPhase.SWITCHED, ["hv1"]),  # the source was not told that it runs there, and resumes it
    ],
)
def test_a_host_that_loses_power_takes_its_guests_along(
    scene: Scene, victim: str, phase: MigrationPhase, left: list[str]
) -> None:
    scene.migrate_until(phase)
    scene.fabric.host(victim).power_off()
    scene.world.run_for(10.0)
    assert scene.fabric.running(VM) == left
    scene.fabric.host(victim).power_on()
    assert scene.fabric.host(victim).guests() == {}


@pytest.mark.parametrize("what", [VM, "hv2"])
def test_planned_failures_happen_as_often_as_planned(scene: Scene, what: str) -> None:
    scene.fabric.fail_migration(what, "no", times=2)
    for _ in range(3):
        scene.migrate()
        scene.world.run_for(10.0)
    assert [error and str(error) for error in scene.raised] == ["no", "no", None]
    assert scene.fabric.running(VM) == ["hv2"]


def test_a_planned_failure_after_the_switch_leaves_the_guest_on_the_target(scene: Scene) -> None:
    scene.fabric.fail_migration(VM, "no", phase=MigrationPhase.CONFIRMED)
    scene.migrate()
    scene.world.run_for(10.0)
    assert (scene.states(), len(scene.raised)) == (("leaving", "running"), 1)


def test_a_guest_that_does_not_converge_needs_a_longer_pause(scene: Scene) -> None:
    scene.fabric.never_converges(VM, enough_downtime=1.0)
    scene.migrate()
    scene.world.run_for(600.0)
    progress = scene.hv1.progress(VM)
    assert progress is not None
    assert (progress.remaining, progress.elapsed) == (progress.total // 10, 600.0)
    scene.hv1.set_downtime(VM, 1.0)
    scene.world.run_for(1.0)
    assert scene.raised == [None]


def test_a_planned_start_failure_happens_once(scene: Scene) -> None:
    scene.fabric.fail_start(VM, "no")
    with pytest.raises(HypervisorError, match="no"):
        scene.hv2.start(XML)
    scene.hv2.start(XML)
    assert scene.fabric.twice  # nothing but the lease keeps two hosts from this


def test_a_guest_may_ignore_the_request_to_shut_down(scene: Scene) -> None:
    scene.fabric.ignores_shutdown(VM)
    scene.hv1.shutdown(VM)
    scene.world.run_for(60.0)
    assert scene.fabric.running(VM) == ["hv1"]
    scene.fabric.ignores_shutdown(VM, ignores=False)
    scene.hv1.shutdown(VM)
    scene.world.run_for(0.9)
    assert scene.states() == ("running", None)
    scene.world.run_for(0.12)
    assert scene.states() == ("shutting down", None)
    scene.world.run_for(1.0)
    assert scene.states() == (None, None)


def test_listeners_hear_nothing_while_there_is_no_connection(scene: Scene) -> None:
    told: list[GuestEvent | None] = []
    scene.hv1.guests()
    scene.hv1.listen(told.append)
    scene.hv1.down()
    scene.fabric.guest_powers_off(VM)
    assert told == [None]
    scene.hv1.up()
    assert told == [None]
    assert scene.hv1.guests() == {}
    assert told == [None, None]
    scene.hv1.start(XML)
    scene.fabric.guest_crashes(VM)
    assert told[2:] == [GuestEvent(VM, None), GuestEvent(VM, EndReason.CRASHED)]


def test_the_target_may_be_named_by_its_address_but_not_mixed_up(scene: Scene) -> None:
    scene.fabric.register_address("10.0.0.2", "hv2")
    scene.fabric.register_address("10.0.0.3", "hv3")
    scene.migrate(MigrationOptions("qemu+tcp://10.0.0.2/system", address="10.0.0.3"))
    scene.world.run_for(10.0)
    assert scene.fabric.running(VM) == ["hv1"]
    scene.migrate(MigrationOptions("qemu+tcp://10.0.0.2/system", address="10.0.0.2"))
    scene.world.run_for(10.0)
    assert scene.fabric.running(VM) == ["hv2"]


def test_calls_are_counted_and_most_migrations_at_once_remembered(scene: Scene) -> None:
    scene.hv1.start(XML.replace(VM, VM.replace("6f", "7f")).replace("vm1", "vm2"))
    scene.migrate()
    scene.daemon.spawn("other", lambda: scene.hv1.migrate(VM.replace("6f", "7f"), TO_HV2))
    scene.world.run_for(10.0)
    assert (scene.hv1.calls["migrate"], scene.hv1.calls["start"]) == (2, 2)
    assert scene.fabric.most_at_once == 2
    assert {guest.state for guest in scene.hv2.guests().values()} == {GuestState.RUNNING}
