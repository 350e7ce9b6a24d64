"""The root of all errors that pvc raises on purpose: each message ends with what the reader can do."""


class PvcError(Exception):
    """Something that a person should read: the CLI prints the message and nothing else."""
