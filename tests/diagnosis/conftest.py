"""A small model of the package's own, calibrated with labels, and streams that it has not seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits

Inputs = npt.NDArray[np.int8]
INTERVAL = 100_000


@pytest.fixture(scope="session")
def baseline() -> she.Baseline:
    digits = load_digits()
    return she.calibrate(
        digits_model_path(),
        digits.calibration_inputs,
        digits.calibration_labels,
        false_alarm_interval=INTERVAL,
        seed=1,
    )


@pytest.fixture(scope="session")
def pool() -> tuple[Inputs, npt.NDArray[np.int8]]:
    digits = load_digits()
    return digits.heldout_inputs, digits.heldout_labels
