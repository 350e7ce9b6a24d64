"""What can go wrong with a lab."""

from pvc.core.errors import PvcError


class LabError(PvcError):
    """The lab cannot do what was asked; the message says what to look at."""
