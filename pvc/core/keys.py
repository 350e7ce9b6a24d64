"""Core's paths in the tree, relative to the cluster's root.

A path is spelt here, or in a plugin's `keys.py`, and nowhere else.
"""

SCHEMA = 1
"""The version of the tree that this program reads and writes; the root's data says which one a tree has."""

ROOT = "/"
NODES = "/nodes"
VMS = "/vms"
"""Children: the VMs. Whoever defines one that needs a role, or gives one a disk, rewrites it at the version it was read
at: of two at once one looks again, and a thing that only one VM can have is not given to two."""
NAMES = "/names"
LOCKS = "/locks"
HISTORY = "/history"

BRANCHES = (NODES, VMS, NAMES, LOCKS, HISTORY)
"""What `pvc init` creates; plugins create their own below these when they first need them."""


def node(name: str) -> str:
    """The node's record: state, roles, address."""
    return f"{NODES}/{name}"


def node_session(name: str) -> str:
    """Ephemeral: the node's daemon is alive."""
    return f"{NODES}/{name}/session"


def node_facts(name: str) -> str:
    """What the node's roles report about it."""
    return f"{NODES}/{name}/facts"


def node_plugins(name: str) -> str:
    """How the node's plugins are: versions, failures, services, time spent in hooks."""
    return f"{NODES}/{name}/plugins"


def node_operation(name: str) -> str:
    """The flush or unflush in hand, or the last one."""
    return f"{NODES}/{name}/operation"


def node_forecast(name: str) -> str:
    """The last question about what an operation of the node would do, with the daemon's answer."""
    return f"{NODES}/{name}/forecast"


def node_vms(name: str) -> str:
    """Children: the VMs this node has business with. Data: what was promised to it, and it does not know of yet."""
    return f"{NODES}/{name}/vms"


def node_vm(name: str, uuid: str) -> str:
    """This node has business with this VM."""
    return f"{NODES}/{name}/vms/{uuid}"


def vm(uuid: str) -> str:
    """What is wanted of a VM."""
    return f"{VMS}/{uuid}"


def vm_xml(uuid: str) -> str:
    """The VM's libvirt XML: the only definition."""
    return f"{VMS}/{uuid}/xml"


def vm_actual(uuid: str) -> str:
    """Where the VM is: the lease that lets exactly one node run it."""
    return f"{VMS}/{uuid}/actual"


def vm_doubt(uuid: str) -> str:
    """Ephemeral: a node that does not hold the lease runs the VM all the same, and asks the holder."""
    return f"{VMS}/{uuid}/doubt"


def name(vm_name: str) -> str:
    """Holds the UUID of the VM of that name."""
    return f"{NAMES}/{vm_name}"


def history_prefix() -> str:
    """Finished operations, numbered by a sequence."""
    return f"{HISTORY}/operation-"


def roll() -> str:
    """The rolling maintenance that has not ended yet; made when one begins."""
    return "/roll"


def roll_driver() -> str:
    """Ephemeral: the client that drives the roll."""
    return "/roll/driver"
