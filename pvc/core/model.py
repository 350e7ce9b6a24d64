"""The records that more than one part of the system reads: nodes, operations, VMs. Values only, no behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class NodeState(Enum):
    """Whether a node takes VMs.

    READY -> FLUSHING (a flush began) -> FLUSHED (a fresh look found it empty) -> UNFLUSHING -> READY.
    FLUSHING -> READY (the flush was cancelled or failed), FLUSHING -> UNFLUSHING, FLUSHED -> FLUSHING (flushed again).
    An incomplete flush leaves it FLUSHING: it takes no VM, and it is not empty.
    """

    READY = "ready"
    """In service: a target for VMs."""
    FLUSHING = "flushing"
    """Being emptied: no target."""
    FLUSHED = "flushed"
    """Empty, and stays so until it is unflushed, across reboots too."""
    UNFLUSHING = "unflushing"
    """Its VMs come home: no target for anybody else's."""


NODE_MOVES: Mapping[NodeState, frozenset[NodeState]] = {
    NodeState.READY: frozenset({NodeState.FLUSHING, NodeState.UNFLUSHING}),
    NodeState.FLUSHING: frozenset({NodeState.FLUSHED, NodeState.READY, NodeState.UNFLUSHING}),
    NodeState.FLUSHED: frozenset({NodeState.UNFLUSHING, NodeState.FLUSHING}),
    NodeState.UNFLUSHING: frozenset({NodeState.READY, NodeState.FLUSHING}),
}
"""The transitions that exist; `core/states.py` refuses any other."""


@dataclass(frozen=True, slots=True)
class Node:
    """One host of the cluster."""

    name: str
    state: NodeState = NodeState.READY
    roles: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    address: str = ""
    """Where other nodes reach it, for migrations too."""
    version: str = ""
    """Version of the daemon that last registered it."""
    machine: str = ""
    """Identity of the machine it was registered from: another machine may not take the name over."""
    operation: str | None = None
    """Id of the operation last asked for. Every request rewrites this record, so a placement that checks its version
    cannot overlook a flush that was asked for a moment ago."""
    roles_changed: "RolesChanged | None" = None
    """The last change of its roles; None: it has had the same since it was first registered."""
    fence: "Fence | None" = None
    """It was declared dead and is not back in service yet; None: it is part of the cluster."""


@dataclass(frozen=True, slots=True)
class Fence:
    """Somebody has declared the node's machine dead: its VMs may run elsewhere. The node takes none until it is gone.

    It ends when the daemon answers again, no VM that went elsewhere runs there any more, and nothing in `cut` is left.
    """

    id: str
    by: str
    at: float
    """Seconds since the epoch."""
    reason: str = ""
    cut: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Pools whose storage keeps the machine out since, each with the machine's addresses there. Written before the
    storage is asked."""
    returned: bool = False
    """The daemon answers again, and whatever ran there before the declaration has ended or still belongs there."""


@dataclass(frozen=True, slots=True)
class RolesChanged:
    """A node's daemon was started with other roles than before."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class NodeSession:
    """Who holds a node's name: the content of its ephemeral node."""

    host: str
    pid: int
    boot: str
    """Identity of the running kernel and process namespace, so that a successor on the same machine can tell that
    the process is gone."""
    started: str
    """Start time of that process as the kernel counts it: a recycled pid has another one."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node's roles report. Unknown keys are for plugins."""

    at: float = 0.0
    memory: int | None = None
    """MiB that VMs may use on this node; None: it runs no VMs."""
    cpus: int | None = None
    load: float | None = None
    """Load average over one minute."""
    vms: Mapping[str, int] = field(default_factory=dict)
    """MiB set aside for each VM (by UUID) that is here, arriving, or about to start."""
    vcpus: Mapping[str, int] = field(default_factory=dict)
    """Virtual processors of each of those VMs, by UUID."""
    spread: Mapping[str, str] = field(default_factory=dict)
    """Spread group of each of those VMs that has one, by UUID."""
    limits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The only nodes of each of those VMs that may not run anywhere, by UUID."""
    arriving: tuple[str, ...] = ()
    """Those of these VMs that are migrating to the node, by UUID."""
    inbound: int | None = None
    """How many VMs may migrate to the node at the same time; None: any number."""
    findings: tuple["Finding", ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)


class Severity(Enum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a health check: what is so, and what to do."""

    source: str
    severity: Severity
    text: str


class OperationKind(Enum):
    """What an operation does to its node."""

    FLUSH = "flush"
    """Move everything away."""
    UNFLUSH = "unflush"
    """Bring back what a flush moved away."""


