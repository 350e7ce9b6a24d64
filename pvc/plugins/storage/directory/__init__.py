"""Pools that are a directory which all nodes share, NFS for example: each image is a file, qcow2 or raw.

An image is `<volume>.<format>`. It is made under a hidden name and given its own by a hard link, which never replaces
anything: a name that does not begin with a dot is always a whole image. No file is changed while QEMU, on any node,
has it open: `imagefiles.py` takes QEMU's own lock. `qemuimg.py` and `imagefiles.py` are the doors.
"""
