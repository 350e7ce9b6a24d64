"""The gateways of managed networks: on one node each, a router with DHCP and DNS, in a network namespace of its own.

Owns the namespaces `pvc-<network>`, the devices `pvg-`, `pvr-` and `pvu-<network>`, the table `bridge pvc_gateways`,
and the znodes `networks/<network>/gateway` and `networks/<network>/leases`. Owns no bridge and no tunnel.
"""
