"""A secret that the configuration names but does not hold: it is read from its place when it is needed.

Its text is never kept and never part of a message, a log line or a `repr`.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pvc.core.errors import PvcError

LONGEST = 1 << 16
"""Bytes of a secret: more than any key, little enough to be no file chosen by mistake."""


class SecretProblem(PvcError):
    """A secret cannot be read; the message names its place and what to do."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is; exactly one of the three is set."""

    file: str | None = None
    """An absolute path."""
    environment: str | None = None
    """The name of an environment variable."""
    credential: str | None = None
    """The name of a credential that systemd passes (LoadCredential=, systemd.exec(5))."""

    def place(self) -> dict[str, str]:
        """The place as pvc.yaml writes it."""
        named = {"file": self.file, "environment": self.environment, "credential": self.credential}
        return {kind: name for kind, name in named.items() if name is not None}

    def read(self, environment: Mapping[str, str] = os.environ) -> str:
        """The secret, without white space around it. Raises SecretProblem."""
        if self.environment is not None:
            if not (text := environment.get(self.environment, "").strip()):
                raise SecretProblem(f"the environment variable {self.environment} is not set; set it for this program")
            return text
        return _content(self._path(environment))

    def _path(self, environment: Mapping[str, str]) -> Path:
        if self.file is not None:
            return Path(self.file)
        if not (directory := environment.get("CREDENTIALS_DIRECTORY")):
            raise SecretProblem(
                f"there is no credential {self.credential}: systemd has passed none to this program;"
                f" add LoadCredential={self.credential}:/path to its unit, or name a file instead"
            )
        return Path(directory, self.credential or "")


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(LONGEST + 1)
    except OSError as error:
        raise SecretProblem(f"cannot read {path}: {error.strerror}; check the path and its permissions") from error
    if stat.S_ISREG(mode) and mode & stat.S_IRWXO:
        raise SecretProblem(f"{path} is open to every user of this host; run `chmod o= {path}`")
    if len(content) > LONGEST:
        raise SecretProblem(f"{path} is larger than {LONGEST} bytes; is it the right file?")
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:  # its own message would show the bytes
        raise SecretProblem(f"{path} is not UTF-8 text; write the secret as text") from None
    if not text:
        raise SecretProblem(f"{path} is empty; write the secret into it")
    return text
