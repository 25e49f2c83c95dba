import base64
import math
import zlib
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfheal_edge import _core

FINITE = st.floats(-1e9, 1e9)


@given(samples=st.lists(st.integers(-128, 127).map(float) | FINITE, min_size=2, max_size=200))
def test_every_calibration_value_scores_its_mid_rank(samples: list[float]) -> None:
    reference = _core.Reference(np.array(samples))
    for v in set(samples):
        rank = sum(x < v for x in samples) + 0.5 * sum(x == v for x in samples)
        expected = NormalDist().inv_cdf(rank / len(samples))
        assert reference.score(v) == pytest.approx(expected, abs=1e-8)


@given(
    samples=st.lists(FINITE, min_size=2, max_size=600),
    at=st.lists(st.floats(allow_nan=False), min_size=2, max_size=50),
)
def test_scores_are_monotone_bounded_and_equal_in_batch(
    samples: list[float], at: list[float]
) -> None:
    reference = _core.Reference(np.array(samples))
    xs = np.sort(np.array(at))
    scores = reference.score_many(xs)
    assert np.all(np.diff(scores) >= 0)
    assert np.all(np.abs(scores) <= 8)
    assert scores.tolist() == [reference.score(x) for x in xs]
    restored = _core.Reference.from_state(reference.state())
    assert restored.score_many(xs).tolist() == scores.tolist()
    assert math.isnan(reference.score(math.nan))
    assert (reference.score(math.inf), reference.score(-math.inf)) == (8, -8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["uniform", "normal", "exponential"])
def test_the_table_loses_little_of_the_whole_distribution(kind: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    draw = getattr(rng, kind)
    samples = np.sort(draw(size=50_000).astype(dtype))
    values = draw(size=2_000).astype(dtype)
    values = values[(values > samples[50]) & (values < samples[-50])]
    ranks = (np.searchsorted(samples, values) + np.searchsorted(samples, values, "right")) / 2
    exact = [NormalDist().inv_cdf(rank / len(samples)) for rank in ranks]
    reference = _core.Reference(samples)
    assert reference.score_many(values) == pytest.approx(exact, abs=0.03)
    # Of 200,000 new samples the scores have standard deviation 1, to sampling error.
    scores = reference.score_many(draw(size=200_000).astype(dtype))
    assert scores.mean() == pytest.approx(0, abs=0.02)
    assert scores.std() == pytest.approx(1, abs=0.02)


def test_a_level_shared_by_half_of_all_samples_scores_its_middle() -> None:
    rng = np.random.default_rng(1)
    samples = np.where(rng.random(20_000) < 0.55, 1.0, rng.random(20_000))
    reference = _core.Reference(samples)
    share = np.mean(samples == 1.0)
    assert reference.score(1.0) == pytest.approx(NormalDist().inv_cdf(1 - share / 2), abs=1e-9)


def test_unusable_samples_are_counted_or_refused() -> None:
    reference = _core.Reference(np.array([1.0, math.nan, 2.0, math.inf]))
    assert (reference.count, reference.skipped) == (2, 2)
    assert (reference.lowest, reference.highest) == (1, 2)
    with pytest.raises(ValueError, match="samples: expected at least 2 finite numbers, got 1"):
        _core.Reference(np.array([1.0, math.nan]))


def test_a_state_of_the_second_version_is_read() -> None:
    """It knew nothing of how steady the calibration was."""
    reference = _core.Reference.from_state(zlib.decompress(base64.b85decode(SECOND)))
    today = _core.Reference(np.tile([1.0, 1.0, 1.0, 2.0], 30))
    assert reference.score(1.5) == today.score(1.5)
    old, new = (_core.SignalMonitor(r, arl0=1e4) for r in (reference, today))
    assert old.thresholds == new.thresholds
    assert (old.unsteadiness, new.unsteadiness > 0) == (0.0, True)


SECOND = (
    "c-jm02o7OnU}6Yzbqfk)WB`K-22@a&yG>@niKq5VD54+iH`LvUo|bZDKUBaWgSGm=mGn>c4ADvo3)Q4q9a0^>r#O7S"
    "vR}txY1B9CclOf_yOz)H*kFHoGXER>L(lD5p*sEU_j%k;__u$#Kn7RivIhIQd*ANnYhT~5^ZRjU%f9>eckb!-Y)>oR"
    "pU%VXxM=-3`|i01^*;qXw};4|w-5Yjv5xP?AA6X7m=m4O)%==nvJB4WVOMH7z5R*(zv{T4zM${+^%FJ)IK0^bmtQ6I"
    "Np(qIzrFjV_T>KTv-Vz7rrv%gy57ET@t=jaTff^gyy#%n(Aa6uKq6T6>V7o<n$LF)"
)
