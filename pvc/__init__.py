"""pvc: a virtualisation cluster manager for Debian hosts."""

__version__ = "0.1.0"
