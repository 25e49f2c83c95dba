"""What may be said of an answer: a class, or what a regressor should have answered."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, Union

import numpy as np
import numpy.typing as npt

__all__ = ["Label", "LabelSpace", "label_bytes", "label_from_plain", "plain_label"]

Label: TypeAlias = Union[int, "npt.NDArray[np.float32]"]
"""A class, or a regressor's target: float32, of the answer's shape without a leading 1."""

_MOST_TARGET: Final = 4096
_MOST_CLASS: Final = (1 << 31) - 1


def label_bytes(label: Label | None) -> bytes:
    """Return what a signature is over; a class and a number of equal value differ."""
    if label is None:
        return b"-"
    if isinstance(label, (int, np.integer)) and not isinstance(label, bool):
        return b"c" + struct.pack("<q", int(label))
    target = np.asarray(label, "<f4")
    return b"t" + struct.pack(f"<I{target.ndim}I", target.ndim, *target.shape) + target.tobytes()


def plain_label(label: Label | None) -> int | list[Any] | float | None:
    """Return plain data, for JSON; a target's numbers are told apart from a class by their dot."""
    if label is None or isinstance(label, int):
        return label
    if isinstance(label, np.integer):
        return int(label)
    found: list[Any] | float = np.asarray(label, np.float32).astype(np.float64).tolist()
    return found


def label_from_plain(label: Any) -> Label | None:
    """Read what `plain_label` returned.

    Raises
    ------
    TypeError, ValueError
        When it is not that.
    """
    if label is None:
        return None
    if isinstance(label, bool):
        raise TypeError("label: expected a class or numbers, got a bool")
    if isinstance(label, int):
        return label
    target = np.asarray(label, np.float32)
    if target.size > _MOST_TARGET:
        raise ValueError(f"label: expected at most {_MOST_TARGET} numbers, got {target.size}")
    return target


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """What labels a model's answers may get."""

    classes: int | None
    """Labels are 0 to this - 1. None: of a detector whose classes have no known number, or of a
    model without classes."""
    target: tuple[int, ...] | None = None
    """The shape of a regressor's target; None for models with classes."""
    is_normality: bool = False
    """Whether it is an autoencoder, of whose inputs ``correct`` says that they are normal: class 0,
    and not abnormal: 1."""

    def read(self, label: Any, argument: str = "label") -> Label:
        """Return a label, checked.

        Raises
        ------
        TypeError, ValueError
            Naming the argument, what was expected and what came.
        """
        if self.is_normality:
            raise TypeError(
                f"{argument}: expected None, as an autoencoder names no classes: correct=True says "
                f"that its input is normal, False that it is not, got {type(label).__name__}"
            )
        if self.target is not None:
            return self._target(label, self.target, argument)
        most = _MOST_CLASS if self.classes is None else self.classes - 1
        if isinstance(label, np.ndarray) and label.ndim == 0:
            label = label[()]
        if isinstance(label, (bool, np.bool_)) or not isinstance(label, (int, np.integer)):
            raise TypeError(
                f"{argument}: expected an integer from 0 to {most}, got {type(label).__name__}"
            )
        if not 0 <= int(label) <= most:
            raise ValueError(f"{argument}: expected a class from 0 to {most}, got {int(label)}")
        return int(label)

    def _target(self, label: Any, shape: tuple[int, ...], argument: str) -> npt.NDArray[np.float32]:
        given = np.asarray(label)
        if given.dtype.kind not in "iuf":
            raise TypeError(f"{argument}: expected numbers, got {given.dtype}")
        if given.size > _MOST_TARGET:
            raise ValueError(f"{argument}: expected at most {_MOST_TARGET} numbers")
        elements = int(np.prod(shape, dtype=np.int64))
        if given.shape not in (shape, (1, *shape)) and not (given.size == elements == 1):
            raise ValueError(f"{argument}: expected shape {list(shape)}, got {list(given.shape)}")
        with np.errstate(over="ignore"):
            target = given.astype(np.float32).reshape(shape)
        if not np.isfinite(target).all():
            raise ValueError(f"{argument}: expected finite numbers, got NaN or infinity")
        return target

    def read_many(self, labels: Any, count: int) -> Sequence[Label]:
        """Return one label for each of `count` answers, checked before anything is done.

        Raises
        ------
        TypeError, ValueError
            Naming the first that is wrong.
        """
        if isinstance(labels, (str, bytes)) or not hasattr(labels, "__len__"):
            raise TypeError(
                f"label: expected a label for each of {count} ids, got {type(labels).__name__}"
            )
        if len(labels) != count:
            raise ValueError(f"label: expected {count} labels, one for each id, got {len(labels)}")
        return [self.read(one, f"label[{n}]") for n, one in enumerate(labels)]

    def agrees(self, label: Label, predicted: int) -> bool | None:
        """Whether a label is what the model answered; None where that cannot be told."""
        return None if self.target is not None else int(label) == predicted
