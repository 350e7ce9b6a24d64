"""libvirt's numbers and what they mean here."""

from enum import IntEnum

import pytest

from pvc.plugins.hypervisor.domains import (
    DomainEvent,
    DomainState,
    Job,
    JobOperation,
    MigrateFlag,
    PauseReason,
    RunReason,
    StartDetail,
    StopDetail,
    end_reason,
    guest_state,
    is_filling,
    is_halted,
    is_in_post_copy,
    job_of,
    migration_flags,
    migration_parameters,
    migration_progress,
)
from pvc.plugins.hypervisor.host import EndReason, GuestState, MigrationOptions, MigrationProgress

OUT = {"type": 2, "operation": int(JobOperation.MIGRATION_OUT)}
URI = "qemu+tcp://hv2/system"


@pytest.mark.parametrize(
    ("numbers", "prefix"),
    [
        (DomainState, "VIR_DOMAIN_"),
        (PauseReason, "VIR_DOMAIN_PAUSED_"),
        (RunReason, "VIR_DOMAIN_RUNNING_"),
        (DomainEvent, "VIR_DOMAIN_EVENT_"),
        (StartDetail, "VIR_DOMAIN_EVENT_STARTED_"),
        (StopDetail, "VIR_DOMAIN_EVENT_STOPPED_"),
        (JobOperation, "VIR_DOMAIN_JOB_OPERATION_"),
        (MigrateFlag, "VIR_MIGRATE_"),
    ],
)
def test_the_numbers_are_those_of_libvirt(numbers: type[IntEnum], prefix: str) -> None:
    libvirt = pytest.importorskip("libvirt")
    for number in numbers:
        assert number.value == getattr(libvirt, prefix + number.name)


@pytest.mark.parametrize(
    ("state", "reason", "job", "expected"),
    [
        (DomainState.RUNNING, 1, Job.NONE, GuestState.RUNNING),
        (DomainState.RUNNING, 1, Job.OUTGOING, GuestState.RUNNING),
        (DomainState.RUNNING, 10, Job.INCOMING, GuestState.RUNNING),  # post-copy: memory still arrives
        (DomainState.PAUSED, 1, Job.NONE, GuestState.RUNNING),  # by an administrator
        (DomainState.PAUSED, 5, Job.NONE, GuestState.RUNNING),  # an I/O error
        (DomainState.PAUSED, PauseReason.STARTING_UP, Job.NONE, GuestState.RUNNING),
        (DomainState.PAUSED, PauseReason.STARTING_UP, Job.INCOMING, GuestState.INCOMING),
        (DomainState.PAUSED, PauseReason.MIGRATION, Job.INCOMING, GuestState.INCOMING),
        (DomainState.PAUSED, PauseReason.POSTCOPY_FAILED, Job.INCOMING, GuestState.RUNNING),
        (DomainState.PAUSED, PauseReason.MIGRATION, Job.OUTGOING, GuestState.LEAVING),
        (DomainState.PAUSED, PauseReason.POSTCOPY, Job.OUTGOING, GuestState.LEAVING),
        (DomainState.PAUSED, PauseReason.POSTCOPY_FAILED, Job.OUTGOING, GuestState.LEAVING),
        (DomainState.PAUSED, PauseReason.MIGRATION, Job.NONE, GuestState.LEAVING),  # after a restart of libvirtd
        (DomainState.PAUSED, PauseReason.SHUTTING_DOWN, Job.NONE, GuestState.SHUTTING_DOWN),
        (DomainState.SHUTDOWN, 1, Job.NONE, GuestState.SHUTTING_DOWN),
        (DomainState.SHUTOFF, 4, Job.NONE, None),
    ],
)
def test_a_guest_state_depends_on_the_side_of_a_migration(
    state: int, reason: int, job: Job, expected: GuestState | None
) -> None:
    assert guest_state(state, reason, job) is expected


@pytest.mark.parametrize(
    ("detail", "arriving", "expected"),
    [
        (StopDetail.SHUTDOWN, False, EndReason.SHUTDOWN),
        (StopDetail.DESTROYED, False, EndReason.DESTROYED),
        (StopDetail.CRASHED, False, EndReason.CRASHED),
        (StopDetail.MIGRATED, False, EndReason.MIGRATED),
        (StopDetail.FAILED, False, EndReason.CRASHED),
        (StopDetail.FAILED, True, EndReason.FAILED),
        (StopDetail.DESTROYED, True, EndReason.FAILED),
        (99, False, EndReason.CRASHED),
    ],
)
def test_the_reason_of_an_end(detail: int, arriving: bool, expected: EndReason) -> None:
    assert end_reason(DomainEvent.STOPPED, detail, arriving) is expected


