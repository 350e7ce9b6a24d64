"""A secret as libvirt's XML, which names what it is for and never holds its value."""

from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from pvc.core.storage import HypervisorSecret
from pvc.plugins.hypervisor.host import HypervisorError, SecretTaken


@dataclass(frozen=True, slots=True)
class Usage:
    """One of libvirt's kinds of secret."""

    number: int
    """Of virSecretUsageType."""
    part: str
    """The element that holds the name of the use."""


USAGES: Mapping[str, Usage] = {"volume": Usage(1, "volume"), "ceph": Usage(2, "name"), "iscsi": Usage(3, "target")}


def element(secret: HypervisorSecret) -> str:
    """The definition: in memory only, and readable to nobody but libvirt itself."""
    part = USAGES[secret.usage].part
    return (
        f"<secret ephemeral='yes' private='yes'><uuid>{escape(secret.uuid)}</uuid>"
        f"<usage type={quoteattr(secret.usage)}><{part}>{escape(secret.name)}</{part}></usage></secret>"
    )


def demand_known(secret: HypervisorSecret) -> None:
    """Raise HypervisorError for a kind of secret that libvirt does not have."""
    if secret.usage not in USAGES:
        raise HypervisorError(
            f"secret {secret.uuid} is of the kind {secret.usage}; libvirt knows {', '.join(USAGES)}: tell the author of"
            " the plugin that wants it"
        )


def demand_free(secret: HypervisorSecret, holder: str | None) -> None:
    """Raise SecretTaken if the use of a secret is that of another one: somebody else's disks depend on it."""
    if holder not in (None, secret.uuid):
        raise SecretTaken(
            f"libvirt has another secret for {secret.usage} {secret.name!r}, {holder}: VMs that need pvc's do not start"
            f" here; remove that one with `virsh secret-undefine {holder}` if nothing uses it"
        )
