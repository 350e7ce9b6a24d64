"""Values that the tests of the decisions begin with."""

from typing import Any

from pvc.core.model import NodeState, Vm, VmActual, VmState
from pvc.plugins.hypervisor.decide.placement import Candidate
from pvc.plugins.hypervisor.decide.vm import VmView
from pvc.plugins.hypervisor.host import Guest, GuestState

UUID = "8b1a5e0c-7a1f-4a54-9d0e-1f2f6f1b0a01"
ME, OTHER, THIRD = "hv1", "hv2", "hv3"
NOW = 10_000.0
TIMEOUT = 60.0


def vm(**how: Any) -> Vm:
    """A VM that is to run on ME."""
    return Vm(**{"uuid": UUID, "name": "vm1", "state": VmState.RUNNING, "node": ME, "memory": 128, "vcpus": 1, **how})


def guest(state: GuestState = GuestState.RUNNING, moving: bool = False, uuid: str = UUID, name: str = "vm1") -> Guest:
    """What a hypervisor says of it."""
    return Guest(uuid, name, state, moving)


def view(**how: Any) -> VmView:
    """ME looks at a VM that runs nowhere, is wanted here, and has no past."""
    start: dict[str, Any] = {
        "me": ME,
        "node_state": NodeState.READY,
        "fenced": False,
        "vm": vm(),
        "actual": VmActual(),
        "guest": None,
        "doubt": None,
        "ended": None,
        "missing_for": None,
        "here_for": 1e9,
        "arriving_for": 0.0,
        "busy": False,
        "error": "",
        "given_up": "",
        "now": NOW,
        "shutdown_timeout": TIMEOUT,
    }
    return VmView(**{**start, **how})


def candidate(name: str, **how: Any) -> Candidate:
    """A node that takes VMs."""
    start: dict[str, Any] = {"alive": True, "state": NodeState.READY, "roles": ("hypervisor",), "memory": 1024}
    return Candidate(name=name, **{**start, **how})
