import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfheal_edge import _core

ANY = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf, 1e200])


@given(samples=st.lists(ANY, max_size=150), window=st.none() | st.integers(1, 20))
def test_equals_numpy(samples: list[float], window: int | None) -> None:
    single = _core.Moments(window)
    batch = _core.Moments(window)
    for x in samples:
        single = _core.Moments.from_state(single.state())
        single.update(x)
    batch.update_many(np.array(samples, "float64"))
    usable = [x for x in samples if abs(x) <= 1e150]
    held = np.array(usable[-window:] if window else usable)
    assert batch.state() == single.state()
    assert (single.count, single.skipped) == (len(held), len(samples) - len(usable))
    assert single.window == window
    if len(held) == 0:
        assert math.isnan(single.mean)
    else:
        assert single.mean == pytest.approx(held.mean(), rel=1e-9, abs=1e-7)
    if len(held) < 2:
        assert math.isnan(single.variance)
        assert math.isnan(single.std)
    else:
        assert single.variance == pytest.approx(held.var(ddof=1), rel=1e-9, abs=1e-4)
        assert single.std == math.sqrt(single.variance)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="window: expected an integer >= 1, got 0"):
        _core.Moments(0)
    with pytest.raises(TypeError, match="samples: expected a 1-D float32 or float64 array"):
        _core.Moments().update_many(np.zeros(3, "int32"))