class Phase(Enum):
    """How far an operation is.

    QUEUED -> PLANNING -> MOVING -> DONE | INCOMPLETE | CANCELLED | FAILED; PLANNING and MOVING -> QUEUED when the
    turn was lost with the session; any active phase -> CANCELLED or FAILED.
    """

    QUEUED = "queued"
    """Asked for; waits for every gate to open."""
    PLANNING = "planning"
    """Has its turn; marks the node."""
    MOVING = "moving"
    """Things move."""
    DONE = "done"
    """A fresh look found everything where it should be."""
    INCOMPLETE = "incomplete"
    """Over, but not everything moved: the outcomes say what and why."""
    CANCELLED = "cancelled"
    """Ended because somebody asked."""
    FAILED = "failed"
    """Could not go on: the message says why."""


FINAL = frozenset({Phase.DONE, Phase.INCOMPLETE, Phase.CANCELLED, Phase.FAILED})
"""Phases that an operation never leaves."""

PHASE_MOVES: Mapping[Phase, frozenset[Phase]] = {
    Phase.QUEUED: frozenset({Phase.PLANNING, Phase.CANCELLED, Phase.FAILED}),
    Phase.PLANNING: frozenset({Phase.MOVING, Phase.QUEUED, Phase.CANCELLED, Phase.FAILED}),
    Phase.MOVING: FINAL | {Phase.QUEUED},
    Phase.DONE: frozenset(),
    Phase.INCOMPLETE: frozenset(),
    Phase.CANCELLED: frozenset(),
    Phase.FAILED: frozenset(),
}


class Cancel(Enum):
    """How an operation was asked to stop."""

    NO = "no"
    AFTER_CURRENT = "after-current"
    """Start no further move; let the one in flight end."""
    NOW = "now"
    """Abort the move in flight as well."""


class OutcomeState(Enum):
    """Where one thing that an operation handles stands."""

    WAITING = "waiting"
    MOVING = "moving"
    MOVED = "moved"
    KEPT = "kept"
    """Stays where it is though it should have moved; the outcome says why."""
    LEFT_ALONE = "left alone"
    """Not this operation's business; the outcome says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one VM (or other thing) in an operation."""

    name: str
    state: OutcomeState
    source: str | None = None
    target: str | None = None
    why: str = ""
    tries: tuple[str, ...] = ()
    """Targets that were tried and failed."""
    since: float | None = None
    """When its last move was ordered, in seconds since the epoch."""
    seconds: float | None = None
    """How long its move took."""
    memory: int | None = None
    """MiB of a VM: past moves tell how long a move of so much takes."""
    what: str = "VM"
    """What kind of thing it is, in one word; VMs are the hypervisor role's."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A flush or unflush of one node, from request to end."""

    id: str
    kind: OperationKind
    node: str
    by: str
    requested: float
    """Seconds since the epoch."""
    reason: str = ""
    deadline: float | None = None
    """Seconds since the epoch after which it fails; None: none was asked for."""
    queue: bool = True
    """False: fail rather than wait at a gate."""
    parallel: int | None = None
    """Moves at a time; None: what the node's configuration says."""
    skip: bool = False
    """Of an unflush: take the node back into service without moving anything."""
    only: tuple[str, ...] = ()
    """Of an unflush: bring only these VMs home, by UUID; empty: all."""
    make_room: bool = False
    """Of an unflush: where home is full, move VMs away that have their home elsewhere."""
    phase: Phase = Phase.QUEUED
    waiting: str = ""
    """While queued: what it waits for, in words."""
    waiting_since: float | None = None
    """While queued: since when the one in front has been at it."""
    place: int | None = None
    """While queued: how many are before it at the gate that it waits at."""
    began: float | None = None
    """When it got its turn."""
    finished: float | None = None
    cancel: Cancel = Cancel.NO
    cancelled_by: str = ""
    message: str = ""
    """One closing sentence."""
    warnings: tuple[str, ...] = ()
    """What an administrator should know though it stops nothing."""
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    """By the key of the thing: a VM's UUID."""


class VmState(Enum):
    """What is wanted of a VM."""

    RUNNING = "running"
    STOPPED = "stopped"


class Policy(Enum):
    """What a flush may do to a VM."""

    LIVE = "live"
    """Migrate it live, or leave it running where it is."""
    SHUTDOWN = "shutdown"
    """Shut it down cleanly and start it elsewhere."""
    KEEP = "keep"
    """Leave it alone: the flush reports it and ends incomplete."""


class DeviceStep(Enum):
    """What happens to a device of a running VM."""

    PLUG = "plug"
    UNPLUG = "unplug"
    GROW = "grow"
    """What is behind it has grown already; the VM as it runs is to see that."""


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """A change of a VM's definition that is to be made at once to the VM as it runs. See core/devices.py."""

    id: str
    step: DeviceStep
    key: str
    """What tells the device from the VM's others; see core/decide/devices.py."""
    device: str
    """The device's element of the definition."""
    role: str
    """Whose things the device uses."""
    by: str
    requested: float
    """Seconds since the epoch."""
    failed: str = ""
    """Why it could not be made, and the definition is as before; empty: it is still to be made."""
    size: int | None = None
    """Bytes: GROW."""


