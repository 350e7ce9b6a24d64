"""The numbers and words libvirt uses for its domains and what they mean here. Part of the libvirt door; pure.

libvirt never renumbers them; a test compares them with the installed binding.
"""

from collections.abc import Mapping
from enum import Enum, IntEnum, IntFlag

from pvc.plugins.hypervisor.host import EndReason, GuestState, MigrationOptions, MigrationProgress

PAGE_SIZE = 4096
"""Bytes, where libvirt does not say."""


class Job(Enum):
    """What libvirt does with a guest for a longer time."""

    NONE = "none"
    """Nothing that concerns us."""
    OUTGOING = "outgoing"
    """Migrates it away."""
    INCOMING = "incoming"
    """Receives it."""


class DomainState(IntEnum):
    """VIR_DOMAIN_*: those that matter."""

    RUNNING = 1
    PAUSED = 3
    SHUTDOWN = 4
    SHUTOFF = 5


class PauseReason(IntEnum):
    """VIR_DOMAIN_PAUSED_*: those that matter."""

    MIGRATION = 2
    IOERROR = 5
    SHUTTING_DOWN = 8
    STARTING_UP = 11
    POSTCOPY = 12
    POSTCOPY_FAILED = 13


class RunReason(IntEnum):
    """VIR_DOMAIN_RUNNING_*: those that matter."""

    POSTCOPY = 10


class DomainEvent(IntEnum):
    """VIR_DOMAIN_EVENT_*: those that matter."""

    STARTED = 2
    SUSPENDED = 3
    RESUMED = 4
    STOPPED = 5


class StartDetail(IntEnum):
    """VIR_DOMAIN_EVENT_STARTED_*."""

    BOOTED = 0
    MIGRATED = 1


class StopDetail(IntEnum):
    """VIR_DOMAIN_EVENT_STOPPED_*."""

    SHUTDOWN = 0
    DESTROYED = 1
    CRASHED = 2
    MIGRATED = 3
    SAVED = 4
    FAILED = 5
    FROM_SNAPSHOT = 6


class JobOperation(IntEnum):
    """VIR_DOMAIN_JOB_OPERATION_*: those that matter."""

    MIGRATION_IN = 4
    MIGRATION_OUT = 5


class MigrateFlag(IntFlag):
    """VIR_MIGRATE_*: those that matter."""

    LIVE = 1
    PEER2PEER = 2
    AUTO_CONVERGE = 1 << 13
    POSTCOPY = 1 << 15
    TLS = 1 << 16
    PARALLEL = 1 << 17


STOPPED: Mapping[int, EndReason] = {
    StopDetail.SHUTDOWN: EndReason.SHUTDOWN,
    StopDetail.DESTROYED: EndReason.DESTROYED,
    StopDetail.CRASHED: EndReason.CRASHED,
    StopDetail.MIGRATED: EndReason.MIGRATED,
    StopDetail.SAVED: EndReason.DESTROYED,
    StopDetail.FAILED: EndReason.CRASHED,
    StopDetail.FROM_SNAPSHOT: EndReason.DESTROYED,
}
"""libvirt says FAILED when QEMU vanished without a word, and also when an incoming migration was given up."""

ARRIVING = frozenset({PauseReason.MIGRATION, PauseReason.STARTING_UP})
"""On the receiving side: it has not executed here yet."""
IN_POST_COPY = frozenset({PauseReason.POSTCOPY, PauseReason.POSTCOPY_FAILED})
"""On the sending side: it executes on the target, which still fetches memory from here."""
HANDED_OVER = IN_POST_COPY | {PauseReason.MIGRATION}
"""On the sending side: it does not execute here any more."""


def migration_flags(options: MigrationOptions) -> int:
    """libvirt's flags: live and peer-to-peer always; the guest stays transient on both sides."""
    flags = MigrateFlag.LIVE | MigrateFlag.PEER2PEER
    if options.auto_converge:
        flags |= MigrateFlag.AUTO_CONVERGE
    if options.post_copy:
        flags |= MigrateFlag.POSTCOPY
    if _is_parallel(options):
        flags |= MigrateFlag.PARALLEL
    if options.tls:
        flags |= MigrateFlag.TLS
    return int(flags)


