"""The firewall of networks: what VMs may send and receive, put in force on each node's bridges by nftables.

Owns one table, `bridge pvc`, and touches no other; owns no bridge, no port and no network. Rules are kept in the tree
(`keys.py`, `acl.py`); the data plane tells which ports are on which network and calls `Firewall.settle`.
"""
