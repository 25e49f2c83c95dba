"""The temperature that calibration fits."""

from __future__ import annotations

import numpy as np
import pytest

from selfheal_edge.calibration.temperature import fit_temperature
from selfheal_edge.monitoring.baseline import Baseline
from selfheal_edge.tflite.runtimes.protocol import TensorSpec

REAL = TensorSpec("y", (1, 4), np.dtype(np.float32), 0.0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("true", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_it_is_the_one_that_made_the_labels(true: float, kind: str) -> None:
    rng = np.random.default_rng(0)
    logits = 3.0 * rng.standard_normal((20_000, 4))
    p = np.exp(logits / true)
    p /= p.sum(axis=1, keepdims=True)
    labels = (rng.random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1)
    told = np.exp(logits)
    told /= told.sum(axis=1, keepdims=True)
    outputs = logits if kind == "logits" else told
    found = fit_temperature(list(outputs.astype(np.float32)), REAL, kind, labels)  # type: ignore[arg-type]
    assert found == pytest.approx(true, rel=0.05)


def test_it_stays_within_bounds() -> None:
    sure = np.eye(4, dtype=np.float32)[[0, 1, 2, 3] * 20]
    right = np.array([0, 1, 2, 3] * 20)
    assert 0.25 <= fit_temperature(list(sure), REAL, "probabilities", right) < 0.5
    wrong = fit_temperature(list(sure), REAL, "probabilities", (right + 1) % 4)
    assert wrong == pytest.approx(8.0, rel=0.01)
    assert fit_temperature([np.full(4, np.nan, np.float32)], REAL, "logits", right[:1]) == 1.0


def test_a_baseline_keeps_it(digits_baseline: Baseline) -> None:
    again = Baseline.from_bytes(digits_baseline.to_bytes())
    assert again.temperature == digits_baseline.temperature
