"""One budget for several models."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support import Array

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits


def noisy(x: Array, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return np.clip(x * 0.5 + rng.normal(0, 60, x.shape) - 40, -128, 127).astype(np.int8)


def test_models_share_a_budget(digits_baseline: she.Baseline) -> None:
    budget = she.RepairBudget(1.0, 60.0, clock=lambda: 0.0)
    assert budget.left == (4.0, 240.0)
    for _ in range(4):
        budget.begin()
    x = load_digits().heldout_inputs
    said = []
    for seed in range(2):
        with she.SelfHealingModel(digits_model_path(), digits_baseline, budget=budget) as model:
            drifted = noisy(x[np.random.default_rng(seed).integers(0, len(x), 300)], seed)
            model.predict(drifted)
            said += [e.outcome for e in model.events if "budget" in str(e.outcome)]
            assert model.health.generation == 0
            assert model.health.budget == budget.left
    assert any("the budget has 0.00 of a repair left" in str(text) for text in said)


def test_what_is_no_budget(digits_baseline: she.Baseline) -> None:
    with pytest.raises(TypeError, match="budget: expected a RepairBudget"):
        she.SelfHealingModel(digits_model_path(), digits_baseline, budget=3)  # type: ignore[arg-type]
