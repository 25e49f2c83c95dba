"""Guarded answers equal the raw interpreter's on models that a clone makes for itself.

Every operator in the types of every quantisation, each runtime and kind of kernels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.made_models import (
    accumulating,
    branching_classifier,
    halved_weights,
    tied_weights,
    with_operands,
)
from tests.operator_models import QUANTISATIONS, SEQUENCES, image_model, sequence_model
from tests.support import Array, Raw, answers, causes, named, same

import selfheal_edge as she
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.runtimes.protocol import RuntimeName, TensorSpec
from selfheal_edge.tflite.runtimes.select import KernelsArgument
from selfheal_edge.tflite.sandbox.known import KernelsName, mark_known

pytestmark = pytest.mark.usefixtures("plain_calibration")

MADE: dict[str, Callable[[], bytes]] = {
    **{f"image-{name}": partial(image_model, name) for name in QUANTISATIONS},
    **{f"sequence-{name}": partial(sequence_model, name) for name in SEQUENCES},
    "branching": branching_classifier,
    "halved_weights": halved_weights,
    "resource": accumulating,
    "tied_weights": tied_weights,
    "with_operands": with_operands,
}
MLPERF_TINY = {
    "ADD", "AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "RESHAPE",
    "SOFTMAX",
}  # fmt: skip
SINGLE, BATCH = 3, 4


def written(folder: Path, data: bytes, runtime: RuntimeName) -> Path:
    """Return a file that needs no trial: it is ours."""
    path = folder / "model.tflite"
    path.write_bytes(data)
    ways: tuple[KernelsName, ...] = ("default", "builtin", "compiled")
    for way in ways:
        mark_known(hashlib.sha256(data).hexdigest(), runtime, way, 1)
    return path


def inputs_of(specs: tuple[TensorSpec, ...], count: int, seed: int) -> list[Array]:
    """Return inputs that reach every level of integers, and leave floats where curves bend."""
    rng = np.random.default_rng(seed)
    rows: list[Array] = []
    for spec in specs:
        shape = (count, *spec.shape)
        if spec.dtype.kind == "f":
            rows.append(rng.normal(0, 2, shape).astype(spec.dtype))
        elif spec.dtype == np.int32:  # words of `tied_weights`
            rows.append(rng.integers(0, 8, shape).astype(spec.dtype))
        else:
            info = np.iinfo(spec.dtype)
            rows.append(rng.integers(info.min, info.max, shape, spec.dtype, endpoint=True))
    return rows


def opened(path: Path, runtime: RuntimeName, kernels: KernelsArgument) -> she.SelfHealingModel:
    raw = Raw(path, runtime, "builtin" if kernels == "builtin" else "default")
    specs = tuple(
        TensorSpec(d["name"], tuple(d["shape"]), np.dtype(d["dtype"]), 0.0, 0) for d in raw.inputs
    )
    calibration = named(specs, inputs_of(specs, 50, seed=1))
    baseline = she.calibrate(path, calibration, runtime=runtime, kernels=kernels, seed=1)
    return she.SelfHealingModel(path, baseline, runtime=runtime, kernels=kernels, seed=1)


def check_against_raw(path: Path, model: she.SelfHealingModel) -> None:
    """One stream through `predict`, `infer` and a batch, answers bit for bit those of raw."""
    place = model.health.fingerprint
    raw = Raw(path, place.runtime, place.kernels)  # type: ignore[arg-type]
    rows = inputs_of(model.inputs, 2 * SINGLE + BATCH, seed=2)
    expected = [raw.run([part[n] for part in rows]) for n in range(2 * SINGLE + BATCH)]
    assert len({answer[0].tobytes() for answer in expected}) > SINGLE  # inputs matter
    for n in range(SINGLE):
        assert same(answers(model, named(model.inputs, [part[n] for part in rows])), expected[n])
    for n in range(SINGLE, 2 * SINGLE):
        output = model.infer(named(model.inputs, [part[n] for part in rows])).output
        given = list(output.values()) if isinstance(output, dict) else [output]
        assert same(given, expected[n])
    batch = answers(model, named(model.inputs, [part[2 * SINGLE :] for part in rows]))
    last = expected[2 * SINGLE :]
    assert same(batch, [np.stack([answer[i] for answer in last]) for i in range(len(batch))])
    assert not {"weight_corruption", "runtime_fault"} & set(causes(model))


# What "auto" chooses is one of the other two; the test that follows this one serves by it.
AUTO = pytest.param("auto", marks=pytest.mark.long)


@pytest.mark.parametrize("kernels", [AUTO, "default", "builtin"])
@pytest.mark.parametrize("name", MADE)
def test_equals_raw(
    tmp_path: Path, runtime: RuntimeName, name: str, kernels: KernelsArgument
) -> None:
    path = written(tmp_path, MADE[name](), runtime)
    with opened(path, runtime, kernels) as model:
        check_against_raw(path, model)


@pytest.mark.parametrize("name", QUANTISATIONS)
def test_every_operators_result_equals_raw(tmp_path: Path, runtime: RuntimeName, name: str) -> None:
    """As outputs of the model, so that none hides behind what the next one rounds away."""
    path = written(tmp_path, image_model(name, every_result=True), runtime)
    with opened(path, runtime, "auto") as model:
        assert len(model.outputs) > 25
        check_against_raw(path, model)


def operators(name: str) -> set[str]:
    return {op.name for op in ModelFile.from_bytes(MADE[name]()).operators}


@pytest.mark.parametrize("name", QUANTISATIONS)
def test_the_models_have_the_operators_of_mlperf_tiny(name: str) -> None:
    found = operators(f"image-{name}")
    assert found >= MLPERF_TINY
    assert len(found) >= 25 - 3 * (name == "int16x8")  # has fewer kernels
