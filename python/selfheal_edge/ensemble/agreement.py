"""How often members part on inputs of calibration, and whether their classes are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.ensemble.members import Member
from selfheal_edge.learning.bench import Bench
from selfheal_edge.learning.reference import LearningReference
from selfheal_edge.log import logger
from selfheal_edge.model import parts_of
from selfheal_edge.text import quoted
from selfheal_edge.tflite.arrays import dequantize, read_batch
from selfheal_edge.tflite.runtimes.protocol import RUNTIME_FAILURES, Array

__all__ = ["Agreement", "learn_agreement"]

_LEAST_OF_CLASS: Final = 5
_CLEAR: Final = 0.8
_LEAST: Final = 32
_DOUBT_Z: Final = 1.2816  # one side of 90 %


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """What each member answers to the same inputs of calibration."""

    labels: npt.NDArray[np.int64]
    """Shape (n, members); no rows where no inputs are known."""
    spread: float
    """Of a regressor's values over the inputs: 1 where that is not known."""

    def share(self, awake: Sequence[bool]) -> float | None:
        """Return the share of inputs on which those that are awake part; None where not known."""
        chosen = self.labels[:, np.array(awake, bool)]
        if len(chosen) < _LEAST or chosen.shape[1] < 2:
            return None
        return float((chosen != chosen[:, :1]).any(axis=1).mean())

    def largest_share(self, awake: Sequence[bool]) -> float | None:
        """Return the largest share that is likely: 90 % of calibrations show more of a larger one.

        The upper limit of Wilson (1927), so that few inputs make a cautious reference.
        """
        share, n = self.share(awake), len(self.labels)
        if share is None:
            return None
        z2 = _DOUBT_Z**2
        middle = share + z2 / (2 * n)
        width = _DOUBT_Z * float(np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)))
        return min(1.0, (middle + width) / (1 + z2 / n))


def _held(member: Member) -> Array | None:
    """Return inputs of a member's calibration as real numbers, shape (n, *its shape)."""
    try:
        reference = LearningReference.from_arrays(member.model.baseline.profile)
    except (ValueError, LookupError, TypeError):
        logger().warning("the calibration inputs of %s cannot be read", member.name, exc_info=True)
        return None
    if reference is None or len(member.input) != 1:
        return None
    spec = member.input[0]
    raw = reference.inputs.reshape(len(reference.inputs), *spec.shape)
    return np.asarray(dequantize(raw, spec), np.float32)


def _asked(member: Member, inputs: Array) -> tuple[npt.NDArray[np.int64], Array] | None:
    """Return what a member's golden weights answer, beside its stream; None where they cannot."""
    model = member.model
    try:
        bench = Bench(parts_of(model).session, model.baseline.output_kind)
    except ValueError:  # it keeps resources
        return None
    try:
        raw = read_batch(model.inputs, inputs, argument="inputs").rows[0]
        answers = bench.answers(np.ascontiguousarray(raw).reshape(inputs.shape))
        values = np.asarray(dequantize(answers.outputs, member.output), np.float64)
        return answers.labels, values.reshape(len(inputs), -1)
    except RUNTIME_FAILURES:
        logger().warning("%s could not be asked about calibration inputs", member.name)
        return None
    finally:
        bench.close()


def learn_agreement(members: Sequence[Member]) -> Agreement:
    """Ask every member about inputs that one of them was calibrated with.

    Golden weights answer, in instances of their own that are closed again: no monitor hears of it.
    Two members are refused where a class of one is clearly another class of the other.

    Parameters
    ----------
    members
        At least two, which `check_together` has passed.

    Returns
    -------
    Agreement
        Without rows for members of several inputs, for those that keep a state in resources, and
        for a calibration that kept no inputs.

    Raises
    ------
    ValueError
        With the names of two members whose classes are in another order.
    """
    inputs = next((held for held in map(_held, members) if held is not None), None)
    if inputs is None:
        return Agreement(np.empty((0, len(members)), np.int64), 1.0)
    asked = [_asked(member, inputs) for member in members]
    found = [one for one in asked if one is not None]
    if len(found) < len(members):
        return Agreement(np.empty((0, len(members)), np.int64), 1.0)
    labels = np.stack([labels for labels, _ in found], axis=1)
    if members[0].classes is None:
        spread = float(np.mean([values.std(axis=0).mean() for _, values in found]))
        return Agreement(np.empty((0, len(members)), np.int64), max(spread, 1e-9))
    for n, other in enumerate(members[1:], 1):
        _check_order(members[0], other, labels[:, 0], labels[:, n])
    return Agreement(labels, 1.0)


def _check_order(
    first: Member, other: Member, mine: npt.NDArray[np.int64], its: npt.NDArray[np.int64]
) -> None:
    """Refuse two members where a class of one is clearly another class of the other.

    That is, most inputs that one puts into class a the other puts into b, and hardly any that it
    puts into a: a bad member spreads its mistakes, another order of classes does not.
    """
    for a in np.unique(mine):
        of_a = its[mine == a]
        if len(of_a) < _LEAST_OF_CLASS:
            continue
        names, counts = np.unique(of_a, return_counts=True)
        b, count = int(names[counts.argmax()]), int(counts.max())
        back = mine[its == b]
        if b == a or count < _CLEAR * len(of_a) or np.mean(back == a) < _CLEAR:
            continue
        raise ValueError(
            f"models: expected classes in the same order, got class {a} of {quoted(first.name)} "
            f"for class {b} of {quoted(other.name)} on {count} of {len(of_a)} calibration inputs"
        )
