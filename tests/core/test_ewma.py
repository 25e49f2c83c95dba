import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfheal_edge import _core

SAMPLES = st.lists(st.floats(-50, 50) | st.sampled_from([math.nan, math.inf]), max_size=200)


@given(
    samples=SAMPLES,
    mean=st.floats(-5, 5),
    std=st.floats(0.1, 10),
    weight=st.floats(0.001, 1),
    limit=st.floats(0.5, 5),
    sides=st.sampled_from(["both", "upper", "lower"]),
)
def test_equals_ten_obvious_lines(
    samples: list[float], mean: float, std: float, weight: float, limit: float, sides: str
) -> None:
    ours = _core.Ewma(mean, std, weight=weight, limit=limit, sides=sides)  # type: ignore[arg-type]
    batch = _core.Ewma.from_state(ours.state())
    e = 0.0
    alarm = False
    alarms = []
    for i, x in enumerate(samples):
        e = 0.0 if alarm else e
        alarm = False
        if math.isfinite(x):
            e += weight * ((x - mean) * (1.0 / std) - e)
            reach = limit * math.sqrt(weight / (2.0 - weight))
            alarm = (e > reach and sides != "lower") or (e < -reach and sides != "upper")
            held = 9.0 * math.sqrt(weight / (2.0 - weight))
            e = max(e, -held) if sides == "upper" else min(e, held) if sides == "lower" else e
        assert ours.update(x) is alarm
        assert ours.average == e
        alarms += [i] * alarm
    assert batch.update_many(np.array(samples, np.float64)).tolist() == alarms
    assert batch.state() == ours.state()


@pytest.mark.parametrize(("sides", "sign"), [("upper", 1), ("lower", -1)])
@pytest.mark.parametrize("weight", [0.001, 0.1])
def test_a_wild_value_on_the_other_side_hides_nothing(sides: Any, sign: int, weight: float) -> None:
    chart = _core.Ewma(0, 1, weight=weight, limit=4, sides=sides)
    chart.update(sign * -1e300)
    for _ in range(100):
        chart.update(sign * -50.0)
    assert any(chart.update(sign * 10.0) for _ in range(40))


def test_arl0_solves_for_the_limit() -> None:
    chart = _core.Ewma(0, 1, weight=0.1, arl0=499.58)
    assert chart.limit == pytest.approx(2.814, abs=5e-4)
    with pytest.raises(ValueError, match="limit: expected exactly one of limit and arl0, got both"):
        _core.Ewma(0, 1, limit=3, arl0=500)


@pytest.mark.parametrize("weight", [0.05, 0.25])
def test_false_alarms_come_as_often_as_asked(weight: float) -> None:
    samples = np.random.default_rng(5).standard_normal(1_500_000)
    alarms = _core.Ewma(0, 1, weight=weight, arl0=500).update_many(samples)
    assert len(samples) / len(alarms) == pytest.approx(500, rel=0.06)
