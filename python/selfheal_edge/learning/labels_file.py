"""Questions and answers as files: signed JSON lines, for any transport.

The first line says what the file is and which model it is of; every line ends with a tag over it
and its place, HMAC-SHA256 under the key of both sides, or a checksum where there is no key.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from selfheal_edge.errors import IntegrityError
from selfheal_edge.hashing import equal_secrets, hmac_sha256
from selfheal_edge.learning.questions import Question
from selfheal_edge.learning.sources import SignedLabel
from selfheal_edge.tflite.runtimes.protocol import Array

__all__ = ["Asked", "read_answers", "read_questions", "write_answers", "write_questions"]

_QUESTIONS: Final = "selfheal-edge questions"
_ANSWERS: Final = "selfheal-edge answers"
_VERSION: Final = 1
_MOST_LINES: Final = 4096
_MOST_BYTES: Final = 256 << 20
_DOMAIN: Final = b"selfheal-edge labels file\0"


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A question as it came in a file."""

    id: int
    answers: tuple[int, ...]
    reason: str
    inputs: tuple[Array, ...] | None


def _line(fields: dict[str, Any], number: int, key: bytes | None) -> str:
    body = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    tag = hmac_sha256(key or b"", _DOMAIN + number.to_bytes(8, "little") + body.encode())
    return body[:-1] + f',"seal":"{tag.hex()}"}}\n'


def _write(kind: str, model: str, lines: Iterable[dict[str, Any]], key: bytes | None) -> bytes:
    rows = list(lines)
    head = {"format": kind, "version": _VERSION, "model": model, "lines": len(rows)}
    return "".join(_line(one, n, key) for n, one in enumerate([head, *rows])).encode()


def _read(data: bytes, kind: str, key: bytes | None) -> tuple[str, list[dict[str, Any]]]:
    """Read all lines or none."""
    if len(data) > _MOST_BYTES:
        raise IntegrityError(f"file: expected at most {_MOST_BYTES} bytes, got {len(data)}")
    rows: list[dict[str, Any]] = []
    lines = data.splitlines(keepends=True)
    if len(lines) > _MOST_LINES + 1:
        raise IntegrityError(f"file: expected at most {_MOST_LINES} lines, got {len(lines) - 1}")
    for number, line in enumerate(lines):
        try:
            fields = json.loads(line)
            tag = bytes.fromhex(fields.pop("seal"))
            expected = json.loads(_line(fields, number, key))["seal"]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError(
                f"line {number + 1}: expected a signed line, got {error}"
            ) from None
        if not equal_secrets(bytes.fromhex(expected), tag):
            how = "the key that it was signed with" if key else "an unchanged file"
            raise IntegrityError(f"line {number + 1}: expected {how}")
        rows.append(fields)
    head = rows[0] if rows else {}
    if head.get("format") != kind or head.get("version") != _VERSION:
        raise IntegrityError(f"file: expected {kind!r} of version {_VERSION}")
    if head.get("lines") != len(rows) - 1:
        raise IntegrityError(f"file: expected {head.get('lines')} lines, got {len(rows) - 1}")
    return str(head.get("model")), rows[1:]


def write_questions(model: str, questions: Sequence[Question], key: bytes | None = None) -> bytes:
    """Return a file of questions, with their inputs where there are any.

    Parameters
    ----------
    model
        SHA-256 of the model file in hexadecimal.
    questions
        At most 4096.
    key
        Of both sides; None: only accidents are found.
    """
    return _write(_QUESTIONS, model, [_question(one) for one in questions], key)


def _question(one: Question) -> dict[str, Any]:
    given = one.input
    arrays = () if given is None else given if isinstance(given, tuple) else (given,)
    inputs = [
        {
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "data": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode(),
        }
        for array in arrays
    ]
    return {
        "id": one.id,
        "answers": list(one.answers),
        "reason": one.reason,
        "inputs": inputs or None,
    }


def read_questions(data: bytes, key: bytes | None = None) -> tuple[str, tuple[Asked, ...]]:
    """Read a file of questions; return the model's SHA-256, and them.

    Raises
    ------
    IntegrityError
        When a line was changed, is missing, or was signed with another key.
    """
    model, rows = _read(data, _QUESTIONS, key)
    try:
        return model, tuple(
            Asked(
                int(row["id"]),
                tuple(int(c) for c in row["answers"]),
                str(row["reason"]),
                None if row["inputs"] is None else tuple(_array(one) for one in row["inputs"]),
            )
            for row in rows
        )
    except (ValueError, LookupError, TypeError) as error:
        raise IntegrityError(f"file: expected questions, got {error}") from None


def _array(fields: dict[str, Any]) -> Array:
    kind = np.dtype(str(fields["dtype"]))
    if kind.hasobject:
        raise ValueError("objects")
    shape = tuple(int(n) for n in fields["shape"])
    data = base64.b64decode(fields["data"])
    return np.asarray(np.frombuffer(data, kind).reshape(shape).copy())


def write_answers(model: str, answers: Sequence[SignedLabel], key: bytes | None = None) -> bytes:
    """Return a file of signed labels, in the order in which they were signed."""
    rows = [one.to_dict() for one in sorted(answers, key=lambda one: one.counter)]
    return _write(_ANSWERS, model, rows, key)


def read_answers(data: bytes, key: bytes | None = None) -> tuple[str, tuple[SignedLabel, ...]]:
    """Read a file of signed labels; return the model's SHA-256, and them. Raises likewise."""
    model, rows = _read(data, _ANSWERS, key)
    try:
        return model, tuple(SignedLabel.from_dict(row) for row in rows)
    except ValueError as error:
        raise IntegrityError(f"file: expected answers, got {error}") from None
