"""Samples in fixed memory: raw inputs with what is known of them."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import IntegrityError
from selfheal_edge.store.seal import Seal
from selfheal_edge.tflite.runtimes.protocol import Array

__all__ = ["ALL", "DIGEST_BYTES", "Sample", "SampleShape", "SampleTable", "digest_of", "shape_of"]

DIGEST_BYTES: Final = 16
_FREE: Final = -1
_NONE: Final = -1
_MAGIC: Final = b"SHEsmp1\0"
_MOST_ROWS: Final = 256
_MOST_BYTES: Final = 1 << 28
ALL: Final = 1 << 40
"""Bytes that hold any table."""

Rows = npt.NDArray[Any]


def digest_of(data: bytes) -> bytes:
    """Return what tells an input from others: the same to the bit have the same."""
    return Seal.block(data)[:DIGEST_BYTES]


@dataclass(frozen=True, slots=True)
class SampleShape:
    """What a model's samples look like."""

    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    """Dtype and shape of each input, without a leading 1."""
    width: int
    """Elements of the embedding; 0: none."""
    target: int = 0
    """Numbers of a regressor's target; 0 for models with classes."""

    @property
    def input_bytes(self) -> int:
        """Bytes of the inputs of one sample."""
        return sum(
            np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
            for dtype, shape in self.inputs
        )

    def arrays(self, row: Rows) -> tuple[Array, ...]:
        """Return copies of the inputs of one sample."""
        data, found, start = row.tobytes(), [], 0
        for dtype, shape in self.inputs:
            count = int(np.prod(shape, dtype=np.int64))
            one = np.frombuffer(data, np.dtype(dtype), count, start)
            found.append(one.reshape(shape).copy())
            start += one.nbytes
        return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One input, and what is known of it."""

    id: int
    """`Prediction.id`."""
    inputs: tuple[Array, ...] | None
    """Raw, one an input of the model; None where they were not kept."""
    second: float
    """When it was taken in, of the model's clock."""
    embedding: npt.NDArray[np.float32] | None = None
    predicted: int = _NONE
    """The class that was answered; -1: none."""
    generation: int = 0
    """What answered."""
    label: int | None = None
    target: npt.NDArray[np.float32] | None = None
    source: str = ""
    weight: float = 1.0
    digest: bytes = field(default=b"", repr=False)

    @property
    def input(self) -> Array | None:
        """The input of a model that has one."""
        return None if self.inputs is None else self.inputs[0]


