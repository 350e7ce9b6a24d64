"""Ceph: RBD images as volumes (`rbd.py`), and the care of its OSDs and flags.

Speaks to Ceph through its own programs (`programs.py`, the door), each run with a deadline: a Ceph that hangs costs a
process that is ended, never a thread. The monitors' map is the truth about OSDs; the tree holds only
what was asked for.
"""
