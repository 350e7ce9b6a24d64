"""What happens to the lease of a VM whose node was declared dead. Only what the dead node alone could have said is said
in its place; what another node can tell is left to that one."""

from dataclasses import dataclass, replace

from pvc.core.model import ActualState, VmActual


@dataclass(frozen=True, slots=True)
class Left:
    """The lease is not touched."""

    why: str


def in_place_of(dead: str, actual: VmActual, now: float, reason: str) -> VmActual | Left:
    """What the record is to say, or why it is left alone. `now`: seconds since the epoch."""
    free = VmActual(since=now, reason=reason, generation=actual.generation, restart=actual.restart, freed=dead)
    if actual.node == dead:
        return _of_its_own(actual, free, now)
    if actual.target != dead:
        return actual
    if actual.state is ActualState.DEPARTED:  # the source has it no more, and the target is dead
        return free
    return Left(f"is leaving {actual.node}, which finds out by itself that it did not arrive")


def _of_its_own(actual: VmActual, free: VmActual, now: float) -> VmActual | Left:
    match actual.state:
        case ActualState.MIGRATING if actual.target is not None:
            return replace(actual, state=ActualState.DEPARTED, since=now)
        case ActualState.DEPARTED if actual.target is not None:
            return Left(f"{actual.target} says whether it arrived there")
        case ActualState.ASTRAY:
            return Left("was moved away by other means than pvc before; find out where it runs")
        case _:
            return free
