"""A whole real cluster on one Linux machine: for newcomers, for tests, for faults on demand.

Owns one state directory per lab and one process, the lab's init, in whose namespaces everything else lives: when it
dies, the lab is gone. Touches nothing outside of these two. Nothing else in pvc imports this package.
"""
