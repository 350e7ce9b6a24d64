"""The hypervisor role: runs the cluster's VMs under this node's libvirt and moves them between nodes.

Owns the act of starting, stopping and migrating; the records it writes (`vms/<uuid>/actual`, `nodes/<node>/vms`) and
their states are described in `pvc.core.model`. `host.py` says what it needs of a hypervisor, `libvirt.py` is the door.
"""
