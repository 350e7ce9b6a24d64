"""The networking role: the cluster's networks, which VMs are plugged into by name, and this node's own Linux bridges.

Makes bridges and tunnels for networks of the cluster (`networks.py`; `dataplane.py` says what it needs of the kernel,
`netlink.py` is the door) and changes no device that does not bear its mark. Watches the bridges that the machine's own
configuration makes (`service.py`, `sysfs.py`). Keeps VMs from nodes that lack what they use.
"""
