"""A recurrent model learns by its head alone, and nothing that learns is heard in its answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.operator_models import sequence_model
from tests.support import Raw, answers, kinds, same

import selfheal_edge as she
from selfheal_edge.tflite.runtimes.protocol import RuntimeName

Array = npt.NDArray[Any]
FRAMES = 2000
DRIFTS_AT = 300


@pytest.fixture(scope="module")
def lstm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recurrent") / "lstm.tflite"
    path.write_bytes(sequence_model("float32"))
    return path


def frames(count: int, seed: int) -> Array:
    """Return frames of four steps of six features, one stream."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.0, 1.0, (count, 1, 4, 6)).astype(np.float32)


def moved(frame: Array) -> Array:
    return np.asarray(0.4 * frame + 1.2, np.float32)


@pytest.fixture
def stream(
    lstm: Path, runtime: RuntimeName
) -> Iterator[tuple[she.SelfHealingModel, she.FeedbackSource, Raw]]:
    baseline = she.calibrate(lstm, frames(200, 1), runtime=runtime, seed=1)
    policy = she.Policy(heal="observe", owner="owner", known_answers_every=97, under_attack="vote")
    with she.SelfHealingModel(lstm, baseline, policy=policy, runtime=runtime, seed=1) as model:
        place = model.health.fingerprint
        raw = Raw(lstm, place.runtime, place.kernels)  # type: ignore[arg-type]
        yield model, model.feedback_source("owner", key=bytes(range(32))), raw


@pytest.mark.slow
def test_answers_are_the_raw_interpreters_while_it_learns(
    stream: tuple[she.SelfHealingModel, she.FeedbackSource, Raw],
) -> None:
    """Diagnoses, proposals, trials and known answers ask instances of their own."""
    model, owner, raw = stream
    x, right = frames(FRAMES, 2), 0
    for n in range(FRAMES):
        frame = moved(x[n]) if n >= DRIFTS_AT else x[n]
        right += same(answers(model, frame), raw.run([frame]))
        if n >= DRIFTS_AT and n % 200 == 0:
            for question in model.wanted_labels(16):
                model.feedback(int(n % 3), id=question.id, source=owner)
    assert right == FRAMES
    learned = [e.outcome for e in model.events if "would have served" in str(e.outcome)]
    assert len(learned) >= 2, kinds(model)
    assert all("inputs" not in str(outcome).split(";")[0] for outcome in learned)
