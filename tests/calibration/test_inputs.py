"""What a model, a calibration and the names in it may be."""

from __future__ import annotations

import importlib
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support import MODULES, Array, Raw, infer_one, open_files
from tests.tflite.builder import Builder, Graph
from tests.tflite.test_odd_outputs import scaled_scalar

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.tflite.arrays import read_batch
from selfheal_edge.tflite.runtimes.protocol import RuntimeName, TensorSpec

RNG = np.random.default_rng(0)


def constant(graph: Graph, values: Any, dtype: str = "float32") -> int:
    array = np.asarray(values, dtype)
    return graph.tensor(list(array.shape), dtype, array.tobytes())


def sigmoid(dtype: str = "float32", size: int = 6) -> bytes:
    """Return one dense layer of one unit behind a hidden one, and a LOGISTIC."""
    builder = Builder()
    graph = builder.graph()
    rng = np.random.default_rng(1)
    x, hidden, logit, answer = (graph.tensor([1, n]) for n in (size, 8, 1, 1))
    layers = ((x, 8, size, 1, hidden), (hidden, 1, 8, 0, logit))
    for source, units, width, activation, to in layers:
        weights = constant(graph, rng.standard_normal((units, width)))
        operands = [source, weights, constant(graph, np.zeros(units))]
        options = ("FullyConnectedOptions", {"fused_activation_function": activation})
        graph.operator("FULLY_CONNECTED", operands, [to], options)
    graph.operator("LOGISTIC", [logit], [answer])
    if dtype != "float32":
        steps = {"scale": [1 / 256], "zero_point": [0 if dtype == "uint8" else -128]}
        reals, answer = answer, graph.tensor([1, 1], dtype, quantization=steps)
        graph.operator("QUANTIZE", [reals], [answer])
    graph.tree.update(inputs=[x], outputs=[answer])
    return builder.file()


def test_a_scalar_input(runtime: RuntimeName, tmp_path: Path) -> None:
    """A number without a shape is calibrated, watched, and asked again by what would repair it."""
    path = tmp_path / "scalar.tflite"
    path.write_bytes(scaled_scalar())
    x = np.random.default_rng(0).normal(0, 1, 256).astype(np.float32)
    baseline = she.calibrate(path, x, runtime=runtime, seed=0)
    with she.SelfHealingModel(path, baseline) as model:
        assert model.predict(x[0:1].reshape(())) == np.float32(2.5) * x[0]
        for value in np.random.default_rng(1).normal(3, 2, 600).astype(np.float32):
            model.predict(np.array(value))
        repairs = [str(event) for event in model.events if event.kind == "repair"]
        assert repairs
        assert not any("Error" in text for text in repairs)


class TestSigmoid:
    """A single output behind a LOGISTIC has the classes 0 and 1."""

    @pytest.mark.slow
    @pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
    def test_is_a_classifier(self, runtime: RuntimeName, tmp_path: Path, dtype: str) -> None:
        path = tmp_path / "sigmoid.tflite"
        path.write_bytes(sigmoid(dtype))
        x = RNG.normal(0, 1, (300, 1, 6)).astype(np.float32)
        raw = Raw(path, runtime, "builtin")
        scores = np.array([raw.run([row])[0].item() for row in x], np.float64)
        if dtype != "float32":
            scores = (scores + (128 if dtype == "int8" else 0)) / 256
        labels = (scores > 0.5).astype(np.int64)
        assert 30 < labels.sum() < 270
        told = np.where(np.arange(300) % 10 == 0, 1 - labels, labels)  # a tenth is mistaken
        baseline = she.calibrate(path, x, told, runtime=runtime, kernels="builtin", seed=0)
        assert baseline.output_kind == "probabilities"
        assert baseline.accuracy == pytest.approx(0.9)
        assert {"confidence", "margin", "entropy", "embedding_distance"} <= set(baseline.references)
        assert baseline.embedding is not None
        assert baseline.embedding.classes.tolist() == [0, 1]
        with she.SelfHealingModel(path, baseline, runtime=runtime, kernels="builtin") as model:
            for row, score, label in zip(x[:50], scores, labels, strict=False):
                p = infer_one(model, row)
                assert p.label == label
                assert p.confidence == pytest.approx(max(score, 1 - score), abs=1e-6)

    def test_other_labels_are_refused(self, runtime: RuntimeName) -> None:
        x = RNG.normal(0, 1, (60, 1, 6)).astype(np.float32)
        with pytest.raises(ValueError, match="labels: expected classes 0 to 1, got 0 to 2"):
            she.calibrate(sigmoid(), x, np.arange(60) % 3, runtime=runtime)

    def test_a_real_wake_word(self, shared_models: Path, runtime: RuntimeName) -> None:
        path = shared_models / "wakeword_streaming_int8.tflite"
        x = RNG.integers(-128, 128, (60, 1, 3, 40)).astype(np.int8)
        shape = Raw(path, runtime, "builtin").inputs[0]["shape"]
        x = RNG.integers(-128, 128, (60, *shape)).astype(np.int8)
        baseline = she.calibrate(path, x, np.arange(60) % 2, runtime=runtime)
        assert baseline.output_kind == "probabilities"


