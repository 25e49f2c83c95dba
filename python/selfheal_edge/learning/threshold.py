"""Set the threshold above which an autoencoder's input is abnormal, from confirmed normals.

Golden's is the reconstruction error that 99 % of calibration lie below. In another condition errors
of normal inputs are larger or smaller all over; so the threshold is golden's times the median error
of inputs that were confirmed to be normal there, over that of calibration's. Fewer than half of
them may be false without moving it far, and it is never moved by more than three times.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.learning.material import Material, Note
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.writing import after

__all__ = ["set_threshold"]

Floats = npt.NDArray[np.float64]

_LEAST_NORMALS: Final = 8
_MOST: Final = 3.0


def set_threshold(material: Material, start: Patch) -> Patch | str:
    """Return a patch whose threshold confirmed normals have set, or why there is none.

    Its note has what it would say of each labelled input, had that not been said.
    """
    labels, golden = material.labelled.labels, material.bench.threshold
    normal = labels == 0
    if golden is None or not material.can_correct_inputs:
        return "there is no place for a threshold"
    if int(normal.sum()) < _LEAST_NORMALS:
        return f"{int(normal.sum())} of at least {_LEAST_NORMALS} confirmed normals"
    usual = material.golden_on(material.reference.inputs).errors
    errors = material.bench.answers(material.labelled.inputs, start).errors
    assert usual is not None, "it is an autoencoder"
    assert errors is not None
    usual_error = max(float(np.median(usual)), 1e-30)

    def threshold(those: npt.NDArray[np.bool_]) -> float:
        moved = float(np.median(errors[those])) / usual_error
        return float(np.float32(golden * np.clip(moved, 1.0 / _MOST, _MOST)))

    each = np.arange(len(labels))
    without = np.array([threshold(normal & (each != n)) for n in each])
    found = threshold(normal)
    text = f"threshold {found:.3g} ({golden:.3g} in calibration) by {int(normal.sum())} normals"
    patch = replace(start, text=after(start, text), threshold=found)
    note = material.noted(start) or Note(np.empty((0, 0)), np.empty(0))
    return material.note(patch, replace(note, out_of_fold=(errors > without).astype(np.int64)))
