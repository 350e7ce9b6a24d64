"""What to do about a migration that takes long: more downtime, then post-copy where allowed, and in the end abort."""

from dataclasses import dataclass

from pvc.plugins.hypervisor.host import MigrationProgress
from pvc.plugins.hypervisor.settings import MigrationSettings

MIB_PER_GIB = 1024


@dataclass(frozen=True, slots=True)
class AllowDowntime:
    """Let the guest pause for so many seconds at the end."""

    seconds: float
    rung: int


@dataclass(frozen=True, slots=True)
class SwitchToPostCopy:
    """Let the guest run on the target now."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Abort: the guest stays here."""

    why: str


def deadline(memory: int, settings: MigrationSettings) -> float:
    """Seconds that a migration of `memory` MiB may take; less than one GiB counts as one."""
    return settings.deadline_per_gib * max(1.0, memory / MIB_PER_GIB)


def next_rung(
    progress: MigrationProgress, memory: int, rung: int, settings: MigrationSettings, *, post_copy_begun: bool
) -> AllowDowntime | SwitchToPostCopy | GiveUp | None:
    """The next step up the ladder, or None while the present one may still do.

    The downtime steps are spread over the first half of the deadline; `rung` is the index of the one in force.
    """
    if post_copy_begun:
        return None
    limit = deadline(memory, settings)
    if progress.elapsed >= limit:
        if settings.post_copy:
            return SwitchToPostCopy()
        return GiveUp(f"did not end within {limit:g} s ({settings.deadline_per_gib:g} s per GiB)")
    steps = len(settings.downtime)
    due = min(steps - 1, int(progress.elapsed / (limit / 2 / steps)))
    return AllowDowntime(settings.downtime[due], due) if due > rung else None
