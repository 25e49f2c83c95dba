"""Read the arguments of `feedback`: what is said, of which answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from selfheal_edge.learning.feedback import Claim
from selfheal_edge.learning.labels import Label, LabelSpace
from selfheal_edge.learning.sources import FeedbackSource, SignedLabel

__all__ = ["MOST_ID", "read_claims", "read_ids"]

MOST_ID: Final = 1 << 63
"""Ids are less."""
_MOST_IDS: Final = 65_536


def read_claims(
    space: LabelSpace,
    label: Any,
    correct: Any,
    id: Any,
    source: FeedbackSource | str | None,
    latest: int | None,
) -> tuple[tuple[Claim, ...], bool]:
    """Return what is said of each answer, and whether many were spoken of.

    Parameters
    ----------
    space
        What labels may be.
    label, correct, id, source
        As `SelfHealingModel.feedback`.
    latest
        The answer that is meant without an id; None: there is none.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came.
    """
    is_one = isinstance(label, SignedLabel)
    signed = [label] if is_one else label
    if _are_signed(signed):
        if correct is not None or id is not None or source is not None:
            raise TypeError("label: expected signed labels alone, got other arguments too")
        return tuple(_signed(space, one) for one in signed), not is_one
    if label is None and correct is None:
        raise TypeError("label, correct: expected at least one of them, got neither")
    if not _is_many(id):
        if id is None and latest is None:
            raise ValueError("id: expected a prediction before the first feedback, got none")
        one = latest if id is None else _read_id(id)
        assert one is not None
        said = None if label is None else space.read(label)
        return (_claim(space, one, said, _read_correct(correct, 1)[0], source),), False
    ids = read_ids(id)
    labels: Sequence[Any] = [None] * len(ids)
    if label is not None:
        labels = space.read_many(label, len(ids))
    return tuple(
        _claim(space, one, said, is_right, source)
        for one, said, is_right in zip(ids, labels, _read_correct(correct, len(ids)), strict=True)
    ), True


def _signed(space: LabelSpace, signed: SignedLabel) -> Claim:
    said = None if signed.label is None else space.read(signed.label)
    if said is None and signed.correct is None:
        raise ValueError("signed label: expected a label, or right or wrong, got neither")
    return _claim(space, signed.id, said, signed.correct, None, signed)


def _claim(
    space: LabelSpace,
    id: int,
    label: Label | None,
    is_right: bool | None,
    source: FeedbackSource | str | None,
    signed: SignedLabel | None = None,
) -> Claim:
    if space.is_normality:
        return Claim(id, 0 if is_right else 1, None, source, signed)
    return Claim(id, label, is_right, source, signed)


def _are_signed(label: Any) -> bool:
    is_list = isinstance(label, (list, tuple)) and bool(label)
    return is_list and all(isinstance(one, SignedLabel) for one in label)


def _is_many(id: Any) -> bool:
    return isinstance(id, (list, tuple)) or (isinstance(id, np.ndarray) and id.ndim > 0)


def _is_bool(value: object) -> bool:
    return isinstance(value, (bool, np.bool_))


def _read_id(id: Any, argument: str = "id") -> int:
    if isinstance(id, np.ndarray) and id.ndim == 0:
        id = id[()]
    if _is_bool(id) or not isinstance(id, (int, np.integer)):
        raise TypeError(f"{argument}: expected a prediction's id, got {type(id).__name__}")
    if not 0 <= int(id) < MOST_ID:
        raise ValueError(f"{argument}: expected a prediction's id, got {int(id)}")
    return int(id)


def read_ids(ids: Any) -> list[int]:
    """Return ids, checked: of one, or of many in a list or an array.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came.
    """
    if not _is_many(ids):
        return [_read_id(ids)]
    if isinstance(ids, np.ndarray) and (ids.ndim != 1 or ids.dtype.kind not in "iu"):
        raise TypeError(
            f"id: expected a vector of integers, got {ids.dtype} of shape {list(ids.shape)}"
        )
    if len(ids) > _MOST_IDS:
        raise ValueError(f"id: expected at most {_MOST_IDS} at once, got {len(ids)}")
    return [_read_id(one, f"id[{n}]") for n, one in enumerate(ids)]


def _read_correct(correct: Any, count: int) -> list[bool | None]:
    if correct is None or _is_bool(correct):
        return [None if correct is None else bool(correct)] * count
    if _is_many(correct) and len(correct) == count and all(map(_is_bool, correct)):
        return [bool(one) for one in correct]
    got = f"{len(correct)} of them" if _is_many(correct) else type(correct).__name__
    raise TypeError(f"correct: expected a bool, or one for each of {count} ids, got {got}")
