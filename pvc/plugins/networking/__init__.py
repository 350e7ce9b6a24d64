"""The networking role: knows this node's Linux bridges, and keeps VMs from nodes that lack one they use.

Makes and changes no bridge; the machine's own network configuration does. Publishes which bridges are up as facts of
the node (names in `keys.py`); `bridges.py` says what it needs of the machine, `sysfs.py` is the door.
"""
