import gc
from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from selfheal_edge import _core


@pytest.mark.slow
@given(
    data=st.data(),
    capacity=st.integers(1, 9),
    width=st.none() | st.integers(1, 4),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_equals_a_deque(data: Any, capacity: int, width: int | None, dtype: Any) -> None:
    buffer = _core.RingBuffer(capacity, width, dtype)
    model: deque[Any] = deque(maxlen=capacity)
    total = 0
    for _ in range(data.draw(st.integers(0, 6))):
        count = data.draw(st.integers(0, 25))
        shape = (count,) if width is None else (count, width)
        rows = data.draw(hnp.arrays(dtype, shape, elements=st.floats(width=32)))
        if data.draw(st.booleans()):
            buffer.push_many(rows)
        else:
            for row in rows:
                buffer.push(row)
        model.extend(rows)
        total += count
        if data.draw(st.booleans()):
            buffer = _core.RingBuffer.from_state(buffer.state())
    expected = np.array(model, dtype).reshape((len(model),) if width is None else (-1, width or 1))
    np.testing.assert_array_equal(buffer.to_array(), expected)
    np.testing.assert_array_equal(np.concatenate(buffer.spans), expected)
    assert (len(buffer), buffer.total) == (len(model), total)
    assert (buffer.capacity, buffer.width, buffer.dtype) == (capacity, width, dtype)
    assert buffer.to_array().shape == expected.shape
    buffer.clear()
    assert len(buffer) == buffer.total == 0


def test_views_are_read_only_show_later_pushes_and_keep_the_buffer_alive() -> None:
    buffer = _core.RingBuffer(4)
    buffer.push_many(np.arange(6.0))
    older, newer = buffer.spans
    assert (older.tolist(), newer.tolist()) == ([2, 3], [4, 5])
    assert not older.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        older[0] = 1
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        older.setflags(write=True)
    buffer.push(6.0)
    assert older.tolist() == [6, 3]
    del buffer
    gc.collect()
    assert older.tolist() == [6, 3]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="capacity: expected an integer >= 1, got 0"):
        _core.RingBuffer(0)
    with pytest.raises(ValueError, match="width: expected an integer >= 1, got 0"):
        _core.RingBuffer(1, 0)
    with pytest.raises(ValueError, match="dtype: expected"):
        _core.RingBuffer(1, dtype="int8")  # type: ignore[arg-type]
    buffer = _core.RingBuffer(3, 2, "float32")
    with pytest.raises(TypeError, match=r"rows: expected a 2-D float32 array with rows of 2, got "):
        buffer.push_many(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"got float32 of shape \(2, 3\)"):
        buffer.push_many(np.zeros((2, 3), "float32"))
    with pytest.raises(ValueError, match="C-contiguous"):
        buffer.push_many(np.zeros((2, 3), "float32").T)
    with pytest.raises(ValueError, match="x: expected a 1-D float32 array"):
        buffer.push(np.zeros(3, "float32"))
    assert buffer.total == 0
