"""Prints the completion of `pvc` for a shell (bash, zsh, fish), as its package directory wants it.

Typer's own script, which asks `pvc` at each TAB, plus what only an installed file needs.
"""

import sys

from typer._completion_shared import get_completion_script

AT_FIRST_TAB = {"zsh": '\n_pvc_completion "$@"'}
"""zsh reads the file when TAB is first pressed and runs it as the completion itself: it must also answer."""

shell = sys.argv[1]
script = get_completion_script(prog_name="pvc", complete_var="_PVC_COMPLETE", shell=shell)
print(script + AT_FIRST_TAB.get(shell, ""))
