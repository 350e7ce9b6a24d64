"""Exit codes of `pvc`, so that scripts can tell ends apart."""

from pvc.core.model import Phase

DONE = 0
"""It is done."""
FAILED = 1
"""The command could not do what it was asked: no cluster, no such node. The message says why."""
USAGE = 2
"""Wrong words on the command line (Click's own code). `-h` after a command shows the right ones."""
INCOMPLETE = 3
"""The operation ended, but something stayed where it was. `pvc node info` names each VM and why."""
CANCELLED = 4
"""The operation was cancelled: somebody asked."""
OPERATION_FAILED = 5
"""The operation failed: its deadline passed in the queue, a gate refused, or it was not to queue. Its closing sentence
says which."""
TIMED_OUT = 6
"""The wait ended before the thing waited for did; that goes on, and `pvc node watch` follows it."""
BROKEN = 7
"""What was traced breaks somewhere: the listing says where, and what to do. With code 0 no step of it is broken."""
DETACHED = 130
"""Ctrl-C: the wait ended; the thing waited for goes on (128 + SIGINT), and `pvc node watch` follows it."""

OF_PHASE = {
    Phase.DONE: DONE,
    Phase.INCOMPLETE: INCOMPLETE,
    Phase.CANCELLED: CANCELLED,
    Phase.FAILED: OPERATION_FAILED,
}
"""What `--wait` ends with for each end of an operation."""
