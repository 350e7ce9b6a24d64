"""The console log: an almost-live copy of each VM's serial console in the cluster's tree, readable from anywhere.

Owns `vms/<uuid>/console` and its children, the log element of a VM's definition, `pvc vm log` and `pvc console`. It
tails the log file of every VM that runs on this node and publishes what is new, on a ZooKeeper session of its own.

A log is open (its `writer` may write) or closed (the writer has ended in order). STARTED: a closed log is opened.
DEPARTED: the source writes the rest and names the target as writer, in one transaction. STOPPED, CRASHED: the writer
writes the rest and closes it. A writer that does not hand over is overtaken after a few seconds, or as soon as its
session is gone; it then writes no more.

`ring.py` is what the tree holds, `writer.py` writes it and `reader.py` reads it; `following.py` follows several,
`printer.py` and `pens.py` print what comes, `console.py` attaches a terminal; `tail.py` reads a log file,
`stream.py` takes one VM from its file to its ring, `service.py` steps all of them; `inotify.py` is the door to files.
"""
