"""A small file format for what we keep: named arrays and numbers, versioned and authenticated.

Layout, little-endian: magic (8 bytes), schema version (u32), length of the header (u32), header
(JSON: numbers, texts and the dtype, shape and offset of every array), the arrays' bytes, and a
32-byte tag: HMAC-SHA256 with the user's key, or plain SHA-256 where there is none. No pickle.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import struct
import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from selfheal_edge.errors import BaselineFormatError
from selfheal_edge.hashing import equal_secrets, hmac_sha256, sha256

__all__ = ["is_storable", "pack", "unpack", "write_atomically"]

_HEAD: Final = struct.Struct("<8sII")
_TAG_BYTES: Final = 32
_UNFINISHED: Final = ".unfinished"
_SECONDS_TO_LOCK: Final = 60
_DTYPES: Final = frozenset(
    {"bool", "complex64", "complex128", "float16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)


def is_storable(dtype: np.dtype[Any]) -> bool:
    """Whether a file can hold arrays of this type: numbers of a fixed size."""
    return dtype.name in _DTYPES


def _tag(body: bytes, key: bytes | None) -> bytes:
    if key is None:
        return sha256(body)
    return hmac_sha256(key, body)


def check_key(key: bytes | None) -> None:
    """Refuse what is not a key: None, or at least 16 bytes."""
    if key is not None and not isinstance(key, bytes):
        raise TypeError(f"key: expected bytes or None, got {type(key).__name__}")
    if key is not None and len(key) < 16:
        raise ValueError(f"key: expected at least 16 bytes, got {len(key)}")


def pack(
    magic: bytes,
    version: int,
    fields: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray[Any, Any]],
    key: bytes | None,
) -> bytes:
    """Return the bytes of a file that holds `fields` (JSON) and `arrays`."""
    check_key(key)
    table = {}
    chunks = []
    offset = 0
    for name, array in arrays.items():
        if not is_storable(array.dtype):
            raise TypeError(f"{name}: expected a plain numeric dtype, got {array.dtype.name}")
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        table[name] = {"dtype": array.dtype.name, "shape": array.shape, "offset": offset}
        chunks.append(data)
        offset += len(data)
    header = json.dumps({"fields": dict(fields), "arrays": table, "keyed": key is not None})
    encoded = header.encode()
    body = b"".join([_HEAD.pack(magic, version, len(encoded)), encoded, *chunks])
    return body + _tag(body, key)


def unpack(
    data: bytes,
    magic: bytes,
    version: int,
    key: bytes | None,
    what: str,
    part: str = "",
    *,
    is_verified: bool = False,
) -> tuple[int, dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """Return version, fields and arrays of a file; the tag is checked before anything is parsed.

    Of the arrays those alone whose names begin with `part`. `is_verified`: a seal over these bytes
    was verified already, such as that of a row in a store; the tag is not checked again.

    Raises
    ------
    BaselineFormatError
        When it is truncated, foreign, changed, newer than `version`, or signed with another key.
    """
    check_key(key)
    if len(data) < _HEAD.size + _TAG_BYTES:
        raise BaselineFormatError(
            f"{what}: expected at least {_HEAD.size + _TAG_BYTES} bytes, got {len(data)}"
        )
    found, found_version, header_bytes = _HEAD.unpack_from(data)
    if found != magic:
        raise BaselineFormatError(f"{what}: expected it to begin with {magic!r}, got {found!r}")
    if found_version > version:
        raise BaselineFormatError(
            f"{what}: expected version {version} or older, got {found_version}, "
            "which a newer release of selfheal-edge wrote"
        )
    body = data[:-_TAG_BYTES]
    if not is_verified and not equal_secrets(_tag(body, key), data[-_TAG_BYTES:]):
        expected = "an HMAC of the given key" if key is not None else "a matching SHA-256"
        raise BaselineFormatError(
            f"{what}: expected {expected}, got another tag: the file was damaged or changed, or "
            "it was signed with another key or with none"
        )
    try:
        header = json.loads(body[_HEAD.size : _HEAD.size + header_bytes])
        start = _HEAD.size + header_bytes
        arrays = {}
        for name, row in header["arrays"].items():
            if not name.startswith(part):
                continue
            if row["dtype"] not in _DTYPES:
                raise ValueError(f"dtype {row['dtype']!r}")
            dtype = np.dtype(row["dtype"]).newbyteorder("<")
            count = int(np.prod(row["shape"], dtype=np.int64))
            flat = np.frombuffer(body, dtype, count, start + int(row["offset"]))
            arrays[name] = flat.reshape(row["shape"]).astype(row["dtype"])
        return found_version, header["fields"], arrays
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise BaselineFormatError(f"{what}: expected a readable header, got {error!r}") from None


def _clear_abandoned(folder: str, prefix: str) -> None:
    """Remove what killed writers of the same file left: no process holds its lock any more."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if not (name.startswith(prefix) and name.endswith(_UNFINISHED)):
                continue
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError), open(path, "rb") as file:
                # A writer between its mkstemp and its lock has an empty file that is seconds old.
                young = time.time() - os.fstat(file.fileno()).st_mtime < _SECONDS_TO_LOCK
                if os.fstat(file.fileno()).st_size == 0 and young:
                    continue
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace `path` by a file with `data`; after a crash the old or the new is there, whole."""
    import tempfile  # noqa: PLC0415 — 0.4 MiB that reading a file does not need

    target = os.fspath(path)
    parent, name = os.path.split(target)
    prefix = f".{name}."
    _clear_abandoned(parent or ".", prefix)
    fd, temporary = tempfile.mkstemp(prefix=prefix, suffix=_UNFINISHED, dir=parent or ".")
    try:
        with open(fd, "wb") as file:
            with contextlib.suppress(OSError):  # not every file system has locks
                fcntl.flock(file, fcntl.LOCK_EX)  # held until we close it or die
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    with contextlib.suppress(OSError):  # not every file system can sync a folder
        folder = os.open(parent or ".", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
