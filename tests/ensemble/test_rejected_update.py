"""A member whose new model file is rejected while the committee serves: the old one answers on."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.made_members import DigitsParts

import selfheal_edge as she
from selfheal_edge.store.journal import EventKind

Open = Callable[..., dict[str, she.SelfHealingModel]]
KEY = b"k" * 16


@pytest.fixture(scope="module")
def bad(files: dict[str, bytes], parts: DigitsParts) -> she.Baseline:
    """Return a baseline of another world, for a file whose answers are of another type."""
    noise = np.random.default_rng(1).uniform(0, 1, parts.calibration.shape).astype(np.float32)
    return she.calibrate(files["twin"], noise, parts.calibration_labels, seed=1)


@pytest.mark.parametrize("mode", ["inline", "background"])
def test_the_committee_reads_the_file_that_came_back(
    opened: Open,
    files: dict[str, bytes],
    baselines: dict[str, she.Baseline],
    parts: DigitsParts,
    tmp_path: Path,
    bad: she.Baseline,
    mode: Any,
) -> None:
    policy = she.Policy(trial_predictions=5000, mode=mode)
    store: dict[str, Any] = {"store": tmp_path / "store", "key": KEY, "policy": policy}
    she.SelfHealingModel(files["cnn"], baselines["cnn"], **store).close()
    with she.SelfHealingModel(files["twin"], bad, **store) as trial:
        committee = she.SelfHealingEnsemble({"one": trial, **opened("mlp")})
        source = committee.feedback_source("operator", KEY)
        weight = committee.weights["one"]
        latest = time.monotonic() + 120  # the worker may wait for the machine
        for n in itertools.takewhile(lambda _: time.monotonic() < latest, itertools.count()):
            x, label = parts.heldout[n % 200][np.newaxis], int(parts.heldout_labels[n % 200])
            answer = committee.infer(x)
            assert isinstance(answer, she.EnsemblePrediction)
            if trial.baseline.model_sha256 == baselines["cnn"].model_sha256:
                break
        trial.wait_healed(60)
        answers = committee.infer(parts.heldout[:60])
        assert isinstance(answers, she.EnsemblePredictions)
        assert answers.trusted.all()
        assert np.mean(answers.labels == parts.heldout_labels[:60]) > 0.9
        last = committee.infer(x)
        assert isinstance(last, she.EnsemblePrediction)
        assert all(one is not None and one.label == label for one in last.answers)
        told = [str(e.outcome) for e in committee.events if e.kind is EventKind.REPLACED]
        assert len(told) == 1
        assert "serves the model file of before" in told[0]
        assert 0 < committee.weights["one"] <= weight
        assert committee.feedback(label, id=last.id, source=source)
        assert sum(committee.weights.values()) == pytest.approx(1.0)
        assert trial.health.state == "healthy"
