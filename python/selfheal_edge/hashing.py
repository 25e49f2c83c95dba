"""SHA-256 and HMAC, by the interpreter's own code.

`hashlib` and `hmac` load OpenSSL: 3 MiB of a process that has nothing else to do with it, for four
hashes when a model opens. CPython brings SHA-256 itself as well; where a build left it out,
`hashlib` answers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["equal_secrets", "hmac_sha256", "sha256"]

_BLOCK_BYTES = 64
_PIECE_BYTES = 65536  # other threads run between two: it keeps the GIL


def _find() -> Callable[[Any], Any]:
    try:
        found: Callable[[Any], Any] = import_module(
            "_sha2" if sys.version_info >= (3, 12) else "_sha256"
        ).sha256
    except (ImportError, AttributeError):
        found = import_module("hashlib").sha256
    return found


_sha256 = _find()


def sha256(data: bytes | bytearray | memoryview) -> bytes:
    """Return the SHA-256 of a buffer; some 0.3 GB/s."""
    view, found = memoryview(data), _sha256(b"")
    for start in range(0, len(view), _PIECE_BYTES):
        found.update(view[start : start + _PIECE_BYTES])
    digest: bytes = found.digest()
    return digest


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """Return the HMAC-SHA256 of `data` (RFC 2104)."""
    padded = (sha256(key) if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
    inner = sha256(bytes(byte ^ 0x36 for byte in padded) + data)
    return sha256(bytes(byte ^ 0x5C for byte in padded) + inner)


def equal_secrets(one: bytes, other: bytes) -> bool:
    """Whether two secrets are equal, in a time that tells nothing of where they differ.

    What is compared byte by byte are their marks under a key that is drawn for it.
    """
    key = os.urandom(_BLOCK_BYTES)
    return hmac_sha256(key, one) == hmac_sha256(key, other)
