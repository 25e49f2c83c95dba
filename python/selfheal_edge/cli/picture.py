"""An input as a person can look at it: a picture, or a table of numbers."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.store.file_format import write_atomically

__all__ = ["save_input"]

_LEAST: Final = 192
"""Pixels of a picture's longer side, at least: small ones are enlarged."""
_MOST: Final = 4096

Pixels = npt.NDArray[np.uint8]


def save_input(folder: Path, name: str, raw: npt.NDArray[Any]) -> Path:
    """Save one raw input; return the file.

    An image or a spectrogram becomes a PNG (grey, or colours where there are three channels), each
    stretched from its least to its greatest value; anything else a CSV of its values, one channel
    a column.

    Parameters
    ----------
    folder, name
        Where; the name is without an ending.
    raw
        Shape (height, width), (height, width, 1 or 3), (steps,), (steps, channels) of few channels,
        or any other, which is flattened.
    """
    picture = _picture(raw)
    if picture is not None:
        path = folder / f"{name}.png"
        write_atomically(path, _png(picture))
        return path
    path = folder / f"{name}.csv"
    columns = raw.reshape(len(raw), -1) if raw.ndim > 1 else raw.reshape(-1, 1)
    lines = [",".join(repr(value) for value in row) for row in columns.tolist()]
    write_atomically(path, ("\n".join(lines) + "\n").encode())
    return path


def _picture(raw: npt.NDArray[Any]) -> Pixels | None:
    """Return pixels, shape (height, width, 1 or 3); None for what is no picture."""
    if raw.ndim == 2:
        raw = raw[:, :, None]
    if raw.ndim != 3 or raw.shape[2] not in (1, 3) or min(raw.shape[:2]) < 2:
        return None
    if max(raw.shape[:2]) > _MOST:
        return None
    values = np.nan_to_num(raw.astype(np.float64))
    least, most = float(values.min()), float(values.max())
    pixels = np.rint((values - least) * (255.0 / max(most - least, 1e-12))).astype(np.uint8)
    factor = max(1, -(-_LEAST // max(raw.shape[:2])))
    return np.asarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))


def _png(pixels: Pixels) -> bytes:
    """Return a PNG (ISO/IEC 15948) of 8 bits a sample, without a filter."""
    height, width, channels = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    colour = 2 if channels == 3 else 0
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    rows = np.zeros((height, 1 + width * channels), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)),
            chunk(b"IEND", b""),
        ]
    )
