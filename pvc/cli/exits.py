"""Exit codes of `pvc`, so that scripts can tell ends apart."""

from pvc.core.model import Phase

FAILED = 1
"""The command could not do what it was asked."""
USAGE = 2
"""Wrong words on the command line (Click's own code)."""
INCOMPLETE = 3
"""The operation ended, but something stayed where it was."""
CANCELLED = 4
"""The operation was cancelled."""
OPERATION_FAILED = 5
"""The operation failed: its closing sentence says why."""
TIMED_OUT = 6
"""The wait ended before the thing waited for did; that goes on."""
DETACHED = 130
"""Ctrl-C: the wait ended; the thing waited for goes on (128 + SIGINT)."""

OF_PHASE = {
    Phase.DONE: 0,
    Phase.INCOMPLETE: INCOMPLETE,
    Phase.CANCELLED: CANCELLED,
    Phase.FAILED: OPERATION_FAILED,
}
"""What `--wait` ends with for each end of an operation."""
