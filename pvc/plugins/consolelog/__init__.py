"""The console log: an almost-live copy of each VM's serial console in the cluster's tree, readable from anywhere.

Owns `vms/<uuid>/console` and its children, the log element of a VM's definition, and `pvc vm log`. It tails the log
file of every VM that runs on this node and publishes what is new, on a ZooKeeper session of its own.
"""
