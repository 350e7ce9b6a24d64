"""BGP EVPN between the nodes, by an FRR of pvc's own: which node which MAC address of a managed network is on.

Owns the daemons below /run/pvc/frr and the forwarding entries that they make. Never touches the host's own FRR, its
routes, or tunnels that others have made. Off (`fabric: static`) it only makes sure that none of its daemons is left.
"""