def migration_parameters(options: MigrationOptions) -> dict[str, str | int]:
    """libvirt's typed parameters; a bandwidth cap holds for the post-copy phase too."""
    parameters: dict[str, str | int] = {}
    if options.address:
        address = f"[{options.address}]" if ":" in options.address else options.address
        parameters["migrate_uri"] = f"tcp://{address}"
    if options.bandwidth is not None:
        parameters["bandwidth"] = options.bandwidth
        if options.post_copy:
            parameters["bandwidth.postcopy"] = options.bandwidth
    if _is_parallel(options):
        parameters["parallel.connections"] = options.connections
    return parameters


def _is_parallel(options: MigrationOptions) -> bool:
    """Never together with post-copy: QEMU 7.2 accepts both, and at the switch the guest is lost on both sides, while
    libvirt reports success (seen with libvirt 9.0)."""
    return options.connections > 1 and not options.post_copy


def guest_state(state: int, reason: int, job: Job) -> GuestState | None:
    """Our word for libvirt's state and its reason; None: it is not here any more.

    A guest that is paused for a migration is INCOMING or LEAVING, depending on the side; libvirt says which side only
    by the job, and after its own restart there is none on a source that was not told how the migration ended.
    """
    if state == DomainState.SHUTOFF:
        return None
    if state == DomainState.SHUTDOWN:
        return GuestState.SHUTTING_DOWN
    if state != DomainState.PAUSED:
        return GuestState.RUNNING
    if reason == PauseReason.SHUTTING_DOWN:
        return GuestState.SHUTTING_DOWN
    if job is Job.INCOMING:
        return GuestState.INCOMING if reason in ARRIVING else GuestState.RUNNING
    return GuestState.LEAVING if reason in HANDED_OVER else GuestState.RUNNING


def is_filling(state: int, reason: int) -> bool:
    """Whether a guest executes here and still fetches memory from where it was."""
    return state == DomainState.RUNNING and reason == RunReason.POSTCOPY


def is_halted(state: int, reason: int) -> bool:
    """Whether a guest was paused because a disk of it gave an error: QEMU does so by itself where there is no room."""
    return state == DomainState.PAUSED and reason == PauseReason.IOERROR


def is_in_post_copy(state: int, reason: int) -> bool:
    """Whether a guest that is migrated away executes on the target already."""
    return state == DomainState.PAUSED and reason in IN_POST_COPY


def end_reason(event: int, detail: int, arriving: bool) -> EndReason | None:
    """Why the guest is gone, or None if this event does not end it; `arriving`: it had not executed here yet."""
    if event != DomainEvent.STOPPED:
        return None
    return EndReason.FAILED if arriving else STOPPED.get(detail, EndReason.CRASHED)


def job_of(statistics: Mapping[str, int] | None) -> Job:
    """Which job the statistics are about; None stands for libvirt's refusal to give any on the receiving side."""
    if statistics is None:
        return Job.INCOMING
    if not statistics.get("type"):
        return Job.NONE
    return Job.OUTGOING if statistics.get("operation") == JobOperation.MIGRATION_OUT else Job.NONE


def migration_progress(statistics: Mapping[str, int] | None, post_copy: bool = False) -> MigrationProgress | None:
    """The progress of an outgoing migration; None if there is none. `post_copy`: it executes on the target already."""
    if statistics is None or job_of(statistics) is not Job.OUTGOING:
        return None
    iteration = statistics.get("memory_iteration", 0)
    dirty_pages = statistics.get("memory_dirty_rate")
    downtime = statistics.get("downtime")
    return MigrationProgress(
        elapsed=statistics.get("time_elapsed", 0) / 1000,
        total=statistics.get("data_total", 0),
        remaining=statistics.get("data_remaining", 0),
        rate=statistics.get("memory_bps", 0),
        # QEMU measures it between two passes over the memory: in the first one it says 0.
        dirty_rate=None
        if dirty_pages is None or iteration < 2
        else dirty_pages * statistics.get("memory_page_size", PAGE_SIZE),
        downtime=None if downtime is None else downtime / 1000,
        iteration=iteration,
        throttle=statistics.get("auto_converge_throttle") or None,
        post_copy=post_copy,
    )
