"""The storage role: pools of volumes that VMs have as disks, and this node's shared directories.

The tree (`keys.py`, `records.py`) is the ledger of pools, volumes and the tasks that change them; the storage itself is
reached through one backend for each pool (`backends.py`; `directory/`, `ceph/`, or a plugin's). `requests/` is what
clients ask, `tasks/` how a node carries it out, `commands/` the command line. `attachments.py` gives VMs their volumes,
`fencing.py` sees to it that each has one writer. Shared directories: `directories.py`, `filesystem.py` is the door.
"""