@pytest.mark.slow
def test_a_model_of_bytes(digits: DigitsData, samples: Array) -> None:
    data = digits_model_path().read_bytes()
    x = digits.calibration_inputs[:60]
    baseline = she.calibrate(digits_model_path(), x, seed=0)
    answer: Any = None
    for given in (digits_model_path(), str(digits_model_path()), data, bytearray(data)):
        assert she.calibrate(given, x, seed=0).model_sha256 == baseline.model_sha256
        with she.SelfHealingModel(given, baseline, seed=0) as model:
            if isinstance(given, bytearray):
                given[:] = bytes(len(given))  # the user's buffer is the user's
            got: Any = model.predict(samples[0])
            assert answer is None or np.array_equal(got, answer)
            answer = got
            model.rollback()
    for wrong in (17, None, [data], np.frombuffer(data, np.uint8)):
        with pytest.raises(TypeError, match="model: expected a path or the bytes of a TFLite file"):
            she.calibrate(wrong, x)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="model: expected a path or the bytes of a TFLite file"):
            she.SelfHealingModel(wrong, baseline)  # type: ignore[arg-type]
    with pytest.raises(she.errors.ModelFormatError):
        she.calibrate(b"not a model", x)


def two_and_two() -> bytes:
    """Return a model of ``a - b`` and ``b - a`` whose signature has names of its own."""

    def names(name: str, index: int) -> dict[str, Any]:
        return {"name": name, "tensor_index": index}

    builder = Builder()
    graph = builder.graph()
    a, b, one, other = (graph.tensor([1, 4]) for _ in range(4))
    graph.operator("SUB", [a, b], [one], ("SubOptions", {}))
    graph.operator("SUB", [b, a], [other], ("SubOptions", {}))
    graph.tree.update(inputs=[a, b], outputs=[one, other])
    builder.tree["signature_defs"] = [
        {
            "signature_key": "serving_default",
            "subgraph_index": 0,
            "inputs": [{"name": "right", "tensor_index": b}, {"name": "left", "tensor_index": a}],
            "outputs": [
                {"name": "sum", "tensor_index": other},
                {"name": "t2", "tensor_index": one},
            ],
        }
    ]
    return builder.file()


