"""What roles and plugins demand of each other, and what a node may not give up while VMs there need it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pvc.core.declaration import Declaration
from pvc.core.model import RolesChanged

HYPERVISOR = "hypervisor"
"""The role that every VM needs."""


@dataclass(frozen=True, slots=True)
class Clash:
    """A plugin that is on, and another that is off and must not be, or on and must not be."""

    plugin: str
    other: str
    needed: bool
    """True: `other` must be on; False: it must be off."""


def clashes(declarations: Mapping[str, Declaration]) -> list[Clash]:
    """Everything that speaks against having exactly these plugins on, each pair that conflicts once."""
    found = [
        Clash(name, other, needed=True)
        for name, declaration in declarations.items()
        for other in dict.fromkeys(declaration.needs)
        if other not in declarations
    ]
    pairs: set[frozenset[str]] = set()
    for name, declaration in declarations.items():
        for other in declaration.conflicts:
            if other in declarations and other != name and frozenset((name, other)) not in pairs:
                pairs.add(frozenset((name, other)))
                found.append(Clash(name, other, needed=False))
    return found


@dataclass(frozen=True, slots=True)
class Resident:
    """A VM that is on a node, or is to run there."""

    name: str
    needs: Mapping[str, Sequence[str]]
    """As in its record."""
    readable: bool = True
    """False: its record cannot be read, so it may need anything."""


def in_use(dropped: Collection[str], residents: Sequence[Resident]) -> dict[str, tuple[str, ...]]:
    """By dropped role the VMs that need it, each with what of the role it needs."""
    found = {role: tuple(_told(role, one) for one in residents if _needs(role, one)) for role in dropped}
    return {role: vms for role, vms in found.items() if vms}


def refusal(node: str, needed: Mapping[str, Sequence[str]]) -> str:
    """Why a daemon may not start without these roles, with what to do; `needed` is what `in_use` has found."""
    roles = ", ".join(needed)
    lines = "; ".join(f"{role} is needed by {', '.join(vms)}" for role, vms in needed.items())
    return (
        f"node {node} has VMs that need what its configuration has switched off: {lines}. Nothing was changed. Set "
        f"roles.{' and roles.'.join(needed)} to true again and start pvcd; then move these VMs away with "
        f"`pvc node flush {node} --wait` or `pvc vm move`, and switch {roles} off after that"
    )


def described(change: RolesChanged) -> str:
    """The roles before and after, in words."""
    return f"{listed(change.old)} => {listed(change.new)}"


def listed(roles: Sequence[str]) -> str:
    """Roles in words."""
    return ", ".join(roles) or "none"


def _needs(role: str, one: Resident) -> bool:
    return role == HYPERVISOR or not one.readable or bool(one.needs.get(role))


def _told(role: str, one: Resident) -> str:
    things = one.needs.get(role, ())
    return f"{one.name} ({', '.join(things)})" if things else one.name
