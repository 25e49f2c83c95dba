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


@pytest.mark.slow
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
            answer = committee.infer(parts.heldout[n % 200][np.newaxis])
            assert isinstance(answer, she.EnsemblePrediction)
            if trial.baseline.model_sha256 == baselines["cnn"].model_sha256:
                break
        trial.wait_healed(60)
        answers = committee.infer(parts.heldout[:60])
        assert isinstance(answers, she.EnsemblePredictions)
        assert answers.trusted.all()
        truth = parts.heldout_labels[:60]
        named = np.array([[m.label if m else -1 for m in one.answers] for one in answers.answers])
        assert (np.mean(named == truth[:, np.newaxis], axis=0) > 0.9).all()
        n = int(np.flatnonzero((named == truth[:, np.newaxis]).all(axis=1))[0])
        last, label = committee.infer(parts.heldout[n : n + 1]), int(truth[n])
        assert isinstance(last, she.EnsemblePrediction)
        assert [one and one.label for one in last.answers] == [label, label]
        told = [str(e.outcome) for e in committee.events if e.kind is EventKind.REPLACED]
        assert len(told) == 1
        assert "serves the model file of before" in told[0]
        assert 0 < committee.weights["one"] <= weight
        assert committee.feedback(label, id=last.id, source=source)
        assert sum(committee.weights.values()) == pytest.approx(1.0)
        assert trial.health.state == "healthy"
