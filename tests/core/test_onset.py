"""When a change began, however long ago that is."""

from __future__ import annotations

import base64
import math
import zlib
from typing import Any

import numpy as np
import pytest

import selfheal_edge as she
from selfheal_edge import _core

MOST = 8_000_000  # samples that are waited for an alarm
BLOCK = 100_000


def until_alarm(rng: np.random.Generator, shift: float, lead: int) -> tuple[Any, int] | None:
    """Calibrate as the README does, and shift after `lead` samples; None without an alarm."""
    normal = rng.normal(20.0, 0.5, 10_000)
    detector = she.DriftDetector(normal, false_alarm_interval="30 d", rate_hz=10)
    if len(detector.update_many(rng.normal(20.0, 0.5, lead))):
        return None
    for _ in range(MOST // BLOCK):
        before = detector.state()
        block = rng.normal(20.0 + 0.5 * shift, 0.5, BLOCK)
        found = detector.update_many(block)
        if len(found):
            break
    else:
        return None
    detector = she.DriftDetector.from_state(before)
    detector.update_many(block[: found[0] + 1])
    assert detector.drift_detected
    return detector, lead


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shift", "runs"),
    [
        *((shift, 30) for shift in (0.1, 0.3)),
        *(pytest.param(shift, 200, marks=pytest.mark.long) for shift in (0.1, 0.15, 0.3)),
    ],
)
def test_the_bound_covers_in_the_readme_s_configuration(shift: float, runs: int) -> None:
    """At a shift of 0.1 sd the alarm may come a million samples after the change."""
    rng = np.random.default_rng(21)
    covered = used = 0
    for _ in range(runs):
        found = until_alarm(rng, shift, int(rng.integers(0, 200_000)))
        if found is None:
            continue
        detector, lead = found
        used += 1
        covered += detector.onset_earliest <= lead
    assert used >= 0.9 * runs
    assert covered / used >= 0.93 - 2 * math.sqrt(0.93 * 0.07 / used)


@pytest.mark.slow
def test_what_the_calibration_was_wrong_by_is_no_change() -> None:
    """Its mean is known to 0.01 sd: over five million samples a shift since their beginning."""
    rng = np.random.default_rng(22)
    used = 0
    for _ in range(4):
        found = until_alarm(rng, 0.5, 5_000_000)
        if found is None:  # a false alarm within a fifth of the interval
            continue
        used += 1
        detector, lead = found
        assert lead - 1000 < detector.onset_earliest <= lead
        assert abs(detector.onset - lead) < 200
        assert not detector.onset_since_start
    assert used >= 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: _core.Cusum(0, 1, k=0.05, h=400),
        lambda: _core.SignalMonitor(_core.Reference.normal(0, 1), arl0=1e6),
        lambda: _core.Ewma(0, 1, weight=0.002, limit=3.5),
    ],
)
def test_a_change_since_the_start_says_so(make: Any) -> None:
    rng = np.random.default_rng(23)
    for lead, expected in ((0, True), (20_000, False)):
        detector = make()
        assert detector.onset_since_start is False
        detector.update_many(rng.normal(0.0, 1.0, lead))
        for x in rng.normal(0.2, 1.0, 60_000).tolist():
            if detector.update(x):
                break
        assert detector.drift_detected
        assert detector.onset_since_start is expected
        assert (detector.onset_earliest == 0) is expected


def test_a_state_of_the_first_version_goes_on() -> None:
    """It kept other sums of the past than today's."""
    blob = zlib.decompress(base64.b85decode(FIRST))
    detector = _core.Cusum.from_state(blob)
    today = _core.Cusum(0, 1, h=40)
    samples = 2 * np.sin(np.arange(200.0))
    samples[120:] += 0.4
    today.update_many(samples)
    assert (detector.count, detector.statistic) == (today.count, today.statistic)
    assert detector.onset == today.onset == 120
    assert detector.onset_earliest == today.onset_earliest
    rest = np.random.default_rng(24).normal(0.8, 1.0, 3000)
    assert detector.update_many(rest).tolist() == today.update_many(rest).tolist()
    assert detector.state() == today.state()


FIRST = (
    "c-p0tJ4jn$7=}+WG$LpnY!O^aYnKp$5=cpNId5o()FKhmfCUvh6dW>yP+J{@Gjy=fA)u5D7F2peM5I(r;w5RlB(z"
    "`zThJ{_=^&zXX{RDu<^On(sYCze=Q-bZzRSZokx=BGMYCwPqLDW51?`M;p#QzgC--e=nx%L~V)f@=$0@0a-J=`(K"
    "Y-Ji$ghjJ{KzQYY`q&mR&oB(pdSmOf7^F278M)54lkAz_cYA;u&lVfyHQ6@amaZe$ScOv7T}}evBzHn_@ub(-|}N"
    "c#I?x)Ruw1H{lJ>ynb%K(SQq&NFM=qDen%d}{s-Yz7be9%qwX7+67z?x9!v{AeNi`NgrAblgZCnSE$hVx;p0w?2X"
    "i8B-MNW$W#8<VeX>9H#eUca?_ZveUBz?p-E_TeLQ?R$(}@vLKT&T-O3a_un=vZ<y?p4xnButJ)q+=|UaQ@Wca?p!"
    "U-rrV*q6x<`QZJH>+UMFi}{Ra<GBvOv)_K|JtFM5bP>HG{=o4^j|<)|Y~=dI_wgot8HVuvCDeqW%D&kz`(%G6U*y"
    "O1ztR4DjN#w4s1pxTOQqZu!8Us>ngy3LMIHa}N&eUu`(YovKkv)?nGVlS^YVN=5BEQ}AJyl2=e=+8@js_CvX?jnz"
    "8&lM"
)
