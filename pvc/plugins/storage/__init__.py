"""The storage role: knows this node's shared directories, and keeps VMs from nodes that lack one of theirs.

Mounts nothing and creates nothing; the machine does. Publishes room and state of each directory as a fact of the node
(`keys.py`); `directories.py` says what it needs of the machine, `filesystem.py` is the door.
"""
