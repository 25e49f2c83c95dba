"""The promises at the size that proves them; minutes."""

import math
from typing import Any

import numpy as np
import pytest

from selfheal_edge import _core

pytestmark = pytest.mark.long

RUNS = 22_500
ARL0 = 500


@pytest.mark.parametrize(
    "make",
    [
        *(lambda k=k: _core.Cusum(0, 1, k=k, arl0=ARL0) for k in (0.25, 0.5, 1.0)),
        lambda: _core.Cusum(0, 1, arl0=ARL0, sides="upper"),
        lambda: _core.PageHinkley(0, 1, arl0=ARL0, sides="lower"),
        *(lambda w=w: _core.Ewma(0, 1, weight=w, arl0=ARL0) for w in (0.05, 0.25)),
    ],
)
def test_false_alarms_come_as_often_as_asked(make: Any) -> None:
    samples = np.random.default_rng(11).standard_normal(RUNS * ARL0)
    alarms = len(make().update_many(samples))
    assert len(samples) / alarms == pytest.approx(ARL0, rel=0.02)


@pytest.mark.parametrize("shift", [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0])
def test_the_onset_bound_covers(shift: float) -> None:
    rng = np.random.default_rng(2)
    monitor = _core.SignalMonitor(_core.Reference.normal(0, 1), arl0=1e5)
    covered = used = 0
    while used < 2000:
        monitor.reset()
        if len(monitor.update_many(rng.standard_normal(1000))):
            continue
        while not monitor.update(shift + rng.standard_normal()):
            pass
        bound = monitor.onset_earliest
        assert bound is not None
        used += 1
        covered += bound <= 1000
    # One standard error of a share of 0.93 is 0.0057.
    assert covered / used >= 0.93 - 2 * math.sqrt(0.93 * 0.07 / used)


@pytest.mark.parametrize("kind", ["normal", "exponential", "int8"])
@pytest.mark.parametrize("phi", [0.0, 0.3])
def test_nine_calibrations_of_ten_keep_the_promise(kind: str, phi: float) -> None:
    rng = np.random.default_rng(4)

    def draw(count: int) -> Any:
        own = rng.exponential(size=count) - 1 if kind == "exponential" else rng.normal(size=count)
        if phi:
            own[1:] *= math.sqrt(1 - phi * phi)
            for i in range(1, count):
                own[i] += phi * own[i - 1]
        return np.minimum(np.round(own * 8), 0.0) if kind == "int8" else own

    arl0 = 1000.0
    kept = 0
    for _ in range(60):
        monitor = _core.SignalMonitor(_core.Reference(draw(10_000)), arl0=arl0)
        alarms = len(monitor.update_many(draw(100_000)))
        kept += 100_000 / max(alarms, 1) >= arl0
    assert kept >= 54