def test_names_of_a_signature(runtime: RuntimeName) -> None:
    data = two_and_two()
    left, right = RNG.normal(0, 1, (2, 60, 1, 4)).astype(np.float32)
    by_tensor = she.calibrate(data, {"t0": left, "t1": right}, runtime=runtime, seed=0)
    baseline = she.calibrate(data, {"left": left, "right": right}, runtime=runtime, seed=0)
    for name, reference in by_tensor.references.items():
        assert baseline.references[name].state() == reference.state()
    with she.SelfHealingModel(data, baseline, runtime=runtime) as model:
        for call in (model.predict, lambda x: model.infer(x).output):
            own: Any = call({"t0": left[0], "t1": right[0]})
            named: Any = call({"left": left[0], "right": right[0]})
            assert list(own) == ["t2", "t3"]
            assert set(named) == {"t2", "sum"}
            assert np.array_equal(named["t2"], left[0] - right[0])
            assert np.array_equal(named["sum"], right[0] - left[0])
            assert np.array_equal(own["t3"], named["sum"])
        batch: Any = model.predict({"left": left, "right": right})
        assert np.array_equal(batch["sum"], right - left)
        with pytest.raises(ValueError, match=r"x: expected the names \['t0', 't1'\]"):
            model.predict({"left": left[0], "t1": right[0]})


def test_one_input_by_its_signature(shared_models: Path, runtime: RuntimeName) -> None:
    path = shared_models / "hello_world_int8.tflite"
    x = RNG.integers(-128, 128, (60, 1, 1)).astype(np.int8)
    baseline = she.calibrate(path, x, runtime=runtime)
    from selfheal_edge.tflite.file.model_file import ModelFile

    (signature,) = ModelFile.from_path(path).signatures
    (name,) = signature.inputs
    with she.SelfHealingModel(path, baseline, runtime=runtime) as model:
        assert np.array_equal(
            model.predict({name: x[0]}),  # type: ignore[arg-type]
            model.predict(x[0]),  # type: ignore[arg-type]
        )


def open_axes(size: int = 3) -> bytes:
    """Return a convolution, its mean and a dense layer, for images of any height and width."""
    builder = Builder()
    graph = builder.graph()
    rng = np.random.default_rng(2)
    image = graph.tensor([1, 1, 1, 1], shape_signature=[1, -1, -1, 1])
    found = graph.tensor([1, 1, 1, 4], shape_signature=[1, -1, -1, 4])
    pooled, scores = graph.tensor([1, 4]), graph.tensor([1, size])
    kernel = constant(graph, rng.standard_normal((4, 3, 3, 1)))
    window = {"padding": 0, "stride_w": 1, "stride_h": 1, "fused_activation_function": 1}
    operands = [image, kernel, constant(graph, np.zeros(4))]
    graph.operator("CONV_2D", operands, [found], ("Conv2DOptions", window))
    axes = graph.tensor([2], "int32", np.array([1, 2], np.int32).tobytes())
    graph.operator("MEAN", [found, axes], [pooled], ("ReducerOptions", {"keep_dims": False}))
    dense = [pooled, constant(graph, rng.standard_normal((size, 4))), constant(graph, [0.0] * size)]
    graph.operator("FULLY_CONNECTED", dense, [scores], ("FullyConnectedOptions", {}))
    graph.tree.update(inputs=[image], outputs=[scores])
    return builder.file()


