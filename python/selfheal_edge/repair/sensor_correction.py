"""Undo what a faulty sensor does: gain and offset of a channel, or a channel that says nothing."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.learning.alignment import INPUT_GAIN, affine, window_moments
from selfheal_edge.learning.material import LEAST_WINDOW, Material
from selfheal_edge.learning.patch import InputMap, Patch
from selfheal_edge.learning.writing import correct_inputs

__all__ = ["SensorCorrection"]

Floats = npt.NDArray[np.float64]

_APART: Final = 0.5  # reference spreads, or the logarithm of their ratio
_APART_ALONE: Final = 0.1  # of an input that is one signal
_TIMES_USUAL: Final = 4.0
_MOST_SHARE: Final = 0.25
_STILL: Final = 0.05  # of the reference's spread


class SensorCorrection:
    """Correct the few channels that stand apart; all of an input that is one signal.

    A channel that hardly varies any more is replaced by its mean in calibration, if golden does
    better so on its held inputs: with that channel broken on purpose, against replaced.
    """

    name = "sensor_correction"
    learns: Final = True

    def propose(self, material: Material, start: Patch) -> Patch | str:
        """Return gains and offsets; gains of channels that speak lie within [1/3, 3]."""
        reason = _why_not(material, start)
        if reason:
            return reason
        reference = material.reference
        now = window_moments(reference, material.window)
        then = reference.features.of_mix(material.shares)
        apart, still = _faulty(then, now, is_one=reference.is_shared)
        if not apart.any():
            return "no channel stands apart from the others"
        gain, offset = affine(*then, *now, 1.0, INPUT_GAIN)
        gain[still], offset[still] = 0.0, then[0][still]
        gain[~apart], offset[~apart] = 1.0, 0.0
        correction = _as_map(reference.axis, gain, offset)
        if still.any() and not _helps(material, correction, still, now[0]):
            gain[still], offset[still] = 1.0, 0.0
            still[:] = False
            correction = _as_map(reference.axis, gain, offset)
        if not material.knows_mix and material.looks_skewed(correction):
            return "the mix of classes may have moved, and labels do not tell how"
        changed = int(((gain != 1.0) | (offset != 0.0)).sum())
        if not changed:
            return "a broken channel is better left than replaced"
        text = f"{changed} of {len(gain)} channels corrected, {int(still.sum())} of them replaced"
        return correct_inputs(material, start, correction, text)


def _why_not(material: Material, start: Patch) -> str:
    if material.cause is not Cause.SENSOR_FAULT:
        return "no sensor is at fault"
    if not material.can_correct_inputs or start.inputs is not None:
        return "inputs cannot be corrected, or are already"
    if len(material.window) < LEAST_WINDOW:
        return f"{len(material.window)} inputs of at least {LEAST_WINDOW}"
    if material.mix_moved and not material.knows_mix:
        return "the mix of classes moved, and labels do not tell how"
    return ""


def _as_map(axis: int, gain: Floats, offset: Floats) -> InputMap:
    return InputMap(axis, gain.astype(np.float32), offset.astype(np.float32))


def _faulty(
    then: tuple[Floats, Floats], now: tuple[Floats, Floats], *, is_one: bool
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which channels stand apart, and which of these say nothing any more."""
    usual = np.maximum(then[1], 1e-3 * max(float(then[1].max()), 1e-12))
    moved = np.abs(now[0] - then[0]) / usual
    ratio = np.maximum(now[1], 1e-6 * usual) / usual
    far = np.maximum(moved, np.abs(np.log(ratio)))
    apart = far > (_APART_ALONE if is_one else max(_APART, _TIMES_USUAL * float(np.median(far))))
    if not is_one and apart.mean() > _MOST_SHARE:
        apart[:] = False  # that is a drift of all, not a fault of some
    return apart, apart & (ratio < _STILL) & (not is_one)


def _helps(
    material: Material, correction: InputMap, still: npt.NDArray[np.bool_], values: Floats
) -> bool:
    """Whether golden names more held inputs rightly with a broken channel's reference than without.

    The fault is laid on the held inputs as a correction: those channels take the window's value.
    """
    count = len(still)
    fault = _as_map(
        correction.axis, np.where(still, 0.0, np.ones(count)), np.where(still, values, 0.0)
    )
    mended = _as_map(
        correction.axis,
        np.where(still, 0.0, np.ones(count)),
        np.where(still, correction.offset, 0.0),
    )
    reference = material.reference
    right = [
        (material.golden_on(reference.inputs, change).labels == reference.labels).mean()
        for change in (fault, mended)
    ]
    return bool(right[1] > right[0])
