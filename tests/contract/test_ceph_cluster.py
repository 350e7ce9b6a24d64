"""The same tests on the fake Ceph and on a real small one: how it is, its flags, and what may be stopped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from pvc.core.process import SystemProcesses
from pvc.core.storage import StorageError, StorageUnusable
from pvc.core.threads import ThreadRuntime
from pvc.lab.ceph import MiniCeph
from pvc.plugins.storage.ceph.cluster import CephCluster, NoCeph, Survey
from pvc.plugins.storage.ceph.monitors import CephByPrograms
from pvc.plugins.storage.ceph.programs import CephPrograms
from pvc.plugins.storage.schema import CephSettings
from pvc.testing.ceph import FakeCeph

PATIENCE = 120.0
PAUSE = 0.2
"""Seconds between two looks: each costs the cluster something, too."""
RUNTIME = ThreadRuntime()


@dataclass
class Made:
    """A cluster with an OSD on each of hv1, hv2 and hv3, and three copies of all data."""

    cluster: CephCluster
    real: MiniCeph | None = None
    fake: FakeCeph | None = None

    def stop_osd(self, id: int) -> None:
        """End an OSD, as its service manager would."""
        if self.real:
            self.real.stop_daemon(f"osd.{id}")
        if self.fake:
            self.fake.change(id, up=False)

    def start_osd(self, id: int) -> None:
        """Start it again, and wait until all is well."""
        if self.real:
            self.real.start_daemon(f"osd.{id}")
            self.real.wait_healthy()
        if self.fake:
            self.fake.change(id, up=True)

    def survey_when(self, so: Callable[[Survey], bool]) -> Survey:
        """The survey, once it is so."""
        until = RUNTIME.monotonic() + PATIENCE
        while not so(survey := self.cluster.survey()):
            assert RUNTIME.monotonic() < until, survey
            RUNTIME.sleep(PAUSE)
        return survey

    def may_stop_when(self, ids: Sequence[int]) -> None:
        """Return once these OSDs may stop."""
        until = RUNTIME.monotonic() + PATIENCE
        while not (answer := self.cluster.ok_to_stop(ids)).safe:
            assert RUNTIME.monotonic() < until, answer
            RUNTIME.sleep(PAUSE)


def opened(mini: MiniCeph, deadline: float = 15.0) -> CephByPrograms:
    return CephByPrograms(CephPrograms(SystemProcesses(), CephSettings(conf=str(mini.conf), deadline=deadline)))


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.ceph)])
def made(request: pytest.FixtureRequest) -> Iterator[Made]:
    if request.param == "real":
        mini: MiniCeph = request.getfixturevalue("ceph")
        yield Made(opened(mini), real=mini)
        return
    fake = FakeCeph(RUNTIME)
    for host in ("hv1", "hv2", "hv3"):
        fake.add_osd(host, address="127.0.0.1")
    yield Made(fake.door("hv1"), fake=fake)


def test_a_cluster_that_is_well_tells_of_its_parts(made: Made) -> None:
    survey = made.survey_when(lambda survey: survey.health == "HEALTH_OK")
    assert survey.checks == ()
    assert [(osd.id, osd.host, osd.up, osd.inside) for osd in survey.osds] == [
        (0, "hv1", True, True),
        (1, "hv2", True, True),
        (2, "hv3", True, True),
    ]
    assert all(osd.kind == "hdd" and osd.weight > 0 and osd.addresses for osd in survey.osds)
    assert len({osd.uuid for osd in survey.osds}) == 3 and all(len(osd.uuid) == 36 for osd in survey.osds)
    assert len(survey.fsid) == 36
    assert survey.monitors == survey.quorum != ()
    assert survey.mgr and not survey.recovering
    assert 0 < survey.free <= survey.total
    assert "vms" in survey.pools.values()
    usage = made.cluster.usage()
    assert set(usage) == {0, 1, 2} and all(0 < use.used < use.size for use in usage.values())


def test_a_flag_is_set_and_unset_however_often(made: Made) -> None:
    for on in (True, True, False, False):
        made.cluster.set_flag("noout", on)
        assert ("noout" in made.cluster.survey().flags) is on


def test_one_host_may_be_stopped_and_two_not(made: Made) -> None:
    assert made.cluster.ok_to_stop([0]).safe
    both = made.cluster.ok_to_stop([0, 1])
    assert not both.safe and "unsafe to stop" in both.reason
    pools = made.cluster.survey().pools
    assert {pools[int(group.partition(".")[0])] for group in both.groups} >= {"vms"}


def test_an_osd_that_is_in_must_not_be_destroyed(made: Made) -> None:
    assert made.cluster.safe_to_destroy(0) == "osd.0 is still in use by placement groups"
    assert made.cluster.safe_to_destroy(77) == ""


def test_an_osd_goes_out_and_in_however_often(made: Made) -> None:
    for inside in (False, False, True, True):
        made.cluster.mark(1, inside)
        assert made.cluster.survey().osds[1].inside is inside
    made.survey_when(lambda survey: not survey.recovering and survey.health == "HEALTH_OK")


def test_an_osd_that_ends_is_down_and_told_of_and_its_purge_is_refused_while_it_is_up(made: Made) -> None:
    with pytest.raises(StorageError, match="osd purge"):
        made.cluster.purge(1)
    made.stop_osd(1)
    try:
        survey = made.survey_when(lambda survey: "OSD_DOWN" in [check.code for check in survey.checks])
        assert not survey.osds[1].up and survey.health == "HEALTH_WARN"
        assert not made.cluster.ok_to_stop([0, 1]).safe  # of osd.1 the manager may not have heard yet
        made.may_stop_when([1])  # once its placement groups have found together
    finally:
        made.start_osd(1)
    made.survey_when(lambda survey: survey.osds[1].up and survey.health == "HEALTH_OK")


def test_what_is_not_there_can_be_purged(made: Made) -> None:
    made.cluster.purge(77)


def test_a_machine_without_configuration_knows_of_no_ceph() -> None:
    for cluster in (
        CephByPrograms(CephPrograms(SystemProcesses(), CephSettings(conf="/nowhere/ceph.conf"))),
        FakeCeph(RUNTIME).door("hv1"),
    ):
        with pytest.raises(NoCeph, match="this machine has no"):
            cluster.survey()


@pytest.mark.ceph
def test_a_monitor_that_hangs_is_told_of_within_the_deadline(ceph: MiniCeph) -> None:
    cluster = opened(ceph, deadline=2.0)
    ceph.signal_daemon("mon.a", "STOP")
    try:
        with pytest.raises(StorageUnusable, match="Ceph"):
            cluster.survey()
    finally:
        ceph.signal_daemon("mon.a", "CONT")
    ceph.wait_healthy()


@pytest.mark.ceph
def test_a_flag_that_ceph_does_not_know_is_refused_with_its_words(ceph: MiniCeph) -> None:
    with pytest.raises(StorageError, match="ceph osd set nonsense: "):
        opened(ceph).set_flag("nonsense", True)
