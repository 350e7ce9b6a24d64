"""What Ceph's answers mean, of what an OSD may be made, whose one is, and what fits into a fact."""

from dataclasses import replace

import pytest

from pvc.core.shapes import LONGEST_FACT
from pvc.core.storage import StorageError
from pvc.plugins.storage.ceph.cluster import Osd, Stoppable, Survey
from pvc.plugins.storage.ceph.decide.devices import why_failed, why_not_device
from pvc.plugins.storage.ceph.decide.health import owner, why_not_stop
from pvc.plugins.storage.ceph.decide.removal import STALL, Drain, Next, next_of
from pvc.plugins.storage.ceph.decide.survey import survey_of, why_not_destroy
from pvc.plugins.storage.ceph.osdhost import Device, LocalOsd
from pvc.plugins.storage.ceph.published import CephState, OsdState, published

FREE = Device("/dev/sdb", block=True, size=1 << 40)
NODES = {"hv1": "10.0.0.1", "hv2": "10.0.0.2"}


@pytest.mark.parametrize(
    ("device", "why"),
    [
        (FREE, ""),
        (replace(FREE, block=False), "is no block device"),
        (replace(FREE, mounts=("[SWAP]",)), "mounted at [SWAP]"),
        (replace(FREE, parts=("/dev/sdb1",)), "has partitions: /dev/sdb1"),
        (replace(FREE, holders=("dm-0",), parts=("/dev/mapper/x",)), "in use by dm-0 (LVM"),
        (replace(FREE, signatures=("ext4",)), "holds data (ext4)"),
        (replace(FREE, signatures=("ceph_bluestore",)), "holds an OSD of some cluster"),
        (replace(FREE, osds=(LocalOsd(7, "u", "f"),), signatures=("ceph_bluestore",)), "holds osd.7 already"),
        (replace(FREE, read_only=True), "is read-only"),
        (replace(FREE, size=1 << 20), "has 1 MiB"),
    ],
)
def test_an_osd_is_made_only_of_a_device_that_holds_nothing(device: Device, why: str) -> None:
    assert (why in why_not_device(device)) if why else why_not_device(device) == ""


def test_of_what_ceph_volume_says_the_first_complaint_is_told() -> None:
    said = "Running command: /usr/bin/x\n stderr: what(): Permission denied [/run]\n stderr: 1: main()\n"
    undone = "--> Was unable to complete a new OSD, will rollback changes\n-->  RuntimeError: Unable to find any LV\n"
    assert why_failed(said + undone) == "what(): Permission denied [/run]"
    assert why_failed("one\ntwo\n\n") == "two"
    assert why_failed("") == ""


@pytest.mark.parametrize(
    ("host", "addresses", "node"),
    [
        ("hv1", (), "hv1"),
        ("HV1.example.org", ("10.0.0.2",), "hv1"),
        ("rack7", ("10.0.0.2",), "hv2"),
        ("rack7", ("10.0.0.3",), ""),
        ("", (), ""),
    ],
)
def test_an_osd_is_its_hosts_or_else_that_of_its_address(host: str, addresses: tuple[str, ...], node: str) -> None:
    assert owner(Osd(1, host, True, True, addresses=addresses), NODES) == node


def test_a_refusal_names_pools_and_groups_and_no_more_than_a_few() -> None:
    answer = Stoppable(False, "no", tuple(f"{pool}.{number}" for number in range(4) for pool in (1, 2)))
    why = why_not_stop(answer, {1: "vms"}, [3, 4])
    assert why.startswith("without osd.3, osd.4 too few copies")
    assert "1.0, 2.0, 1.1, 2.1, 1.2 and 3 more of pool vms, pool pool 2" in why
    assert why_not_stop(Stoppable(True), {}, [1]) == ""
    assert why_not_stop(answer, {}, [3], [1, 2]).startswith(
        "without osd.3, and osd.1, osd.2 of nodes that are flushed or being flushed, too few copies"
    )


@pytest.mark.parametrize(
    ("osd", "why_not", "step"),
    [
        (Osd(1, "a", True, True), "", Next.MARK_OUT),
        (Osd(1, "a", True, False), "in use", Next.DRAIN),
        (Osd(1, "a", False, False), "in use", Next.DRAIN),
        (Osd(1, "a", True, False), "", Next.STOP),
        (Osd(1, "a", False, False), "", Next.PURGE),
        (None, "", Next.WIPE),
    ],
)
def test_the_next_step_of_a_removal_follows_from_where_it_stands(osd: Osd | None, why_not: str, step: Next) -> None:
    assert next_of(osd, why_not) is step


def test_a_drain_that_goes_on_never_stalls_and_one_that_does_not_does() -> None:
    drain = Drain(0, -1, 0.0).after(Survey(misplaced=100), 10.0)
    assert drain.done == (0, 100) and not drain.stalled(10 + STALL - 1)
    drain = drain.after(Survey(misplaced=40), 100.0)
    assert drain.done == (60, 100)
    assert drain.after(Survey(misplaced=40), 100 + STALL).stalled(100 + STALL)
    assert not drain.after(Survey(misplaced=40, rate=1), 100 + STALL).stalled(100 + STALL)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"safe_to_destroy": [3], "active": [], "missing_stats": [], "stored_pgs": []}, ""),
        ({"safe_to_destroy": [], "active": [3], "missing_stats": [], "stored_pgs": []}, "is still in use"),
        ({"safe_to_destroy": [], "active": [], "missing_stats": [3], "stored_pgs": []}, "has not told"),
        ({"safe_to_destroy": [], "active": [], "missing_stats": [], "stored_pgs": [{"osd": 3}]}, "still holds"),
    ],
)
def test_why_an_osd_must_not_be_destroyed(answer: dict[str, object], why: str) -> None:
    assert (why in why_not_destroy(answer, 3)) if why else why_not_destroy(answer, 3) == ""


def test_an_answer_that_is_missing_or_strange_is_an_error_in_words() -> None:
    with pytest.raises(StorageError, match="pgmap is missing"):
        survey_of([])
    with pytest.raises(StorageError, match="lacks 'health'"):
        survey_of([{"pgmap": {}}, {"mons": []}, {"nodes": []}, {"pools": []}])


def test_however_much_is_wrong_it_fits_into_a_fact() -> None:
    many = tuple(range(1000, 3000))
    state = CephState(
        "x" * 5000, "HEALTH_ERR", ('"\\' * 400,) * 30, 1 << 60, 1 << 59, 10**9, 10**9, 10**9, 10**5, 10**6, 5, 4,
        True, 3000, many, many, many, ("noout",) * 13, "ä" * 3000,
    )  # fmt: skip
    facts = published(state, {7: OsdState(True, True)})
    assert set(facts) == {"storage.ceph", "storage.ceph.osd.7"}
    assert all(len(fact) <= LONGEST_FACT for fact in facts.values())
    assert '"osds":3000' in facts["storage.ceph"]
