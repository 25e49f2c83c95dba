"""Identical alarms, and for Page-Hinkley identical sums to the bit, against river and frouros."""

import importlib
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfheal_edge import _core, drift

# The nox session `oracles` installs them and lets nothing be skipped.
fetch: Any = (
    importlib.import_module if "SELFHEAL_REQUIRE_ORACLES" in os.environ else pytest.importorskip
)
river_drift = fetch("river.drift")
river_binary = fetch("river.drift.binary")
frouros = fetch("frouros.detectors.concept_drift")

# Pieces of normal, constant, extreme and drawn values, so that alarms, restarts and ties all occur.
PIECE = st.one_of(
    st.tuples(st.just("normal"), st.integers(0, 10**6), st.floats(-5, 5), st.integers(1, 150)),
    st.tuples(st.just("constant"), st.floats(-1e3, 1e3), st.integers(1, 80)),
    st.tuples(st.just("values"), st.lists(st.floats(-1e15, 1e15), max_size=40)),
)
ERROR_PIECE = st.tuples(st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 200))


def stream(pieces: list[Any]) -> list[float]:
    values: list[float] = []
    for kind, *rest in pieces:
        if kind == "normal":
            seed, mean, count = rest
            values += (mean + np.random.default_rng(seed).normal(size=count)).tolist()
        elif kind == "constant":
            values += [rest[0]] * rest[1]
        else:
            values += rest[0]
    return values


def errors(pieces: list[tuple[int, float, int]]) -> list[int]:
    return [int(e) for seed, p, n in pieces for e in np.random.default_rng(seed).random(n) < p]


def same(ours: float, theirs: float) -> bool:
    return ours == theirs or (math.isnan(ours) and math.isnan(theirs))


def agree(
    ours: Any, theirs: Any, values: list[Any], look: Callable[[Any, Any], None] | None = None
) -> None:
    for x in values:
        alarm = ours.update(x)
        theirs.update(x)
        assert alarm is bool(theirs.drift_detected)
        assert ours.drift_detected is alarm
        if look is not None:
            look(ours, theirs)


def warns_alike(ours: Any, theirs: Any) -> None:
    assert ours.warning_detected is bool(theirs.warning_detected)


STREAM = st.lists(PIECE, max_size=5).map(stream)
ERRORS = st.lists(ERROR_PIECE, max_size=4).map(errors)


@given(
    values=STREAM,
    min_instances=st.integers(0, 60),
    delta=st.floats(0, 1),
    threshold=st.floats(0, 60),
    alpha=st.floats(0.9, 1),
    sides=st.sampled_from(["both", "upper", "lower"]),
)
def test_page_hinkley_equals_rivers_to_the_bit(
    values: list[float],
    min_instances: int,
    delta: float,
    threshold: float,
    alpha: float,
    sides: Any,
) -> None:
    ours = _core.PageHinkley(
        compat="river",
        min_instances=min_instances,
        delta=delta,
        threshold=threshold,
        alpha=alpha,
        sides=sides,
    )
    mode = {"both": "both", "upper": "up", "lower": "down"}[sides]
    theirs = river_drift.PageHinkley(min_instances, delta, threshold, alpha, mode)

    def look(a: Any, b: Any) -> None:
        sums = a.sums
        assert same(sums["mean"], b._x_mean.get())
        assert same(sums["sum_increase"], b._sum_increase)
        assert same(sums["sum_decrease"], b._sum_decrease)
        assert same(sums["min_increase"], b._min_increase)
        assert same(sums["max_decrease"], b._max_decrease)

    agree(ours, theirs, values, look)


@given(
    values=STREAM,
    min_instances=st.integers(1, 60),
    delta=st.floats(0, 1),
    threshold=st.floats(0, 60),
    alpha=st.floats(0.9, 1),
    kind=st.sampled_from(["PageHinkley", "CUSUM"]),
)
def test_page_hinkley_and_cusum_equal_frouros_to_the_bit(
    values: list[float],
    min_instances: int,
    delta: float,
    threshold: float,
    alpha: float,
    kind: str,
) -> None:
    settings_ = {"delta": delta, "lambda_": threshold, "min_num_instances": min_instances}
    ours: Any
    if kind == "PageHinkley":
        config = frouros.PageHinkleyConfig(alpha=alpha, **settings_)
        theirs = frouros.PageHinkley(config=config)
        ours = _core.PageHinkley(
            compat="frouros",
            min_instances=min_instances,
            delta=delta,
            threshold=threshold,
            alpha=alpha,
        )
    else:
        theirs = frouros.CUSUM(config=frouros.CUSUMConfig(**settings_))
        ours = _core.Cusum(compat="frouros", min_instances=min_instances, k=delta, h=threshold)
    for x in values:
        alarm = ours.update(x)
        theirs.update(value=x)
        assert alarm is bool(theirs.drift)
        assert same(ours.sums["mean"], theirs.mean_error_rate.mean)
        assert same(ours.sums["sum"], float(theirs.sum_))


@given(
    values=STREAM,
    delta=st.floats(1e-4, 1),
    clock=st.integers(1, 40),
    max_buckets=st.integers(2, 8),
    least=st.integers(1, 10),
    grace=st.integers(0, 40),
)
def test_adwin_equals_rivers(
    values: list[float], delta: float, clock: int, max_buckets: int, least: int, grace: int
) -> None:
    ours = _core.Adwin(delta, clock, max_buckets, least, grace)
    theirs = river_drift.ADWIN(delta, clock, max_buckets, least, grace)

    def look(a: Any, b: Any) -> None:
        assert a.width == b.width
        assert same(a.total, b.total)
        assert same(a.variance, b.variance)

    agree(ours, theirs, values, look)


