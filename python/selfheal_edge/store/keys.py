"""Keys: where they come from, and a device's own from a fleet's."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeAlias

from selfheal_edge.hashing import hmac_sha256

__all__ = ["KeyArgument", "device_key", "read_key"]

LEAST_BYTES: Final = 16
MOST_BYTES: Final = 4096
_ENVIRONMENT: Final = "env:"

KeyArgument: TypeAlias = "bytes | str | os.PathLike[str] | Callable[[], bytes] | None"
"""The key itself; ``"env:NAME"``, a variable with the key in hexadecimal; the path of a file that
holds nothing but the key's bytes; or a callable that returns it (a TPM, a secure element)."""


def read_key(key: KeyArgument, argument: str = "key") -> bytes | None:
    """Return the key's bytes, or None where there is no key.

    Raises
    ------
    TypeError, ValueError
        Naming `argument`, what was expected and what came; the key itself is never shown.
    OSError
        When the key's file cannot be read.
    """
    if key is None:
        return None
    if callable(key):
        found = key()
        came_from = f"what {argument} returned"
        if not isinstance(found, bytes):
            raise TypeError(f"{came_from}: expected bytes, got {type(found).__name__}")
    elif isinstance(key, bytes):
        found, came_from = key, argument
    elif isinstance(key, str) and key.startswith(_ENVIRONMENT):
        found, came_from = _from_environment(key.removeprefix(_ENVIRONMENT)), f"{argument} {key}"
    elif isinstance(key, str | os.PathLike):
        found, came_from = _from_file(key, argument), f"the file of {argument}"
    else:
        raise TypeError(
            f"{argument}: expected bytes, a path, 'env:NAME', a callable or None, "
            f"got {type(key).__name__}"
        )
    if not LEAST_BYTES <= len(found) <= MOST_BYTES:
        raise ValueError(
            f"{came_from}: expected {LEAST_BYTES} to {MOST_BYTES} bytes, got {len(found)}"
        )
    return found


def _from_environment(name: str) -> bytes:
    text = os.environ.get(name)
    if text is None:
        raise ValueError(f"key: expected the environment variable {name!r} to be set")
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError(
            f"key: expected hexadecimal digits in the environment variable {name!r}"
        ) from None


def _from_file(path: str | os.PathLike[str], argument: str) -> bytes:
    with open(path, "rb") as file:
        found = file.read(MOST_BYTES + 1)
    if found.startswith(b"-----BEGIN"):
        raise ValueError(f"{argument}: expected a file of the key's bytes, got a PEM file")
    return found


def device_key(fleet_key: bytes, device_id: str) -> bytes:
    """Return a device's own key (32 bytes), so that one stolen card opens one device.

    HKDF (RFC 5869) with SHA-256, without salt; the information is the device's id. Compute it where
    the fleet's key is kept, and give the device its own key alone.

    Examples
    --------
    >>> device_key(bytes(32), "camera-0001") == device_key(bytes(32), "camera-0002")
    False
    """
    checked = read_key(fleet_key, "fleet_key")
    if checked is None:
        raise TypeError("fleet_key: expected bytes, got None")
    if not isinstance(device_id, str) or not device_id:
        raise ValueError(f"device_id: expected a text of at least one character, got {device_id!r}")
    extracted = hmac_sha256(bytes(32), checked)
    information = b"selfheal-edge device key\0" + device_id.encode()
    return hmac_sha256(extracted, information + b"\x01")
