"""Guarded answers equal the raw interpreter's, bit for bit, for every public model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.support import MODELS, Raw, answers, causes, named, random_batch, same

import selfheal_edge as she
from selfheal_edge.tflite.runtimes.protocol import RuntimeName
from selfheal_edge.tflite.runtimes.select import KernelsArgument

pytestmark = pytest.mark.usefixtures("plain_calibration")

SAMPLES = 6


def opened(
    path: Path, runtime: RuntimeName, kernels: KernelsArgument = "auto", num_threads: int = 1
) -> she.SelfHealingModel:
    from selfheal_edge.tflite.session import Session

    session = Session(path, runtime, kernels, num_threads)
    specs = session.instance.inputs
    session.close()
    baseline = she.calibrate(
        path,
        named(specs, random_batch(specs, 50, seed=1)),
        runtime=runtime,
        kernels=kernels,
        num_threads=num_threads,
        seed=1,
    )
    return she.SelfHealingModel(
        path, baseline, runtime=runtime, kernels=kernels, num_threads=num_threads
    )


def check_against_raw(path: Path, model: she.SelfHealingModel, num_threads: int = 1) -> None:
    fingerprint = model.health.fingerprint
    raw = Raw(path, fingerprint.runtime, fingerprint.kernels, num_threads)  # type: ignore[arg-type]
    batch = random_batch(model.inputs, SAMPLES, seed=2)
    expected = [raw.run([rows[n] for rows in batch]) for n in range(SAMPLES)]

    one_by_one = [answers(model, named(model.inputs, [r[n] for r in batch])) for n in range(4)]
    assert all(same(a, e) for a, e in zip(one_by_one, expected, strict=False))

    rest = answers(model, named(model.inputs, [r[4:] for r in batch]))
    stacked = [np.stack([e[i] for e in expected[4:]]) for i in range(len(model.outputs))]
    assert same(rest, stacked)
    assert "weight_corruption" not in causes(model)


# What "auto" chooses is one of the other two; `test_hot_values` serves each model by it.
AUTO = pytest.param("auto", marks=pytest.mark.long)


@pytest.mark.parametrize("kernels", [AUTO, "default", "builtin"])
@pytest.mark.parametrize("name", MODELS)
def test_equals_raw(
    shared_models: Path, runtime: RuntimeName, name: str, kernels: KernelsArgument
) -> None:
    path = shared_models / f"{name}.tflite"
    with opened(path, runtime, kernels) as model:
        check_against_raw(path, model)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kernels", "num_threads"),
    [
        ("kws_dscnn_int8", "builtin", 2),  # threads beyond the cores spin, and take seconds
        *(
            pytest.param(name, kernels, 4, marks=pytest.mark.long)
            for name in ("kws_dscnn_int8", "resnet8_cifar10_float32")
            for kernels in ("default", "builtin")
        ),
    ],
)
def test_equals_raw_with_several_threads(
    shared_models: Path,
    runtime: RuntimeName,
    name: str,
    kernels: KernelsArgument,
    num_threads: int,
) -> None:
    path = shared_models / f"{name}.tflite"
    with opened(path, runtime, kernels, num_threads) as model:
        check_against_raw(path, model, num_threads)
        assert model.health.fingerprint.num_threads == num_threads


@pytest.fixture
def kws(shared_models: Path, runtime: RuntimeName) -> Iterator[she.SelfHealingModel]:
    with opened(shared_models / "kws_dscnn_int8.tflite", runtime) as model:
        yield model


def test_the_first_axis_carries_a_batch(kws: she.SelfHealingModel) -> None:
    (batch,) = random_batch(kws.inputs, 5, seed=3)
    first = kws.predict(batch[:, 0])
    leading = kws.predict(batch)
    assert isinstance(first, np.ndarray)
    assert isinstance(leading, np.ndarray)
    assert first.shape == (5, 12)
    assert leading.shape == (5, 1, 12)
    assert first.tobytes() == leading.tobytes()


def test_out_is_filled(kws: she.SelfHealingModel) -> None:
    (batch,) = random_batch(kws.inputs, 5, seed=3)
    out = np.empty((5, 1, 12), np.int8)
    assert kws.predict(batch, out) is out
    assert same([out], answers(kws, batch))
    real = np.empty((5, 12), np.float32)
    given = np.zeros((5, 49, 10, 1), np.float32)
    assert kws.predict(given, out=real) is real
    assert same([real], answers(kws, given))


def test_float_in_gives_float_out(kws: she.SelfHealingModel) -> None:
    (spec,), (result,) = kws.inputs, kws.outputs
    rng = np.random.default_rng(4)
    span = 400 * spec.scale
    real = rng.uniform(-span, span, (20, 49, 10, 1)).astype(np.float32)
    real[0, :2, 0, 0] = (0.5 * spec.scale, 1.5 * spec.scale)  # halves go to the even neighbour
    levels = np.rint(real.astype(np.float32) / np.float32(spec.scale)) + spec.zero_point
    quantised = np.clip(levels, -128, 127).astype(np.int8)
    assert (quantised == 127).any()
    assert (quantised == -128).any()
    raw = kws.predict(quantised)
    assert isinstance(raw, np.ndarray)
    expected = (raw.astype(np.float32) - np.float32(result.zero_point)) * np.float32(result.scale)
    assert same(answers(kws, real), [expected])


def test_a_recurrent_model_keeps_its_state(shared_models: Path, runtime: RuntimeName) -> None:
    """Known answers are asked in between, and must not disturb the sequence."""
    path = shared_models / "mnist_lstm_int8.tflite"
    with opened(path, runtime) as model:
        kernels = model.health.fingerprint.kernels
        raw = Raw(path, runtime, kernels)  # type: ignore[arg-type]
        (batch,) = random_batch(model.inputs, 12, seed=5)
        for n, x in enumerate(batch):
            assert same(answers(model, x), raw.run([x])), n
            if n == 6:
                assert model.weights.scrub() == ()


def test_several_inputs_and_outputs(shared_models: Path, runtime: RuntimeName) -> None:
    with opened(shared_models / "split_concat_uint8.tflite", runtime) as model:
        assert len(model.inputs) == 3
        assert len(model.outputs) == 5
        x = named(model.inputs, random_batch(model.inputs, 3, seed=6))
        y = model.predict(x)
        assert isinstance(y, dict)
        assert list(y) == [spec.name for spec in model.outputs]
        assert [len(part) for part in y.values()] == [3] * 5
