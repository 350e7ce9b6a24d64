"""Sits at a terminal: runs a command on one, types when it sees what it waits for, prints what it saw.

Arguments: a JSON list of [what to wait for, what to type then], and the command. Ends with the command's exit code, or
with 99 if what it waits for does not come.
"""

import json
import os
import pty
import re
import signal
import sys

PATIENCE = 60
"""Seconds until it hangs up."""
GIVEN_UP = 99


def main() -> int:
    script: list[list[str]] = json.loads(sys.argv[1])
    pid, terminal = pty.fork()
    if pid == 0:
        for number in (signal.SIGINT, signal.SIGHUP):  # what runs in the background may have them ignored
            signal.signal(number, signal.SIG_DFL)
        os.execvp(sys.argv[2], sys.argv[2:])
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGHUP))
    signal.alarm(PATIENCE)
    seen = looked = ""
    while True:
        if script and (found := re.search(script[0][0], seen[len(looked) :])):
            looked = seen[: len(looked) + found.end()]
            os.write(terminal, script.pop(0)[1].encode())
        data = _read(terminal)
        if data is None:
            break
        seen += data
    print(seen, end="", flush=True)
    if script:
        print(f"\nnot seen: {script[0][0]!r}")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return GIVEN_UP if script else code


def _read(terminal: int) -> str | None:
    """What comes next; None at the end."""
    try:
        return os.read(terminal, 65536).decode(errors="replace") or None
    except OSError:  # what a terminal says whose other side is gone
        return None


if __name__ == "__main__":
    sys.exit(main())
