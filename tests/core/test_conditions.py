"""What the hot path tells conditions apart by, against NumPy, and what it makes of a stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support import Array

from selfheal_edge import _core
from selfheal_edge.diagnosis.layout import Layout
from selfheal_edge.diagnosis.profile import channel_numbers

LAYOUTS = [
    Layout((28, 28), (0, 1), None),
    Layout((12, 9, 3), (0, 1), 2),
    Layout((3, 12, 9), (1, 2), 0),
    Layout((5, 2, 17), (0, 2), 1),
    Layout((49, 10), (0,), 1),
    Layout((49, 10), (0, 1), None),
    Layout((128,), (), 0),
    Layout((40,), (), None),
    Layout((1,), (), None),
    Layout((3000,), (0,), None),
]


def draw(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    if dtype == "float32":
        return rng.normal(3, 50, shape).astype(np.float32)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
def test_numbers_are_those_of_the_diagnosis(dtype: str) -> None:
    rng = np.random.default_rng(5)
    scale, zero_point = (1.0, 0) if dtype == "float32" else (0.017, -3)
    for layout in LAYOUTS:
        raw = draw(rng, dtype, (4, *layout.shape))
        if dtype == "float32":
            raw.reshape(4, -1)[1, 0] = np.nan
            raw.reshape(4, -1)[2, -1] = np.inf
        numbers = _core.ChannelNumbers(
            layout.shape,
            channel=layout.channel,
            smooth=layout.smooth,
            scale=scale,
            zero_point=zero_point,
        )
        expected = channel_numbers(layout, layout.read(raw, scale, zero_point)).reshape(4, -1)
        found = numbers.measure(raw)
        assert found.shape == expected.shape == (4, numbers.size), layout
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5, err_msg=str(layout))


def test_numbers_refuse_what_they_cannot_read() -> None:
    usual: dict[str, Any] = {"channel": 1, "smooth": (0,), "scale": 1.0, "zero_point": 0}
    numbers = _core.ChannelNumbers((4, 3), **usual)
    for wrong in (np.zeros((2, 11), np.int8), np.zeros((2, 4, 3), np.int8)[:, ::-1]):
        with pytest.raises(ValueError, match="inputs: expected"):
            numbers.measure(wrong)
    with pytest.raises(ValueError, match="dtype: expected 'int8'"):
        numbers.measure(np.zeros((2, 4, 3), np.int64))
    for change in ({"channel": 2}, {"smooth": (5,)}, {"scale": 0.0}, {"zero_point": 1e9}):
        with pytest.raises(ValueError, match=next(iter(change))):
            _core.ChannelNumbers((4, 3), **{**usual, **change})
    for shape in ((), (0, 3), (1,) * 9):
        with pytest.raises(ValueError, match="shape"):
            _core.ChannelNumbers(shape, **{**usual, "channel": None, "smooth": ()})


def gate(width: int = 3, height: float = 6.0) -> _core.ConditionGate:
    one = [1.0] * width
    rivals = [
        (one, [2.0] * width, one, 1.0 * width, 0.5, 64),
        ([-v for v in one], [-2.0] * width, one, 1.0 * width, 0.5, 64),
    ]
    return _core.ConditionGate(width, rivals, height)


def test_a_stream_passes_where_its_latest_inputs_say_so() -> None:
    rng = np.random.default_rng(7)
    for to, level in ((0, 2.0), (1, -2.0)):
        for _ in range(20):
            rows = np.concatenate((rng.normal(0, 1, (100, 3)), rng.normal(level, 1, (60, 3))))
            at = gate().first_passage(rows)
            windows = (rows[max(0, n - 48) : n].copy() for n in range(1, len(rows) + 1))
            told = [gate().judge(window)[0] for window in windows]
            assert told[:at] == [None] * (at - 1) + [to]
            assert 100 < at <= 130
    assert gate().first_passage(rng.normal(0, 1, (200, 3))) == 0
    assert gate().first_passage(np.full((200, 3), 9.0)) == 0, "as far away as no example"
    assert gate().judge(np.empty((0, 3))) == (None, False)


def test_a_gate_refuses_what_it_is_not_made_for() -> None:
    wrong: list[Any] = [np.zeros((4, 2)), np.zeros((4, 3), np.float32), np.zeros(3)]
    for rows in wrong:
        with pytest.raises(TypeError, match="rows: expected"):
            gate().judge(rows)
    one = [1.0, 1.0]
    for rival in (
        ([1.0], one, one, 0.0, 1.0, 5),
        (one, [float("nan"), 0.0], one, 0.0, 1.0, 5),
        (one, one, [1.0, 0.0], 0.0, 1.0, 5),
    ):
        with pytest.raises(ValueError, match="rivals: expected"):
            _core.ConditionGate(2, [rival], 3.0)
    with pytest.raises(ValueError, match="examples"):
        _core.ConditionGate(2, [(one, one, one, 0.0, 1.0, 0)], 3.0)
    for height in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="height"):
            gate(height=height)
    numbers = _core.ChannelNumbers((2,), channel=0, smooth=(), scale=1.0, zero_point=0)
    with pytest.raises(ValueError, match="gate: expected"):
        _core.ConditionWatch(numbers, gate(), "int8")
