"""Paths of the firewall in the tree. The network above each belongs to the networking role."""


def acl(network: str) -> str:
    """What the VMs of a network may send and receive."""
    return f"/networks/{network}/acl"
