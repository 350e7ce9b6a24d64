"""nft without a process for each call: libnftables, which the program is made of, by ctypes. For tests that replace
rules thousands of times; docs/decisions/0019 says why the daemon does not use it."""

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes.util import find_library

from pvc.core.process import Finished
from tests.contract.guests import RUN, inside

STATELESS, JSON = 1 << 2, 1 << 4
"""NFT_CTX_OUTPUT_* of nftables/libnftables.h."""


class NftLibrary:
    """The part of `Processes` that NftProgram needs, in one network namespace."""

    def __init__(self, namespace: str) -> None:
        self._library = ctypes.CDLL(find_library("nftables"))
        for name in ("nft_ctx_new", "nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(self._library, name).restype = ctypes.c_void_p if name == "nft_ctx_new" else ctypes.c_char_p
        with inside(namespace):  # the socket of a context stays in the namespace that it was opened in
            self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def run(
        self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Finished:
        """As the program `nft` would."""
        options = [word for word in command[1:] if word.startswith("-")]
        words = [word for word in command[1:] if not word.startswith("-")]
        flags = JSON * ("-j" in options) | STATELESS * ("-s" in options)
        self._library.nft_ctx_output_set_flags(self._context, flags)
        self._library.nft_ctx_set_dry_run(self._context, "-c" in options)
        text = stdin if stdin is not None else " ".join(words)
        code = self._library.nft_run_cmd_from_buffer(self._context, text.encode())
        said = self._library.nft_ctx_get_output_buffer(self._context) or b""
        complaint = self._library.nft_ctx_get_error_buffer(self._context) or b""
        return Finished(int(code != 0), said.decode(), complaint.decode())

    check, start = RUN.check, RUN.start

    def close(self) -> None:
        self._library.nft_ctx_free(self._context)


@contextmanager
def nft_library(namespace: str) -> Iterator[NftLibrary]:
    """The library, given back at the end."""
    library = NftLibrary(namespace)
    try:
        yield library
    finally:
        library.close()
