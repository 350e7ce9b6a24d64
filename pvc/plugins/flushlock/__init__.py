"""The flush lock: flushes and unflushes take turns across the cluster.

Owns the queue `locks/flush`: one ephemeral, sequential ticket per operation that waits or moves. The ticket dies with
the session of the daemon that holds it, and every transaction of the operation demands that the ticket still exists.
"""
