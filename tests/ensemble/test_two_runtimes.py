"""Members of two runtimes in one process."""

from __future__ import annotations

import contextlib
import os

import numpy as np
import pytest
from tests.made_members import BLIND, DigitsParts
from tests.support import RUNTIMES

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path

KEY = b"0123456789abcdef"


@pytest.mark.skipif(
    len(RUNTIMES) < 2 and "SELFHEAL_REQUIRE_BOTH" not in os.environ,
    reason="needs both runtimes in one environment",
)
def test_a_member_of_each_runtime(parts: DigitsParts) -> None:
    """They answer alike and together, one of them sleeps while it is damaged, and comes back."""
    with contextlib.ExitStack() as stack:
        models = {}
        for name in ("litert", "tflite_runtime"):
            baseline = she.calibrate(
                digits_model_path(), parts.calibration, parts.calibration_labels, runtime=name
            )
            models[name] = stack.enter_context(
                she.SelfHealingModel(digits_model_path(), baseline, runtime=name, policy=BLIND)
            )
        assert [m.health.fingerprint.runtime for m in models.values()] == list(models)
        committee = stack.enter_context(she.SelfHealingEnsemble(models))
        source = committee.feedback_source("operator", KEY)

        def serve(first: int, last: int) -> list[bool]:
            right = []
            for n in range(first, last):
                answer = committee.infer(parts.heldout[n : n + 1])
                assert isinstance(answer, she.EnsemblePrediction)
                label = int(parts.heldout_labels[n])
                right.append(answer.label == label)
                committee.feedback(label, id=answer.id, source=source)
            return right

        assert np.mean(serve(0, 50)) > 0.9
        before = committee.weights
        for name, model in models.items():
            she.redteam.inject(model).flip_bits(400, seed=0)
            model.weights.scrub()
            assert committee.weights[name] == 0.0
            assert np.mean(serve(50, 80)) > 0.9  # the other one alone
            model.heal = "all"
            model.weights.scrub()
            serve(80, 110)
            assert committee.weights[name] >= 0.8 * before[name]
            model.heal = "observe"