@pytest.mark.slow
@settings(max_examples=40)
@given(
    values=STREAM,
    alpha=st.floats(0.0001, 0.3),
    stat_size=st.integers(2, 40),
    extra=st.integers(0, 150),
    seed=st.integers(0, 2**64 - 1),
)
def test_kswin_equals_rivers(
    values: list[float], alpha: float, stat_size: int, extra: int, seed: int
) -> None:
    window_size = 2 * stat_size + extra
    ours = _core.Kswin(alpha, window_size, stat_size, seed)
    theirs = river_drift.KSWIN(alpha, window_size, stat_size, seed)

    def look(a: Any, b: Any) -> None:
        # SciPy sums an exact p of 1 to a little more, rejects it and takes the asymptotic one.
        expected = float(b.p_value)
        assert a.p_value == pytest.approx(expected, rel=1e-12) or min(a.p_value, expected) > 0.999

    agree(ours, theirs, values, look)


@given(
    values=ERRORS,
    warm_start=st.integers(0, 60),
    warning=st.floats(0.5, 3),
    drift=st.floats(0.5, 4),
)
def test_ddm_equals_rivers(
    values: list[int], warm_start: int, warning: float, drift: float
) -> None:
    ours = _core.Ddm(warm_start, warning, drift)
    agree(ours, river_binary.DDM(warm_start, warning, drift), values, warns_alike)


@given(values=ERRORS, warm_start=st.integers(0, 40), levels=st.tuples(*[st.floats(0.5, 1)] * 2))
def test_eddm_equals_rivers(
    values: list[int], warm_start: int, levels: tuple[float, float]
) -> None:
    beta, alpha = sorted(levels)
    ours = _core.Eddm(warm_start, alpha, beta)
    agree(ours, river_binary.EDDM(warm_start, alpha, beta), values, warns_alike)


@pytest.mark.slow
@given(
    values=ERRORS,
    drift=st.floats(1e-4, 0.5),
    warning=st.floats(1e-4, 0.5),
    two_sided=st.booleans(),
)
def test_hddm_a_equals_rivers(
    values: list[int], drift: float, warning: float, two_sided: bool
) -> None:
    ours = _core.HddmA(drift, warning, two_sided)
    agree(ours, river_binary.HDDM_A(drift, warning, two_sided), values, warns_alike)


@pytest.mark.slow
@given(
    values=ERRORS,
    drift=st.floats(1e-4, 0.5),
    warning=st.floats(1e-4, 0.5),
    weight=st.floats(0.01, 0.9),
    two_sided=st.booleans(),
)
def test_hddm_w_equals_rivers(
    values: list[int], drift: float, warning: float, weight: float, two_sided: bool
) -> None:
    ours = _core.HddmW(drift, warning, weight, two_sided)
    agree(ours, river_binary.HDDM_W(drift, warning, weight, two_sided), values, warns_alike)


@pytest.mark.slow
def test_long_streams_at_default_settings() -> None:
    rng = np.random.default_rng(8)
    ours: Any
    shifts = np.repeat(rng.normal(scale=2, size=20), 500)
    values = (shifts + rng.normal(size=10_000)).tolist()
    for ours, theirs in (
        (_core.PageHinkley(compat="river"), river_drift.PageHinkley()),
        (_core.Adwin(), river_drift.ADWIN()),
        (_core.Kswin(seed=42), river_drift.KSWIN(seed=42)),
    ):
        agree(ours, theirs, values)
    wrong = (rng.random(10_000) < np.repeat(rng.random(20), 500)).astype(int).tolist()
    for ours, theirs in (
        (_core.Ddm(), river_binary.DDM()),
        (_core.Eddm(), river_binary.EDDM()),
        (_core.HddmA(), river_binary.HDDM_A()),
        (_core.HddmW(), river_binary.HDDM_W()),
    ):
        agree(ours, theirs, wrong, warns_alike)


@pytest.mark.slow
def test_rivers_models_run_with_our_detectors() -> None:
    """They clone and copy what they are given, and give it bool, int and float."""
    tree = importlib.import_module("river.tree")
    naive_bayes = importlib.import_module("river.naive_bayes")
    ours = [
        tree.HoeffdingAdaptiveTreeClassifier(seed=1, drift_detector=drift.ADWIN(0.05)),
        river_drift.DriftRetrainingClassifier(naive_bayes.GaussianNB(), drift.DDM(20)),
    ]
    theirs = [
        tree.HoeffdingAdaptiveTreeClassifier(seed=1, drift_detector=river_drift.ADWIN(0.05)),
        river_drift.DriftRetrainingClassifier(naive_bayes.GaussianNB(), river_binary.DDM(20)),
    ]
    rng = np.random.default_rng(9)
    for i, row in enumerate(rng.standard_normal((3000, 3)).tolist()):
        x = dict(enumerate(row))
        y = bool((row[0] > 0) ^ (i // 1000 == 1))
        for a, b in zip(ours, theirs, strict=True):
            assert a.predict_one(x) == b.predict_one(x)
            a.learn_one(x, y)
            b.learn_one(x, y)
    assert ours[0].clone().predict_one({0: 0.0}) == theirs[0].clone().predict_one({0: 0.0})