class SampleTable:
    """A table of samples whose memory is taken once.

    Parameters
    ----------
    shape
        What samples look like.
    budget_bytes
        Bytes for all rows, of which there are 256 at most; none where not one fits.
    more
        Further columns: name, dtype.
    most
        Rows at most; None: 256.

    Notes
    -----
    Sources are kept by number; a table knows at most 64 names, and forgets those without a row.
    """

    def __init__(
        self,
        shape: SampleShape,
        budget_bytes: int,
        more: Sequence[tuple[str, str]] = (),
        most: int | None = None,
    ) -> None:
        self.shape = shape
        columns: list[Any] = [
            ("id", "<i8"),
            ("seq", "<u8"),
            ("second", "<f8"),
            ("label", "<i8"),
            ("predicted", "<i8"),
            ("generation", "<i8"),
            ("weight", "<f4"),
            ("source", "<i2"),
            ("has_input", "?"),
            ("has_embedding", "?"),
            ("digest", "u1", (DIGEST_BYTES,)),
            *more,
            ("target", "<f4", (shape.target,)),
            ("embedding", "<f4", (shape.width,)),
            ("input", "u1", (shape.input_bytes,)),
        ]
        kind = np.dtype(columns)
        rows = min(_MOST_ROWS if most is None else most, budget_bytes // kind.itemsize)
        self.rows: Rows = np.zeros(rows, kind)
        """All rows; those whose id is -1 are free."""
        self.rows["id"] = _FREE
        self._names: list[str] = []
        self._seq = 0
        self.changes = 0
        """How often it was changed."""

    @property
    def capacity(self) -> int:
        """Rows."""
        return len(self.rows)

    @property
    def memory_bytes(self) -> int:
        """Bytes of all rows, used or not."""
        return int(self.rows.nbytes)

    @property
    def used(self) -> npt.NDArray[np.intp]:
        """The rows in use, oldest first."""
        found = np.flatnonzero(self.rows["id"] != _FREE)
        return np.asarray(found[np.argsort(self.rows["seq"][found], kind="stable")])

    def __len__(self) -> int:
        return int(np.count_nonzero(self.rows["id"] != _FREE))

    def free(self) -> int | None:
        """Return a free row; None where there is none."""
        found = np.flatnonzero(self.rows["id"] == _FREE)
        return int(found[0]) if len(found) else None

    def find(self, id: int) -> int | None:
        """Return the row of a prediction."""
        found = np.flatnonzero(self.rows["id"] == id)
        return int(found[0]) if id >= 0 and len(found) else None

    def with_digest(self, digest: bytes) -> npt.NDArray[np.intp]:
        """Return the rows that hold an input."""
        wanted = np.frombuffer(digest, np.uint8)
        same = (self.rows["digest"] == wanted).all(axis=1) & (self.rows["id"] != _FREE)
        return np.flatnonzero(same & self.rows["has_input"])

    def put(self, row: int, sample: Sample, **more: Any) -> None:
        """Write a sample into a row, over what was there."""
        self._seq += 1
        self.changes += 1
        one = self.rows[row : row + 1]
        one[:] = np.zeros(1, self.rows.dtype)
        one["seq"], one["second"] = self._seq, sample.second
        one["label"] = _NONE if sample.label is None else sample.label
        one["predicted"], one["generation"] = sample.predicted, sample.generation
        one["weight"], one["source"] = sample.weight, self._number(sample.source)
        if sample.target is not None:
            one["target"] = np.asarray(sample.target, np.float32).reshape(1, -1)
        if sample.embedding is not None and sample.embedding.size == self.shape.width:
            one["embedding"], one["has_embedding"] = sample.embedding.reshape(1, -1), True
        if sample.inputs is not None:
            data = b"".join(np.ascontiguousarray(part).tobytes() for part in sample.inputs)
            one["input"], one["has_input"] = np.frombuffer(data, np.uint8), True
            digest = sample.digest or digest_of(data)
            one["digest"] = np.frombuffer(digest, np.uint8)
        for name, value in more.items():
            one[name] = value
        one["id"] = sample.id  # last: until now the row is free

    def get(self, row: int) -> Sample:
        """Return a copy of a row."""
        one = self.rows[row]
        label = int(one["label"])
        return Sample(
            int(one["id"]),
            self.shape.arrays(one["input"]) if one["has_input"] else None,
            float(one["second"]),
            one["embedding"].copy() if one["has_embedding"] else None,
            int(one["predicted"]),
            int(one["generation"]),
            None if label == _NONE else label,
            one["target"].copy() if self.shape.target else None,
            self.source_of(row),
            float(one["weight"]),
            one["digest"].tobytes() if one["has_input"] else b"",
        )

    def source_of(self, row: int) -> str:
        """Return the name of a row's source; empty for none."""
        number = int(self.rows["source"][row])
        return self._names[number] if 0 <= number < len(self._names) else ""

    def oldest_input(self) -> float | None:
        """Return when the oldest input was taken in; None where there is none."""
        seconds = self.rows["second"][(self.rows["id"] != _FREE) & self.rows["has_input"]]
        return float(seconds.min()) if len(seconds) else None

    def clear(self, row: int) -> None:
        """Forget a row: nothing of its sample stays in memory."""
        self.changes += 1
        self.rows[row : row + 1] = np.zeros(1, self.rows.dtype)
        self.rows["id"][row] = _FREE

    def _number(self, name: str) -> int:
        if not name:
            return _NONE
        if name in self._names:
            return self._names.index(name)
        if len(self._names) >= 64:
            in_use = {int(n) for n in self.rows["source"][self.used]}
            unused = next(n for n in range(len(self._names)) if n not in in_use)
            self._names[unused] = name
            return unused
        self._names.append(name)
        return len(self._names) - 1

    # ---------------------------------------------------------------- at rest

    def to_bytes(self, now: float, wall: float, *, oldest: float = np.inf) -> bytes:
        """Return the rows in use, for a store.

        Parameters
        ----------
        now, wall
            Second of the model's clock, and since 1970: what is kept is how old samples are, and
            when that was.
        oldest
            Inputs and embeddings of samples of up to that many seconds are in it; 0: none.
        """
        rows = self.rows[self.used].copy()
        rows["second"] = np.maximum(now - rows["second"], 0.0)
        _hide_inputs(rows, oldest)
        shape = self.shape
        told = {
            "names": self._names,
            "columns": _columns(rows.dtype),
            "wall": wall,
            "inputs": [[dtype, list(one)] for dtype, one in shape.inputs],
            "width": shape.width,
            "target": shape.target,
        }
        head = json.dumps(told).encode()
        body = zlib.compress(rows.tobytes(), 1)
        return _MAGIC + struct.pack("<III", len(head), len(rows), len(body)) + head + body

    def go_on_with(self, blob: bytes, now: float, wall: float, *, oldest: float = np.inf) -> bool:
        """Take over rows that `to_bytes` returned, the latest that there is room for.

        Parameters
        ----------
        blob
            What it returned.
        now, wall
            As then: samples are older by what has passed since, if that can be told.
        oldest
            Likewise.

        Returns
        -------
        bool
            Whether all inputs in it were taken over.

        Raises
        ------
        IntegrityError
            When they are not of such a table; nothing has changed then.
        """
        fixed = len(_MAGIC) + 12
        try:
            if blob[: len(_MAGIC)] != _MAGIC:
                raise ValueError("another format")
            head_size, count, body_size = struct.unpack("<III", blob[len(_MAGIC) : fixed])
            head = json.loads(blob[fixed : fixed + head_size])
            body = blob[fixed + head_size :]
            size = count * self.rows.dtype.itemsize
            if len(body) != body_size or not 0 <= size <= _MOST_BYTES:
                raise ValueError("another size")
            if head["columns"] != _columns(self.rows.dtype):
                raise ValueError("samples of another model, or columns of another release")
            unpack = zlib.decompressobj()
            data = unpack.decompress(body, size + 1) if size else b""
            rows = np.frombuffer(data, self.rows.dtype)
            names = [str(name)[:64] for name in head["names"]][:64]
            if len(rows) != count or not np.isfinite(rows["second"]).all():
                raise ValueError("other rows")
            if (rows["id"] < 0).any() or not np.isfinite(rows["weight"]).all():
                raise ValueError("rows that no table has")
            since = max(0.0, wall - float(head["wall"]))
            if not np.isfinite(since):
                raise ValueError("another time")
        except (ValueError, LookupError, TypeError, zlib.error, struct.error) as error:
            raise IntegrityError(f"samples: expected rows of this model, got {error}") from None
        inputs = np.count_nonzero(rows["has_input"])
        rows = rows[max(0, count - self.capacity) :].copy()
        rows["second"] = np.maximum(rows["second"], 0.0) + since
        _hide_inputs(rows, oldest)
        rows["second"] = now - rows["second"]
        rows["seq"] = np.arange(1, len(rows) + 1)
        self.rows[:] = np.zeros(1, self.rows.dtype)
        self.rows["id"] = _FREE
        self.rows[: len(rows)] = rows
        self._names, self._seq = names, len(rows)
        self.changes += 1
        return bool(np.count_nonzero(rows["has_input"]) == inputs)


def shape_of(blob: bytes) -> tuple[SampleShape, int]:
    """Return what the samples look like that `SampleTable.to_bytes` returned, and how many.

    Raises
    ------
    IntegrityError
        When it is not that.
    """
    fixed = len(_MAGIC) + 12
    try:
        head_size, count, _ = struct.unpack("<III", blob[len(_MAGIC) : fixed])
        head = json.loads(blob[fixed : fixed + head_size])
        inputs = tuple(
            (str(np.dtype(dtype).str), tuple(int(n) for n in one)) for dtype, one in head["inputs"]
        )
        shape = SampleShape(inputs, int(head["width"]), int(head["target"]))
        sizes = [shape.input_bytes, shape.width, shape.target]
        if not all(0 <= n <= _MOST_BYTES for n in sizes) or count > _MOST_ROWS:
            raise ValueError("samples that no model has")
    except (ValueError, LookupError, TypeError, struct.error) as error:
        raise IntegrityError(f"samples: expected rows of a model, got {error}") from None
    return shape, count


def _hide_inputs(rows: Rows, oldest: float) -> None:
    """Wipe inputs, and what tells them, of rows older than that; `second` is their age."""
    hidden = rows["second"] > oldest if oldest else np.ones(len(rows), bool)
    for name in ("input", "embedding", "has_input", "has_embedding", "digest"):
        rows[name][hidden] = 0


def _columns(kind: np.dtype[Any]) -> list[str]:
    return [f"{name} {kind[name].base.str} {list(kind[name].shape)}" for name in kind.names or ()]
