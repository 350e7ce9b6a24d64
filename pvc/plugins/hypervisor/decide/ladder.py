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


def advice(name: str, refused: str) -> str:
    """What to do about a VM that does not converge; `refused`: why post-copy, though allowed, was not possible."""
    if refused:
        return (
            f"post-copy was not possible ({refused}); allow a longer deadline or more bandwidth: "
            f"`pvc vm set {name} hypervisor.migration.deadline_per_gib=...`"
        )
    return (
        f"allow post_copy, a longer deadline or more bandwidth: `pvc vm set {name} hypervisor.migration.post_copy=true`"
    )


def rung_in_words(settings: MigrationSettings, rung: int, *, post_copy: bool, given_up: bool) -> str:
    """Where on the ladder a migration is, for people."""
    if given_up:
        return "aborting"
    return "post-copy" if post_copy else f"downtime {settings.downtime[rung]:g} s"