@dataclass(frozen=True, slots=True)
class Vm:
    """What is wanted of a VM: written by clients and by operations, never by what happens to be."""

    uuid: str
    name: str
    state: VmState
    node: str
    """Where it should be."""
    memory: int
    """MiB, from its definition."""
    vcpus: int
    home: str | None = None
    """Where `unmigrate` and `unflush` bring it back to; None: it is at home."""
    displaced_by: str | None = None
    """The operation that took it from home; None: an administrator did, or it is at home."""
    guards: tuple[str, ...] = ()
    """Nodes of the tree that must still exist when the move to `node` begins: the turn of the operation that ordered
    it. Empty: an administrator ordered it."""
    policy: Policy = Policy.LIVE
    nodes: tuple[str, ...] = ()
    """The only nodes it may run on; empty: any."""
    spread: str | None = None
    """VMs of one spread group are kept on different nodes."""
    stop_now: bool = False
    """With state STOPPED: do not wait for the guest, power it off."""
    generation: int = 0
    """Counted up by a request to start or restart afresh: earlier failures no longer hold it back."""
    restart: int = 0
    """Counted up by `vm restart`: the VM is shut down and started once for each."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of this VM's own, by dotted path as in pvc.yaml; see core/config/overrides.py. Whoever uses one checks
    it first: any version may have written it."""
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By role, other than the one that runs VMs: what of it the definition uses, such as names of bridges. Written when
    the VM is defined or modified, for roles that a node that runs VMs had then; see core/needs.py."""
    device_changes: tuple[DeviceChange, ...] = ()
    """Changes of its devices that the running VM has not seen yet, in order, and the last that failed."""


class ActualState(Enum):
    """What became of a VM.

    STOPPED -> STARTING -> RUNNING; RUNNING -> MIGRATING -> RUNNING (here or there); MIGRATING -> DEPARTED -> RUNNING or
    STOPPED; RUNNING -> STOPPING -> STOPPED (or RUNNING, if the guest does not obey); RUNNING -> STOPPED; STARTING,
    RUNNING -> FAILED; FAILED -> STARTING or STOPPED; RUNNING -> ASTRAY -> RUNNING (where it is found) or STARTING.
    """

    STOPPED = "stopped"
    """Runs nowhere; nobody holds the lease."""
    STARTING = "starting"
    """The node holds the lease and is about to start it, or has just done so."""
    RUNNING = "running"
    """Runs on the node that holds the lease."""
    STOPPING = "stopping"
    """Its guest was asked to shut down."""
    MIGRATING = "migrating"
    """Runs on the lease holder or, from some moment on, on the target."""
    DEPARTED = "departed"
    """The lease holder no longer has it and does not know whether the target does: only the target may say."""
    FAILED = "failed"
    """It should run but does not; the reason says why. The lease stays, and with it the right to try again."""
    ASTRAY = "astray"
    """It was moved away by other means than pvc. Whichever node finds it running takes the lease; nobody starts it,
    unless an administrator says so."""


@dataclass(frozen=True, slots=True)
class VmDoubt:
    """A node runs a VM whose lease another node holds. It asks the holder which of the two is to go on."""

    id: str
    node: str


@dataclass(frozen=True, slots=True)
class VmActual:
    """Where a VM is. `node` is the lease: only the node named there may start it, and only it (or, once DEPARTED, the
    target) gives the lease away. Claimed by compare-and-set before a start."""

    state: ActualState = ActualState.STOPPED
    node: str | None = None
    target: str | None = None
    since: float = 0.0
    reason: str = ""
    failures: int = 0
    """Starts that failed in a row, for growing pauses."""
    generation: int = 0
    """The wanted generation that this state answers."""
    restart: int = 0
    """The `restart` count that has been carried out."""
    failed_move: str = ""
    """Why the last move did not happen; cleared by the next start or move."""
    unconverged: bool = False
    """With `failed_move`: it was aborted because the VM changes its memory faster than it is copied. Another target
    would not help; other settings may."""
    evicts: str | None = None
    """While RUNNING: the id of a doubt. The holder of the lease has seen its own guest run after that doubt was
    raised, so the copy that raised it is to end."""
    reprieved: float = 0.0
    """When a request to its guest to shut down was taken back: the guest may follow it all the same, and is then
    started again."""
    freed: str | None = None
    """While nobody has the lease: the node that had it last, and lost it by being declared dead. A guest that has lived
    on there is still the VM: nobody else has run it since."""