class TestShapes:
    """Inputs with open axes get their shapes at calibration."""

    @pytest.mark.parametrize("kernels", ["auto", "builtin"])
    def test_serves_what_a_resized_interpreter_does(
        self, runtime: RuntimeName, tmp_path: Path, kernels: Any
    ) -> None:
        path = tmp_path / "open.tflite"
        path.write_bytes(open_axes())
        x = RNG.normal(0, 1, (60, 1, 7, 9, 1)).astype(np.float32)
        baseline = she.calibrate(
            path, x, shapes={"t0": (1, 7, 9, 1)}, runtime=runtime, kernels=kernels
        )
        baseline = she.Baseline.from_bytes(baseline.to_bytes())
        module = importlib.import_module(MODULES[runtime])
        resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        plain = module.Interpreter(str(path), experimental_op_resolver_type=resolver)
        plain.resize_tensor_input(plain.get_input_details()[0]["index"], (1, 7, 9, 1))
        plain.allocate_tensors()
        with she.SelfHealingModel(path, baseline, runtime=runtime, kernels=kernels) as model:
            assert model.inputs[0].shape == (1, 7, 9, 1)
            for row in x:
                plain.set_tensor(plain.get_input_details()[0]["index"], row)
                plain.invoke()
                expected = plain.get_tensor(plain.get_output_details()[0]["index"])
                got: Any = model.predict(row)
                np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
            she.redteam.inject(model).flip_bits(5, seed=0)
            assert model.weights.scrub()
            got = model.predict(row)
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
            assert model.health.state == "healthy"

    @pytest.mark.parametrize(
        ("shapes", "error", "message"),
        [
            ([(1, 7, 9, 1)], TypeError, "shapes: expected a dict by input name, got list"),
            (
                {"x": (1, 7, 9, 1)},
                ValueError,
                r"expected names of inputs \('t0'\), got 'x'",
            ),
            ({"t0": "1791"}, TypeError, r"shapes\['t0'\]: expected a tuple of integers"),
            ({"t0": (1, 7.0, 9, 1)}, TypeError, r"shapes\['t0'\]: expected a tuple of integers"),
            ({"t0": (1, 7, 9)}, ValueError, r"expected \(1, -1, -1, 1\) with every -1 settled"),
            ({"t0": (2, 7, 9, 1)}, ValueError, r"expected \(1, -1, -1, 1\) with every -1 settled"),
            ({"t0": (1, 0, 9, 1)}, ValueError, r"got \(1, 0, 9, 1\)"),
            ({"t0": (1, 2**20, 2**20, 1)}, ValueError, "with every -1 settled"),
        ],
    )
    def test_refused(self, shapes: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            she.calibrate(open_axes(), np.zeros((60, 1, 7, 9, 1), np.float32), shapes=shapes)


class TestIterables:
    """A calibration may come one by one."""

    @pytest.mark.slow
    def test_equals_the_batch(self, digits: DigitsData) -> None:
        x, y = digits.calibration_inputs[:200], digits.calibration_labels[:200]
        batch = she.calibrate(digits_model_path(), x, y, seed=3)
        for given in (iter(x[:, None]), list(x[:, None]), (x[i : i + 7] for i in range(0, 200, 7))):
            one_by_one = she.calibrate(digits_model_path(), given, y, seed=3)
            assert one_by_one.to_bytes() == batch.to_bytes()

    def test_several_inputs(self, runtime: RuntimeName) -> None:
        left, right = RNG.normal(0, 1, (2, 60, 1, 4)).astype(np.float32)
        pairs = ({"left": a, "right": b} for a, b in zip(left, right, strict=True))
        baseline = she.calibrate(two_and_two(), pairs, runtime=runtime)
        assert baseline.samples == 60

    def test_few_samples_are_held(self, digits: DigitsData) -> None:
        held: list[weakref.ref[Array]] = []
        most = 0

        def samples() -> Iterator[Array]:
            nonlocal most
            for n in range(500):
                x = digits.calibration_inputs[n % 400].copy()[None]
                held.append(weakref.ref(x))
                most = max(most, sum(reference() is not None for reference in held))
                yield x

        she.calibrate(digits_model_path(), samples())
        assert most <= 3

    @pytest.mark.parametrize("wrong", ["digits", b"digits", 5, None])
    def test_no_samples(self, wrong: Any) -> None:
        with pytest.raises(TypeError, match="inputs: expected an array, a dict of arrays"):
            she.calibrate(digits_model_path(), wrong)

    def test_the_sample_that_is_wrong_is_named(self, digits: DigitsData) -> None:
        x: list[Any] = list(digits.calibration_inputs[:60, None])
        x[17] = x[17].astype(np.float64)
        with pytest.raises(TypeError, match=r"inputs\[17\]: expected dtype int8 or float32"):
            she.calibrate(digits_model_path(), x)
        with pytest.raises(ValueError, match="labels: expected 60 integers, one per input, got"):
            she.calibrate(digits_model_path(), iter(digits.calibration_inputs[:60, None]), [1] * 59)
        with pytest.raises(ValueError, match="expected a batch of at least 50 samples, got 49"):
            she.calibrate(digits_model_path(), iter(digits.calibration_inputs[:49, None]))

    def test_what_a_generator_raises_is_raised(self, digits: DigitsData) -> None:
        before = open_files()

        def broken() -> Iterator[Array]:
            yield digits.calibration_inputs[:1]
            raise ConnectionError("the camera is gone")

        with pytest.raises(ConnectionError, match="the camera is gone"):
            she.calibrate(digits_model_path(), broken())
        assert open_files() == before


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_a_float_set_takes_the_memory_of_the_quantised_one(dtype: str) -> None:
    spec = TensorSpec("x", (1, 100, 100), np.dtype(dtype), 0.02, 3)
    reals = np.zeros((800, 100, 100), np.float32)  # 32 MB
    tracemalloc.start()
    try:
        batch = read_batch([spec], reals)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < batch.rows[0].nbytes + 1_500_000


class TestIgnored:
    """Signals can be left out."""

    def test_an_input_that_counts(self, runtime: RuntimeName) -> None:
        data = two_and_two()
        x = RNG.normal(0, 1, (400, 1, 4)).astype(np.float32)
        week = np.repeat(np.arange(400, dtype=np.float32), 4).reshape(400, 1, 4) / 100
        later = week + 50
        given: dict[str, Array] = {"t0": x, "t1": week}
        ignore = tuple(
            name
            for name in she.calibrate(data, given, runtime=runtime).references
            if "t0" not in name
        )
        assert "input_mean[t1]" in ignore
        baseline = she.calibrate(data, given, ignore=ignore, runtime=runtime, seed=0)
        assert not set(ignore) & set(baseline.references)
        assert "input_mean[t0]" in baseline.references
        baseline = she.Baseline.from_bytes(baseline.to_bytes())
        assert baseline.ignore == ignore
        with she.SelfHealingModel(data, baseline, runtime=runtime) as model:
            for a, b in zip(x, later, strict=True):
                model.predict({"t0": a, "t1": b})
            assert model.health.alarms == 0
            for a, b in zip(x + 9, later, strict=True):  # what is watched still alarms
                model.predict({"t0": a, "t1": b})
            assert model.health.alarms > 0

    @pytest.mark.slow
    def test_what_stays_is_measured_alike(self, digits: DigitsData) -> None:
        x = digits.calibration_inputs[:100]
        whole = she.calibrate(digits_model_path(), x, seed=0).references
        ignore = ("input_mean", "entropy", "embedding_distance")
        part = she.calibrate(digits_model_path(), x, ignore=ignore, seed=0).references
        assert set(part) == set(whole) - set(ignore)
        assert all(part[name].state() == whole[name].state() for name in part)

    @pytest.mark.slow
    def test_alarms_without_a_chart(self, digits: DigitsData) -> None:
        x = digits.calibration_inputs[:400]
        for ignore, alarms in (((), True), (("input_repeats",), False)):
            everything = she.calibrate(digits_model_path(), x).references
            left_out = (*ignore, *everything)
            baseline = she.calibrate(digits_model_path(), x, ignore=left_out)
            with she.SelfHealingModel(digits_model_path(), baseline) as model:
                for _ in range(100):
                    model.predict(x[:1])
                assert bool(model.health.alarms) == alarms

    @pytest.mark.parametrize(
        ("ignore", "error", "message"),
        [
            (
                ("noise",),
                ValueError,
                "ignore: expected names .*'input_mean'.* got 'noise'",
            ),
            ("input_mean", TypeError, "ignore: expected a tuple of names of signals"),
            (5, TypeError, "ignore: expected a tuple of names of signals"),
        ],
    )
    def test_refused(
        self, digits: DigitsData, ignore: Any, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            she.calibrate(digits_model_path(), digits.calibration_inputs[:60], ignore=ignore)
