"""The root of all errors that pvc raises on purpose: each message ends with what the reader can do."""


class PvcError(Exception):
    """Something that a person should read: the CLI prints the message and nothing else."""


class NotNow(PvcError):
    """What was asked for is put off by something that ends by itself; the message says by what."""
