"""Answers from verified bytes: every byte that executes is checked at each inference."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support import executing, flip

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.model import parts_of

IDLE: dict[str, Any] = {"scrub_bytes_per_predict": 0, "keyed_bytes_per_predict": 0}


class Attack(threading.Thread):
    """Flips single bits of the weights that execute, without a pause, until told to stop."""

    def __init__(self, model: she.SelfHealingModel) -> None:
        super().__init__(daemon=True)
        self.model, self.done, self.flips = model, threading.Event(), 0
        self.image = executing(model)
        regions = model.weights.images[self.image].regions.values()
        self.places = np.concatenate(
            [np.arange(r.offset, r.offset + r.nbytes) for r in regions if r.kind == "weights"]
        )

    def run(self) -> None:
        rng = np.random.default_rng(1)
        while not self.done.wait(rng.exponential(2e-3)):
            memory = parts_of(self.model).weights.images[self.image].live
            memory[int(rng.choice(self.places))] ^= np.uint8(1 << int(rng.integers(8)))
            self.flips += 1


@pytest.mark.parametrize("verify", ["before", "around"])
def test_every_byte_is_checked_before_an_answer(digits_baseline: she.Baseline, verify: Any) -> None:
    inputs = load_digits().heldout_inputs[:32, np.newaxis]
    policy = she.Policy(verify=verify, **IDLE)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
        expected = [np.asarray(model.predict(x)) for x in inputs]
        rng = np.random.default_rng(3)
        nbytes = model.weights.images[executing(model)].nbytes
        for n, x in enumerate(inputs):
            flip(model, int(rng.integers(nbytes)), 1 << int(rng.integers(8)))
            answer = model.infer(x)
            assert np.array_equal(np.asarray(answer.output), expected[n])
            assert answer.verified == verify
        assert model.health.corrupt_blocks == len(inputs)
        batch = model.infer(inputs)
        assert batch.verified == (verify,) * len(inputs)
        assert model.infer(inputs[0]).trusted


def test_a_budget_is_timed_here_and_says_what_it_buys(digits_baseline: she.Baseline) -> None:
    """All bytes where the share has room for them, a slice where it has not, none without."""
    x = load_digits().heldout_inputs[:1]

    def opened(**changes: Any) -> she.SelfHealingModel:
        policy = she.Policy(keyed_bytes_per_predict=0, sweep_seconds=None, **changes)
        return she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy)

    # A check of these few kilobytes takes less than an inference's time, and more than 1e-6 of it.
    for _ in range(20):  # on a busy machine one of some tries
        model = opened(integrity_budget=1.0)
        if model.health.detection_latency.predictions == 0:
            break
        model.close()
    with model:
        assert model.health.detection_latency.predictions == 0
        assert model.health.detection_latency.seconds == 0
        expected = np.asarray(model.predict(x))
        flip(model, 700, 16)
        answer = model.infer(x)
        assert answer.verified == "before"
        assert np.array_equal(np.asarray(answer.output), expected)
    with opened(integrity_budget=1e-6) as model:
        latency = model.health.detection_latency
        assert latency.predictions
        assert latency.seconds
        assert latency.predictions > 0
        assert model.infer(x).verified is None
        assert model.health.to_dict()["detection_latency"]["predictions"] == latency.predictions
    with opened(scrub_bytes_per_predict=1024) as model:
        size = max(image.nbytes for image in model.weights.images.values())
        blocks = -(-size // 512)
        assert model.health.detection_latency.predictions == -(-blocks // 2)
        flip(model, 700, 1)
        for _ in range(-(-size // 1024) + 1):
            model.predict(x)
        assert model.health.corrupt_blocks == 1
    with opened(integrity_budget=0) as model:
        assert model.health.detection_latency.predictions is None
        assert model.infer(x).verified is None


def test_around_gives_no_wrong_answer_while_bits_flip_all_the_time(
    digits_baseline: she.Baseline,
) -> None:
    inputs = load_digits().heldout_inputs[:64, np.newaxis]
    policy = she.Policy(verify="around", known_answers_every=None, **IDLE)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
        expected = [np.asarray(model.predict(x)).tobytes() for x in inputs]
        attack = Attack(model)
        attack.start()
        try:
            for _ in range(40):
                for x, right in zip(inputs, expected, strict=True):
                    answer = model.infer(x)
                    if answer.verified == "around":
                        assert np.asarray(answer.output).tobytes() == right
                    else:
                        assert not answer.trusted
        finally:
            attack.done.set()
            attack.join()
        assert attack.flips > 0


@pytest.mark.slow
def test_around_asks_a_recurrent_model_again_from_its_state(shared_models: Path) -> None:
    path = shared_models / "mnist_lstm_int8.tflite"
    inputs = np.random.default_rng(5).integers(-128, 128, (60, 1, 28, 28), np.int8)
    baseline = she.calibrate(path, inputs, seed=0)
    policy = she.Policy(verify="around", known_answers_every=None, **IDLE)
    with she.SelfHealingModel(path, baseline, policy=policy) as model:
        expected = [np.asarray(model.predict(x)).tobytes() for x in inputs]
        model.reset_state()
        rng = np.random.default_rng(2)
        regions = [
            r for r in model.weights.images["source"].regions.values() if r.kind == "weights"
        ]
        for n, x in enumerate(inputs):
            region = regions[int(rng.integers(len(regions)))]
            flip(model, region.offset + int(rng.integers(region.nbytes)), 64)
            answer = model.infer(x)
            assert np.asarray(answer.output).tobytes() == expected[n], n
            # Its biases execute from copies that the runtime has made.
            assert answer.verified is None
        assert model.health.corrupt_blocks >= len(inputs) - 1
