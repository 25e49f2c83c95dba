"""A recurrent model is calibrated as it is served: as one stream, or a sequence per sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from tests.made_models import accumulating
from tests.support import Array, Raw, answers, kinds, random_batch, same

import selfheal_edge as she
from selfheal_edge.tflite.runtimes.protocol import RuntimeName

State = Literal["carried", "reset"]


@pytest.fixture(scope="module")
def lstm(shared_models: Path) -> Path:
    return shared_models / "mnist_lstm_int8.tflite"


@pytest.fixture(scope="module")
def adder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose state lies in a resource variable."""
    path = tmp_path_factory.mktemp("adder") / "adder.tflite"
    path.write_bytes(accumulating())
    return path


def images(count: int, seed: int = 0) -> Array:
    """Return smooth blobs: images that differ, in no order."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:28, :28]
    places = rng.uniform(6, 22, (count, 2, 1, 1))
    far = np.square(y - places[:, 0]) + np.square(x - places[:, 1])
    width = rng.uniform(10, 60, (count, 1, 1))
    light = 220 * np.exp(-far / width) + rng.normal(0, 6, (count, 28, 28))
    levels: Array = np.clip(np.rint(light) - 128, -128, 127).astype(np.int8)
    return levels[:, np.newaxis]


@pytest.mark.slow
@pytest.mark.parametrize("state", ["carried", "reset"])
def test_the_calibrations_own_inputs_raise_nothing(
    lstm: Path, runtime: RuntimeName, state: State
) -> None:
    x = images(400)
    baseline = she.calibrate(lstm, x, state=state, runtime=runtime, seed=0)
    assert baseline.state == state
    with she.SelfHealingModel(lstm, baseline, runtime=runtime, seed=0) as model:
        for row in x:
            model.predict(row)
        assert model.health.alarms == 0
        assert "alarm" not in kinds(model)


def test_the_default_is_one_stream(lstm: Path, runtime: RuntimeName) -> None:
    baseline = she.calibrate(lstm, images(60), runtime=runtime)
    assert baseline.state == "carried"
    assert she.Baseline.from_bytes(baseline.to_bytes()).state == "carried"


def reset(raw: Raw) -> None:
    raw.interpreter.reset_all_variables()


def opened(path: Path, runtime: RuntimeName, x: Array, state: State) -> Any:
    baseline = she.calibrate(path, x, state=state, runtime=runtime, seed=0)
    return she.SelfHealingModel(path, baseline, runtime=runtime, seed=0)


def raw_of(path: Path, model: she.SelfHealingModel) -> Raw:
    place = model.health.fingerprint
    return Raw(path, place.runtime, place.kernels)  # type: ignore[arg-type]


def test_after_a_reset_answers_equal_those_of_a_reset_interpreter(
    lstm: Path, runtime: RuntimeName
) -> None:
    x = images(500, seed=1)
    right = 0
    with opened(lstm, runtime, images(60), "carried") as model:
        raw = raw_of(lstm, model)
        for n, row in enumerate(x):
            if n % 3 == 0:  # sequences of three
                model.reset_state()
                reset(raw)
            right += same(answers(model, row), raw.run([row]))
        assert right == 500
        assert same(answers(model, x[:7]), [np.stack([raw.run([r])[0] for r in x[:7]])])


def test_a_sequence_per_sample_starts_anew_by_itself(lstm: Path, runtime: RuntimeName) -> None:
    x = images(500, seed=2)
    with opened(lstm, runtime, images(60), "reset") as model:
        raw = raw_of(lstm, model)
        expected = []
        for row in x:
            reset(raw)
            expected.append(raw.run([row])[0])
        assert sum(same(answers(model, r), [e]) for r, e in zip(x, expected, strict=True)) == 500
        assert same(answers(model, x[:50]), [np.stack(expected[:50])])  # a batch does the same
        model.rollback()
        assert same(answers(model, x[0]), [expected[0]])


@pytest.mark.parametrize("state", ["carried", "reset"])
def test_resource_variables_start_anew_too(adder: Path, runtime: RuntimeName, state: State) -> None:
    x = np.random.default_rng(3).normal(0, 1, (500, 1, 8)).astype(np.float32)
    with opened(adder, runtime, x[:60], state) as model:
        raw = raw_of(adder, model)
        first = [raw_of(adder, model).run([row])[0] for row in x[:20]]
        for n, row in enumerate(x[:20]):
            model.reset_state()
            assert same(answers(model, row), [first[n]])
        model.reset_state()
        served = [answers(model, row)[0] for row in x]
        if state == "carried":
            assert same(served, [raw.run([row])[0] for row in x])
        else:
            assert same(served[:20], first)


def test_a_model_without_a_state(model: she.SelfHealingModel, samples: Array) -> None:
    before = model.predict(samples[0])
    model.reset_state()
    assert same([model.predict(samples[0])], [before])  # type: ignore[list-item]
    model.close()
    with pytest.raises(she.errors.ModelClosedError):
        model.reset_state()


@pytest.mark.parametrize("background", [False, True])
def test_a_reset_while_the_worker_heals(lstm: Path, runtime: RuntimeName, background: bool) -> None:
    x = images(60)
    baseline = she.calibrate(lstm, x, runtime=runtime, seed=0)
    policy = she.Policy(mode="background" if background else "inline")
    with she.SelfHealingModel(lstm, baseline, policy=policy, runtime=runtime, seed=0) as model:
        raw = raw_of(lstm, model)
        she.redteam.inject(model).flip_bits(20, seed=0)
        model.weights.scrub()
        assert model.wait_healed(30)
        model.reset_state()
        reset(raw)
        assert same(answers(model, x[0]), raw.run([x[0]]))


def test_another_state_is_refused(lstm: Path) -> None:
    wrong: Any = "kept"
    with pytest.raises(ValueError, match="state: expected 'carried' or 'reset', got 'kept'"):
        she.calibrate(lstm, images(60), state=wrong)


def test_random_batches_are_of_use(lstm: Path, runtime: RuntimeName) -> None:
    """Full-range noise: the worst case for a state that is kept where it should not be."""
    with opened(lstm, runtime, images(60), "reset") as model:
        rows = random_batch(model.inputs, 20, seed=4)[0]
        forward = [answers(model, row)[0] for row in rows]
        backward = [answers(model, row)[0] for row in rows[::-1]]
        assert same(forward, backward[::-1])
