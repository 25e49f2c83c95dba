"""Arrays in, arrays out: checked, quantised, shaped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfheal_edge.monitoring.signals import SignalExtractor
from selfheal_edge.tflite.arrays import (
    Batch,
    check_out,
    dequantize,
    quantize,
    read_batch,
    shape_outputs,
)
from selfheal_edge.tflite.runtimes.protocol import TensorSpec


def spec(
    shape: tuple[int, ...] = (1, 3),
    dtype: Any = np.int8,
    scale: float = 0.0,
    zero_point: int = 0,
    name: str = "t",
) -> TensorSpec:
    return TensorSpec(name, shape, np.dtype(dtype), scale, zero_point)


class TestForms:
    CASES = (
        ((1, 3), (1, 3), "single", 1),
        ((1, 3), (5, 3), "first", 5),
        ((1, 3), (5, 1, 3), "leading", 5),
        ((1, 3), (1, 1, 3), "leading", 1),
        ((2, 3), (2, 3), "single", 1),
        ((2, 3), (4, 2, 3), "leading", 4),
        ((1,), (1,), "single", 1),
        ((1,), (7,), "first", 7),
        ((3,), (3,), "single", 1),
        ((), (), "single", 1),
        ((), (4,), "leading", 4),
        ((1, 0), (1, 0), "single", 1),
        ((1, 0), (4, 1, 0), "leading", 4),
    )

    @pytest.mark.parametrize(("model", "given", "form", "count"), CASES)
    def test_accepted(
        self, model: tuple[int, ...], given: tuple[int, ...], form: str, count: int
    ) -> None:
        batch = read_batch([spec(model)], np.zeros(given, np.int8))
        assert (batch.form, batch.size) == (form, count)
        assert batch.rows[0].shape == (count, *model)
        outputs = [[np.full((1, 2), n, np.int8)] for n in range(count)]
        answer = shape_outputs([spec((1, 2))], outputs, batch.form, batch.real)
        assert isinstance(answer, np.ndarray)
        expected = {"single": (1, 2), "first": (count, 2), "leading": (count, 1, 2)}[form]
        assert answer.shape == expected
        check_out([spec((1, 2))], batch, np.zeros(expected, np.int8))

    REFUSED = (
        ((2, 3), (4, 3)),
        ((2, 3), (1, 3)),
        ((1, 3), (3,)),
        ((1, 3), (2, 2, 3)),
        ((1, 3), (1, 1, 1, 3)),
        ((3,), (1, 1, 3)),
        ((), (2, 2)),
    )

    @pytest.mark.parametrize(("model", "given"), REFUSED)
    def test_refused(self, model: tuple[int, ...], given: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="inputs: expected shape"):
            read_batch([spec(model)], np.zeros(given, np.int8), argument="inputs")

    def test_no_copy_of_raw_input(self) -> None:
        x = np.zeros((4, 1, 3), np.int8)
        assert np.shares_memory(read_batch([spec()], x).rows[0], x)

    def test_views_of_subclasses(self) -> None:
        mine: Any = type("Mine", (np.ndarray,), {})
        x: Any = np.zeros((4, 1, 3), np.int8).view(mine)
        assert type(read_batch([spec()], x).rows[0]) is np.ndarray

    def test_inputs_of_other_ranks_together(self) -> None:
        specs = [spec((1, 3), name="a"), spec((2, 2), name="b")]
        x = {"a": np.zeros((4, 1, 3), np.int8), "b": np.zeros((4, 2, 2), np.int8)}
        assert read_batch(specs, x).size == 4
        with pytest.raises(ValueError, match=r"expected one form .* got \['first', 'leading'\]"):
            read_batch(specs, {**x, "a": np.zeros((4, 3), np.int8)})

    def test_several_outputs_by_name(self) -> None:
        specs = [spec((1, 2), name="p"), spec((3,), name="q")]
        results = [[np.full((1, 2), n), np.full(3, n)] for n in range(4)]
        first = shape_outputs(specs, results, "first", False)
        assert isinstance(first, dict)
        assert {k: v.shape for k, v in first.items()} == {"p": (4, 2), "q": (4, 3)}


class TestQuantisation:
    @pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
    @given(
        values=st.lists(
            st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.5, 1.5, -0.5, 3e38, -3e38]),
            min_size=1,
            max_size=20,
        ),
        scale=st.floats(0.0009765625, 100, width=32),
        zero_point=st.integers(-100, 100),
    )
    def test_against_plain_numpy(
        self, dtype: Any, values: list[float], scale: float, zero_point: int
    ) -> None:
        tensor = spec((len(values),), dtype, scale, zero_point)
        x = np.array(values, np.float32)
        info = np.iinfo(dtype)
        expected = []
        for value in x:
            with np.errstate(over="ignore"):
                steps = float(np.float32(value) / np.float32(scale))
            level = zero_point + (round(steps) if abs(steps) < 1e9 else np.sign(steps) * 1e9)
            expected.append(int(np.clip(level, info.min, info.max)))
        levels = quantize(x, tensor)
        assert levels.dtype == dtype
        assert levels.tolist() == expected
        back = dequantize(levels, tensor)
        assert back.dtype == np.float32
        plain = (levels.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
        assert back.tobytes() == plain.tobytes()

    def test_halves_round_to_even(self) -> None:
        tensor = spec((5,), np.int8, 2.0, 1)
        values = np.array([-3.0, -1.0, 1.0, 3.0, 5.0], np.float32)  # -1.5 -0.5 0.5 1.5 2.5 steps
        assert quantize(values, tensor).tolist() == [-1, 1, 1, 3, 3]

    def test_what_is_not_finite(self) -> None:
        tensor = spec((3,), np.int8, 0.5, 3)
        x = np.array([np.nan, np.inf, -np.inf], np.float32)
        assert quantize(x, tensor).tolist() == [3, 127, -128]
        batch = read_batch([tensor], x, skip_nonfinite=True)
        assert batch.nonfinite is not None
        assert batch.nonfinite.tolist() == [3]

    def test_nonfinite_values_are_counted_per_sample(self) -> None:
        specs = [spec((1, 2), np.float32, name="a"), spec((1, 2), np.float32, name="b")]
        a = np.array([[0, np.nan], [0, 0], [np.inf, np.nan]], np.float32)
        b = np.array([[0, 0], [0, 0], [np.nan, 0]], np.float32)
        batch = read_batch(specs, {"a": a, "b": b}, skip_nonfinite=True)
        assert batch.nonfinite is not None
        assert batch.nonfinite.tolist() == [1, 0, 3]
        assert np.isnan(batch.rows[0][0, 0, 1])  # a float model gets what came

    def test_float_tensors_with_leftover_scales(self) -> None:
        """Converters leave quantisation parameters on float tensors: they mean nothing there."""
        tensor = spec((1, 3), np.float32, 0.1, 5)
        assert not tensor.quantized
        x = np.array([[0.25, -1, 7]], np.float32)
        batch = read_batch([tensor], x)
        assert not batch.real
        assert batch.rows[0].tobytes() == x.tobytes()
        extractor = SignalExtractor([tensor], [tensor], None)
        measured = extractor.measure([x], [x])
        assert measured.values[0] == pytest.approx(float(x.mean()))


class TestOutputsOfManyShapes:
    """Some models answer with as many values as the sample deserves."""

    def test_one_sample_is_served(self) -> None:
        answer = shape_outputs([spec((0,), np.float32)], [[np.ones(2)]], "single", False)
        assert isinstance(answer, np.ndarray)
        assert answer.shape == (2,)

    def test_a_batch_is_refused(self) -> None:
        with pytest.raises(ValueError, match="x: expected one sample, because the shape of the"):
            shape_outputs([spec((0,))], [[np.ones(2)], [np.ones(3)]], "leading", False)

    def test_no_value_at_all(self) -> None:
        x = np.ones((1, 3), np.float32)
        extractor = SignalExtractor([spec(dtype=np.float32)], [spec((3,), np.float32)], None)
        measured = extractor.measure([x], [np.ones(0, np.float32)])
        assert np.isnan(measured.values[-2:]).all()
        assert measured.nonfinite_outputs == 0


def test_strings_are_refused() -> None:
    with pytest.raises(TypeError, match="x: expected a model that takes numbers, got one for str"):
        read_batch([spec((1,), np.bytes_)], np.array([b"abc"]))


class TestOut:
    def test_form_and_dtype(self) -> None:
        quantised = spec((1, 3), np.int8, 0.5)
        batch = Batch([np.zeros((4, 1, 3), np.int8)], "leading", True, None)
        check_out([quantised], batch, np.zeros((4, 1, 3), np.float32))
        with pytest.raises(ValueError, match=r"out: expected float32 \(4, 1, 3\), got int8"):
            check_out([quantised], batch, np.zeros((4, 1, 3), np.int8))
        swapped = np.zeros((4, 1, 3), np.dtype(np.float32).newbyteorder())
        with pytest.raises(ValueError, match="out: expected native byte order, got"):
            check_out([quantised], batch, swapped)


class TestSignalsOfOddTensors:
    def test_scalars(self) -> None:
        tensor = spec((), np.float32)
        extractor = SignalExtractor([tensor], [tensor], None)
        x = np.zeros((3,), np.float32)
        for n in range(3):
            measured = extractor.measure([x[n, ...]], [x[n, ...]])
        assert measured.repeats_previous

    def test_tensors_without_elements(self) -> None:
        empty, full = spec((1, 0), name="e"), spec((1, 3), name="f")
        extractor = SignalExtractor([empty, full], [empty, full], None)
        arrays: list[Any] = [np.zeros((1, 0), np.int8), np.ones((1, 3), np.int8)]
        assert len(extractor.measure(arrays, arrays).values) == len(extractor.names)
        assert all("e" not in n.split("[")[-1] for n in extractor.names if "[" in n)

    @pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.int64, np.float64])
    def test_dtypes_that_are_not_measured(self, dtype: Any) -> None:
        tensor = spec((1, 3), dtype)
        extractor = SignalExtractor([tensor], [tensor], None)
        assert extractor.names == ()
        x = np.zeros((1, 3), dtype)
        assert extractor.measure([x], [x]).values == ()
        assert not extractor.measure([x], [x]).repeats_previous

    def test_an_answer_of_nan(self) -> None:
        tensor = spec((1, 3), np.float32)
        x = np.ones((1, 3), np.float32)
        bad = np.array([[0, np.nan, 1]], np.float32)
        classes = SignalExtractor([tensor], [tensor], "probabilities").measure([x], [bad])
        assert (classes.label, classes.confidence, classes.nonfinite_outputs) == (None, None, 1)
        plain = SignalExtractor([tensor], [tensor], None).measure([x], [bad])
        assert plain.nonfinite_outputs == 1
        assert plain.nonfinite == 0
