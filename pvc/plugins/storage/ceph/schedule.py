"""How often Ceph is asked, and how long an answer may take."""

from pvc.plugins.storage.ceph.programs import GRACE
from pvc.plugins.storage.schema import Settings

SHORTEST = 10.0
"""Seconds between two looks at least: each costs up to a second of a processor."""
IDLE = 30.0
"""Seconds between two looks while all is well."""
ABSENT = 60.0
"""Seconds until it is looked again for a configuration of Ceph."""


def time_limit(settings: Settings) -> float:
    """Seconds that a question may take: a program that is at its end by itself tells more than that it hangs."""
    return settings.ceph.deadline + 2 * GRACE
