"""Saved states of a model file's bytes, in blocks that generations share."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from typing import Any, Final, Protocol

from selfheal_edge.errors import IntegrityError
from selfheal_edge.hashing import sha256
from selfheal_edge.store.changes import Changes, Row
from selfheal_edge.store.seal import TAG_BYTES, Seal

__all__ = ["ACTIVE", "AREA", "StoredGeneration", "StoredGenerations", "identity_of"]

AREA: Final = "generation"
ACTIVE: Final = ("model", "active")
"""Area and name of the row with the number of the generation that is to serve, in decimal."""
BLOCK_BYTES: Final = 4096
_VERSION: Final = 2
"""Of a row: 1 had no correction of inputs."""
_LENGTH: Final = 4
_MOST_DIGITS: Final = 20


class StoredGeneration:
    """What the store says of one generation.

    Parameters
    ----------
    number
        0 is golden.
    nbytes, digest
        Of the file that `export` would write: its size, and its SHA-256 in hexadecimal.
    fields
        What the one who saved it wrote to it: its origin, its state, when.
    blocks
        Those of the file, then those of the correction.
    inputs_nbytes, inputs_digest
        Of the correction of inputs that belongs to it, likewise; 0 and empty: inputs go in as they
        come.
    """

    def __init__(
        self,
        number: int,
        nbytes: int,
        digest: str,
        fields: Mapping[str, Any],
        blocks: tuple[bytes, ...],
        inputs_nbytes: int = 0,
        inputs_digest: str = "",
    ) -> None:
        self.number = number
        self.nbytes, self.digest = nbytes, digest
        self.fields = fields
        self.blocks = blocks
        self.inputs_nbytes, self.inputs_digest = inputs_nbytes, inputs_digest

    @property
    def identity(self) -> str:
        """What tells it from others that answer in another way: SHA-256, in hexadecimal."""
        return _joined(self.digest, self.inputs_digest)

    def encode(self) -> bytes:
        """Return the row's value."""
        head = json.dumps(
            {
                "version": _VERSION,
                "number": self.number,
                "nbytes": self.nbytes,
                "digest": self.digest,
                "inputs_nbytes": self.inputs_nbytes,
                "inputs_digest": self.inputs_digest,
                "fields": dict(self.fields),
            },
            separators=(",", ":"),
        ).encode()
        return len(head).to_bytes(_LENGTH, "little") + head + b"".join(self.blocks)

    @classmethod
    def decode(cls, value: bytes) -> StoredGeneration:
        """Read a row's value; one of version 1 corrects no inputs.

        Raises
        ------
        IntegrityError
            When it is not one, or a newer release wrote it.
        """
        try:
            length = int.from_bytes(value[:_LENGTH], "little")
            head = json.loads(value[_LENGTH : _LENGTH + length])
            version = int(head.get("version", 1))
            if not 1 <= version <= _VERSION:
                raise ValueError(f"version {version}, of 1 to {_VERSION}")
            names = value[_LENGTH + length :]
            if len(names) % TAG_BYTES:
                raise ValueError(f"{len(names)} bytes of names")
            blocks = tuple(names[i : i + TAG_BYTES] for i in range(0, len(names), TAG_BYTES))
            return cls(
                int(head["number"]),
                int(head["nbytes"]),
                head["digest"],
                head["fields"],
                blocks,
                int(head.get("inputs_nbytes", 0)),
                str(head.get("inputs_digest", "")),
            )
        except (AttributeError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise IntegrityError(f"generation: expected a readable row: {error!r}") from None


def identity_of(data: bytes | memoryview, inputs: bytes) -> str:
    """Return the `StoredGeneration.identity` of a file's bytes and a correction of inputs."""
    return _joined(sha256(data).hex(), sha256(inputs).hex() if inputs else "")


def _joined(digest: str, inputs_digest: str) -> str:
    return sha256(f"{digest} {inputs_digest}".encode()).hex() if inputs_digest else digest


def _chunks(view: memoryview) -> list[bytes]:
    return [bytes(view[i : i + BLOCK_BYTES]) for i in range(0, len(view), BLOCK_BYTES)]


class Holder(Protocol):
    """What holds rows and blocks: a `Store`, or a `Database` for those who read alone."""

    def get(self, area: str, name: str) -> bytes | None:
        """Return a row's value, or None."""
        ...

    def items(self, area: str) -> dict[str, bytes]:
        """Return all rows of an area, by name."""
        ...

    def block(self, name: bytes) -> bytes | None:
        """Return a block, or None."""
        ...

    def block_names(self) -> set[bytes]:
        """Return the names of all blocks."""
        ...

    def commit(self, changes: Changes) -> None:
        """Make changes durable, all or none."""
        ...


class StoredGenerations:
    """The generations in a store.

    Parameters
    ----------
    store
        Where they are; two generations share each block that is the same in both.
    """

    def __init__(self, store: Holder) -> None:
        self._store = store

    def all(self) -> tuple[StoredGeneration, ...]:
        """Return all of them, by number."""
        rows = map(StoredGeneration.decode, self._store.items(AREA).values())
        return tuple(sorted(rows, key=lambda row: row.number))

    @property
    def active(self) -> int:
        """The generation that is to serve; golden where none was named.

        Raises
        ------
        IntegrityError
            When the row is not a number.
        """
        value = self._store.get(*ACTIVE)
        if value is None:
            return 0
        if not (value.isdigit() and len(value) < _MOST_DIGITS):
            raise IntegrityError(f"generation: expected the number of one, got {value!r:.40}")
        return int(value)

    def find(self, number: int) -> StoredGeneration | None:
        """Return one, or None."""
        value = self._store.get(AREA, str(number))
        return None if value is None else StoredGeneration.decode(value)

    def save(
        self,
        number: int,
        data: bytes | memoryview,
        fields: Mapping[str, Any],
        also: Iterable[Row] = (),
        leaving_out: Container[int] = (),
        inputs: bytes = b"",
    ) -> None:
        """Save a generation, with rows that belong to it, in one commit; return when it is safe.

        `inputs`: the correction of inputs that belongs to it; empty for none.
        Blocks of this number, and of those that are left out, go if no other generation has them.

        Raises
        ------
        StoreError
            When it cannot be written; nothing is changed then.
        """
        view = memoryview(data)
        chunks = [*_chunks(view), *_chunks(memoryview(inputs))]
        names = tuple(map(Seal.block, chunks))
        held = self._store.block_names()
        new = {name: chunk for name, chunk in zip(names, chunks, strict=True) if name not in held}
        table = sha256(inputs).hex() if inputs else ""
        row = StoredGeneration(
            number, len(view), sha256(view).hex(), fields, names, len(inputs), table
        )
        self._store.commit(
            Changes(
                rows=[Row(AREA, str(number), row.encode()), *also],
                blocks=list(new.values()),
                dropped_blocks=self._unused(names, leaving_out=leaving_out or (number,)),
            )
        )

    def mark(self, number: int, fields: Mapping[str, Any], also: Iterable[Row] = ()) -> None:
        """Change what is written to a generation; return when it is safe.

        Raises
        ------
        ValueError
            When it is not held.
        StoreError
            When it cannot be written; nothing is changed then.
        """
        found = self.find(number)
        if found is None:
            raise ValueError(f"generation: expected one that the store holds, got {number}")
        found.fields = fields
        self._store.commit(Changes(rows=[Row(AREA, str(number), found.encode()), *also]))

    def load(self, number: int) -> bytes:
        """Return a generation's bytes, each block and the whole verified; raises as `read`."""
        return self.read(number)[0]

    def read(self, number: int) -> tuple[bytes, bytes]:
        """Return a generation's bytes and its correction of inputs, empty for none; verified.

        Raises
        ------
        ValueError
            When it is not held.
        IntegrityError
            When a block is missing or damaged.
        StoreError
            When the file cannot be read.
        """
        found = self.find(number)
        if found is None:
            raise ValueError(f"generation: expected one that the store holds, got {number}")
        parts = []
        for name in found.blocks:
            data = self._store.block(name)
            if data is None:
                raise IntegrityError(f"generation {number}: the block {name.hex()[:16]} is missing")
            parts.append(data)
        count = -(-found.nbytes // BLOCK_BYTES)
        whole, inputs = b"".join(parts[:count]), b"".join(parts[count:])
        if (
            len(whole) != found.nbytes
            or len(inputs) != found.inputs_nbytes
            or sha256(whole).hex() != found.digest
            or (sha256(inputs).hex() if inputs else "") != found.inputs_digest
        ):
            raise IntegrityError(f"generation {number}: expected the bytes that were saved")
        return whole, inputs

    def drop(self, *numbers: int, also: Iterable[bytes] = ()) -> None:
        """Remove generations and the blocks that no other one has; return when it is safe.

        Parameters
        ----------
        numbers
            Of the generations; one that is not held is gone already.
        also
            Records for the journal, in the same commit.

        Raises
        ------
        ValueError
            For golden.
        StoreError
            When it cannot be written; nothing is changed then.
        """
        if 0 in numbers:
            raise ValueError("generation: golden cannot be dropped")
        self._store.commit(
            Changes(
                rows=[Row(AREA, str(number), None) for number in numbers],
                journal=list(also),
                dropped_blocks=self._unused((), leaving_out=numbers),
            )
        )

    def begin_anew(
        self, golden: bytes | memoryview, fields: Mapping[str, Any], also: Iterable[Row] = ()
    ) -> None:
        """Replace all generations by those of another file, golden alone; return when it is safe.

        Raises
        ------
        StoreError
            When it cannot be written; nothing is changed then.
        """
        held = tuple(row.number for row in self.all())
        gone = [Row(AREA, str(number), None) for number in held if number]
        self.save(0, golden, fields, [*gone, *also], leaving_out=held)

    def _unused(self, kept: Iterable[bytes], *, leaving_out: Container[int]) -> list[bytes]:
        """Return the blocks that nothing names once those left out are replaced or gone."""
        used = set(kept)
        for row in self.all():
            if row.number not in leaving_out:
                used.update(row.blocks)
        return sorted(self._store.block_names() - used)
