import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from selfheal_edge import _core

INTEGERS = st.sampled_from(["int8", "uint8", "int16"])
SHAPES = hnp.array_shapes(max_dims=3, max_side=40)
SCALES = st.floats(1e-3, 10)
ZERO_POINTS = st.integers(-128, 127)


@given(data=st.data(), dtype=INTEGERS, shape=SHAPES, scale=SCALES, zero_point=ZERO_POINTS)
def test_integer_inputs_equal_numpy(
    data: Any, dtype: Any, shape: Any, scale: float, zero_point: int
) -> None:
    array = data.draw(hnp.arrays(dtype, shape))
    previous = data.draw(st.none() | hnp.arrays(dtype, shape))
    signals = _core.measure_input(array, scale, zero_point, previous)
    values = scale * (array.astype(float) - zero_point)
    limits = np.iinfo(dtype)
    assert signals.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-9)
    assert signals.std == pytest.approx(values.std(), rel=1e-9, abs=1e-6)
    assert signals.saturated == np.mean((array == limits.min) | (array == limits.max))
    assert signals.nonfinite == 0
    if previous is None:
        assert signals.change is None
    else:
        change = scale * np.abs(array.astype(float) - previous.astype(float)).mean()
        assert signals.change == pytest.approx(change, rel=1e-9)


@given(data=st.data(), shape=SHAPES)
def test_float_inputs_equal_numpy(data: Any, shape: Any) -> None:
    elements = st.floats(-1e6, 1e6, width=32) | st.sampled_from([math.nan, math.inf])
    array = data.draw(hnp.arrays("float32", shape, elements=elements))
    previous = data.draw(hnp.arrays("float32", shape, elements=elements))
    signals = _core.measure_input(array, previous=previous)
    finite = array[np.isfinite(array)].astype(float)
    both = np.isfinite(array) & np.isfinite(previous)
    assert signals.nonfinite == array.size - finite.size
    assert signals.saturated == 0
    if finite.size:
        assert signals.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-6)
        assert signals.std == pytest.approx(finite.std(), rel=1e-9, abs=1e-3)
    else:
        assert math.isnan(signals.mean)
    assert signals.change is not None
    if both.any():
        change = np.abs(array[both].astype(float) - previous[both]).mean()
        assert signals.change == pytest.approx(change, rel=1e-9)
    else:
        assert math.isnan(signals.change)


def check_output(signals: _core.OutputSignals, p: Any) -> None:
    order = np.sort(p)[::-1]
    assert signals.confidence == pytest.approx(order[0], rel=1e-9, abs=1e-12)
    margin = order[0] - order[1] if len(p) > 1 else order[0]
    assert signals.margin == pytest.approx(margin, rel=1e-9, abs=1e-12)
    positive = p[p > 0]
    if positive.size == 0:
        assert math.isnan(signals.entropy)
        return
    q = positive / positive.sum()
    assert signals.entropy == pytest.approx(-(q * np.log(q)).sum(), rel=1e-9, abs=1e-9)


@given(data=st.data(), dtype=INTEGERS, classes=st.integers(1, 300), zero_point=ZERO_POINTS)
def test_quantised_outputs_equal_numpy(
    data: Any, dtype: Any, classes: int, zero_point: int
) -> None:
    array = data.draw(hnp.arrays(dtype, classes))
    values = (array.astype(float) - zero_point) / 256
    signals = _core.measure_output(array, 1 / 256, zero_point)
    assert signals.label == int(np.argmax(array))
    check_output(signals, values)
    signals = _core.measure_output(array, 1 / 256, zero_point, "logits")
    weights = np.exp(values - values.max())
    assert signals.label == int(np.argmax(array))
    check_output(signals, weights / weights.sum())


@given(array=hnp.arrays("float32", st.integers(1, 50), elements=st.floats(width=32)))
def test_float_logits_equal_numpy(array: Any) -> None:
    signals = _core.measure_output(array, kind="logits")
    if not np.isfinite(array).all():
        assert signals.label == -1
        assert math.isnan(signals.confidence)
        return
    values = array.astype(float)
    weights = np.exp(values - values.max())
    assert signals.label == int(np.argmax(array))
    check_output(signals, weights / weights.sum())


def test_refusals() -> None:
    array = np.zeros(3, "int8")
    with pytest.raises(TypeError, match="array: expected an int8, uint8, int16 or float32 array"):
        _core.measure_input(np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="previous: expected int8 of shape"):
        _core.measure_input(array, previous=np.zeros(4, "int8"))
    with pytest.raises(ValueError, match="previous: expected int8 of shape"):
        _core.measure_input(array, previous=np.zeros(3, "uint8"))
    with pytest.raises(ValueError, match="array: expected at least 1 element"):
        _core.measure_input(array[:0])
    with pytest.raises(ValueError, match="C-contiguous"):
        _core.measure_output(np.zeros(6, "int8")[::2])
    with pytest.raises(ValueError, match="scale: expected a finite number > 0, got 0"):
        _core.measure_output(array, 0)
    with pytest.raises(ValueError, match="kind: expected 'probabilities' or 'logits'"):
        _core.measure_output(array, kind="odds")  # type: ignore[arg-type]
