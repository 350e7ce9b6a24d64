"""Posts flushes and node events to a webhook, and refuses flushes outside of maintenance windows.

Writes nothing to the tree but one fact of its node: the windows.
"""
