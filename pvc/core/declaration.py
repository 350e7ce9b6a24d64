"""What a plugin declares of itself: the version of the hooks it was written for, and what it needs and cannot bear."""

from dataclasses import dataclass

API = 1
"""Version of the hooks. It grows when a plugin that was written for the version before would no longer work."""
OLDEST_API = 1
"""The oldest version whose plugins still work: at least one release of pvc takes both a new version and the one before.
"""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A plugin's own description; a plugin without one is of version 1, needs nothing and gets on with everything."""

    api: int = 1
    """The version of the hooks that it was written for."""
    summary: str = ""
    """What it is for, in one line."""
    needs: tuple[str, ...] = ()
    """Names of plugins and roles that must be on as well."""
    conflicts: tuple[str, ...] = ()
    """Names of plugins and roles that must be off."""
