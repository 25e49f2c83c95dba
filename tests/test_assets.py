"""The demo model and its data are what their documentation says."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from selfheal_edge.assets import DigitsData, digits_model_path, load_digits

RUNTIMES = ["ai_edge_litert", "tflite_runtime"]


@pytest.fixture(scope="module")
def digits() -> DigitsData:
    return load_digits()


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> Any:
    try:
        return importlib.import_module(f"{request.param}.interpreter")
    except ImportError:
        pytest.skip(f"{request.param} is not installed")


@pytest.fixture(params=["default", "builtin"])
def interpreter(request: pytest.FixtureRequest, runtime: Any) -> Any:
    kernels = {
        "default": runtime.OpResolverType.AUTO,
        "builtin": runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    }[request.param]
    built = runtime.Interpreter(
        model_path=str(digits_model_path()), experimental_op_resolver_type=kernels, num_threads=1
    )
    built.allocate_tensors()
    return built


def answers(interpreter: Any, inputs: NDArray[np.int8]) -> NDArray[np.int8]:
    source = interpreter.get_input_details()[0]["index"]
    sink = interpreter.get_output_details()[0]["index"]
    rows = []
    for image in inputs:
        interpreter.set_tensor(source, image[np.newaxis])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(sink)[0])
    return np.stack(rows)


def test_files_are_small() -> None:
    model = digits_model_path()
    assert model.is_absolute()
    assert 15_000 <= model.stat().st_size <= 25_000
    assert (model.parent / "digits.npz").stat().st_size < 60_000


@pytest.mark.parametrize(("part", "count"), [("calibration", 600), ("heldout", 500)])
def test_arrays_are_ready_for_the_model(digits: DigitsData, part: str, count: int) -> None:
    inputs = getattr(digits, f"{part}_inputs")
    labels = getattr(digits, f"{part}_labels")
    assert inputs.dtype == np.int8
    assert inputs.shape == (count, 8, 8, 1)
    assert inputs.flags.c_contiguous
    assert (inputs.min(), inputs.max()) == (-128, 127)
    assert labels.dtype == np.int8
    assert labels.shape == (count,)


@pytest.mark.parametrize("part", ["calibration", "heldout"])
def test_labels_are_balanced(digits: DigitsData, part: str) -> None:
    counts = np.bincount(getattr(digits, f"{part}_labels"), minlength=10)
    assert counts.shape == (10,)
    assert np.all(np.abs(counts / counts.sum() - 0.1) < 0.01)


def test_no_image_is_in_both_parts(digits: DigitsData) -> None:
    calibration = {image.tobytes() for image in digits.calibration_inputs}
    assert not any(image.tobytes() in calibration for image in digits.heldout_inputs)


def test_every_load_is_independent(digits: DigitsData) -> None:
    scribbled = load_digits()
    scribbled.heldout_inputs[:] = 0
    assert np.any(digits.heldout_inputs)
    assert np.any(load_digits().heldout_inputs)


def test_structure(interpreter: Any) -> None:
    (source,) = interpreter.get_input_details()
    (sink,) = interpreter.get_output_details()
    assert source["dtype"] is np.int8
    assert source["shape"].tolist() == [1, 8, 8, 1]
    assert sink["dtype"] is np.int8
    assert sink["shape"].tolist() == [1, 10]
    embeddings = [t for t in interpreter.get_tensor_details() if t["shape"].tolist() == [1, 32]]
    assert len(embeddings) == 1
    assert embeddings[0]["dtype"] is np.int8
    assert "embedding" in embeddings[0]["name"]


def test_convolutions_are_quantised_per_channel(interpreter: Any) -> None:
    scales = {
        t["name"]: t["quantization_parameters"]["scales"].size
        for t in interpreter.get_tensor_details()
        if t["name"].endswith(("/convolution", "/depthwise")) and len(t["shape"]) == 4
    }
    assert scales
    assert all(count > 1 for count in scales.values())


def test_heldout_accuracy(interpreter: Any, digits: DigitsData) -> None:
    labels = answers(interpreter, digits.heldout_inputs).argmax(axis=1)
    assert np.mean(labels == digits.heldout_labels) >= 0.97


def test_answers_repeat(interpreter: Any, digits: DigitsData) -> None:
    first = answers(interpreter, digits.heldout_inputs[:50])
    np.testing.assert_array_equal(answers(interpreter, digits.heldout_inputs[:50]), first)
