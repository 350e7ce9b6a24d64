"""Whether the directory of the console files can be used: without it VMs run all the same, unlogged."""

import os
from pathlib import Path


def unusable(directory: str) -> str:
    """Why no console file can be kept there, and what to do; empty: it can."""
    path = Path(directory)
    if not path.is_dir():
        return f"the console directory {directory} does not exist; create it, or set consolelog.directory"
    if not os.access(path, os.R_OK | os.X_OK):
        return f"the console directory {directory} cannot be read by pvcd; check its permissions"
    return ""