def test_no_other_event_ends_a_guest() -> None:
    assert [end_reason(event, 0, arriving=False) for event in range(9) if event != DomainEvent.STOPPED] == [None] * 8


@pytest.mark.parametrize(
    ("statistics", "expected"),
    [
        (None, Job.INCOMING),
        ({"type": 0}, Job.NONE),
        ({}, Job.NONE),
        (OUT, Job.OUTGOING),
        ({"type": 2, "operation": 7}, Job.NONE),
        ({"type": 5, "operation": int(JobOperation.MIGRATION_OUT)}, Job.OUTGOING),
    ],
)
def test_the_job_is_known_by_its_statistics(statistics: dict[str, int] | None, expected: Job) -> None:
    assert job_of(statistics) is expected


def test_there_is_no_progress_without_an_outgoing_migration() -> None:
    assert migration_progress(None) is None
    assert migration_progress({"type": 0}) is None


def test_progress_just_after_the_beginning_has_no_figures_yet() -> None:
    assert migration_progress(OUT) == MigrationProgress(0.0, 0, 0, 0, None, None, 0)


def test_progress_is_in_bytes_and_seconds() -> None:
    statistics = {
        **OUT,
        "time_elapsed": 7007,
        "downtime": 1500,
        "data_total": 1000,
        "data_remaining": 400,
        "memory_bps": 50,
        "memory_dirty_rate": 3,
        "memory_iteration": 2,
        "memory_page_size": 4096,
    }
    assert migration_progress(statistics) == MigrationProgress(7.007, 1000, 400, 50, 3 * 4096, 1.5, 2)


@pytest.mark.parametrize(
    ("said", "throttle"), [({}, None), ({"auto_converge_throttle": 0}, None), ({"auto_converge_throttle": 30}, 30)]
)
def test_the_throttle_is_told_once_there_is_one(said: dict[str, int], throttle: int | None) -> None:
    progress = migration_progress({**OUT, **said})
    assert progress is not None
    assert progress.throttle == throttle


def test_a_guest_is_halted_by_an_error_of_a_disk_and_not_by_a_person() -> None:
    assert is_halted(DomainState.PAUSED, PauseReason.IOERROR)
    assert not is_halted(DomainState.PAUSED, 1)
    assert not is_halted(DomainState.RUNNING, PauseReason.IOERROR)


def test_post_copy_is_known_by_the_guests_states_on_both_sides() -> None:
    assert is_in_post_copy(DomainState.PAUSED, PauseReason.POSTCOPY)
    assert is_in_post_copy(DomainState.PAUSED, PauseReason.POSTCOPY_FAILED)
    assert not is_in_post_copy(DomainState.PAUSED, PauseReason.MIGRATION)
    assert not is_in_post_copy(DomainState.RUNNING, PauseReason.POSTCOPY)
    assert is_filling(DomainState.RUNNING, RunReason.POSTCOPY)
    assert not is_filling(DomainState.PAUSED, RunReason.POSTCOPY)
    assert not is_filling(DomainState.RUNNING, 4)
    progress = migration_progress(OUT, post_copy=True)
    assert progress is not None
    assert progress.post_copy


def test_the_dirty_rate_is_unknown_in_the_first_pass() -> None:
    progress = migration_progress({**OUT, "memory_dirty_rate": 0, "memory_iteration": 1})
    assert progress is not None
    assert progress.dirty_rate is None


def test_a_plain_migration_is_live_and_peer_to_peer_and_names_no_address() -> None:
    options = MigrationOptions(URI)
    assert migration_flags(options) == MigrateFlag.LIVE | MigrateFlag.PEER2PEER
    assert migration_parameters(options) == {}


def test_every_option_reaches_libvirt() -> None:
    options = MigrationOptions(URI, "10.0.0.2", bandwidth=50, downtime=0.5, auto_converge=True, connections=4, tls=True)
    extra = MigrateFlag.AUTO_CONVERGE | MigrateFlag.PARALLEL | MigrateFlag.TLS
    assert migration_flags(options) == MigrateFlag.LIVE | MigrateFlag.PEER2PEER | extra
    assert migration_parameters(options) == {
        "migrate_uri": "tcp://10.0.0.2",
        "bandwidth": 50,
        "parallel.connections": 4,
    }


def test_post_copy_is_capped_as_well_and_never_has_several_connections() -> None:
    options = MigrationOptions(URI, bandwidth=50, post_copy=True, connections=4)
    assert migration_flags(options) == MigrateFlag.LIVE | MigrateFlag.PEER2PEER | MigrateFlag.POSTCOPY
    assert migration_parameters(options) == {"bandwidth": 50, "bandwidth.postcopy": 50}


def test_an_ipv6_address_gets_its_brackets() -> None:
    assert migration_parameters(MigrationOptions(URI, "fd00::2"))["migrate_uri"] == "tcp://[fd00::2]"
