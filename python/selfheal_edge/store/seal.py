"""Authentication of what is at rest: rows, the journal's chain, and the root over all of it.

With a key every tag is keyed BLAKE2b (RFC 7693); without one it is plain BLAKE2b, which finds
accidents and no forgery. Each use has its own personalisation, so that no tag passes for another.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

__all__ = ["SUM_BYTES", "TAG_BYTES", "Seal"]

TAG_BYTES: Final = 32
SUM_BYTES: Final = 32


def _find() -> tuple[Any, Any]:
    """Return BLAKE2b and the comparison of secrets, without OpenSSL.

    `hashlib` and `hmac` load it: 3 MiB of a process, and milliseconds of a start.
    """
    try:
        return import_module("_blake2").blake2b, import_module("_operator")._compare_digest  # noqa: SLF001
    except (ImportError, AttributeError):
        return import_module("hashlib").blake2b, import_module("hmac").compare_digest


_blake2b, _same = _find()
_MODULUS: Final = 1 << (8 * SUM_BYTES)


class Seal:
    """Makes and compares tags under one key.

    Parameters
    ----------
    key
        At least 16 bytes, or None.
    """

    def __init__(self, key: bytes | None) -> None:
        self.keyed = key is not None
        # BLAKE2b takes 64 bytes at most.
        self._key = b"" if key is None else _blake2b(key, person=b"selfheal key").digest()

    def _tag(self, purpose: bytes, *parts: bytes) -> bytes:
        made = _blake2b(key=self._key, digest_size=TAG_BYTES, person=purpose)
        for part in parts:
            made.update(len(part).to_bytes(8, "little"))
            made.update(part)
        return bytes(made.digest())

    def row(self, area: str, name: str, value: bytes) -> bytes:
        """Return the tag of one row: moved to another area or name it no longer holds."""
        return self._tag(b"selfheal row", area.encode(), name.encode(), value)

    def link(self, before: bytes, seq: int, body: bytes) -> bytes:
        """Return the journal's hash after record `seq`, given the one before it."""
        return self._tag(b"selfheal journal", before, seq.to_bytes(8, "little"), body)

    def root(self, body: bytes) -> bytes:
        """Return the tag of the root."""
        return self._tag(b"selfheal root", body)

    def request(self, body: bytes) -> bytes:
        """Return the tag of a request from another process."""
        return self._tag(b"selfheal request", body)

    @staticmethod
    def block(data: bytes) -> bytes:
        """Return the name of a block: its content's hash, the same under every key."""
        return bytes(_blake2b(data, digest_size=TAG_BYTES, person=b"selfheal block").digest())

    @staticmethod
    def same(one: bytes, other: bytes) -> bool:
        """Compare two tags in a time that tells nothing."""
        return bool(_same(one, other))

    @staticmethod
    def added(total: int, tag: bytes) -> int:
        """Return a set's sum with one more tag.

        The sum of keyed tags modulo 2^256 authenticates a set whatever its order, and is updated
        for one row without reading the others (Clarke et al. 2003, MSet-Add-Hash).
        """
        return (total + int.from_bytes(tag, "little")) % _MODULUS

    @staticmethod
    def taken(total: int, tag: bytes) -> int:
        """Return a set's sum without a tag that is in it."""
        return (total - int.from_bytes(tag, "little")) % _MODULUS
