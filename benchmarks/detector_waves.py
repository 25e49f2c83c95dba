"""How often shifts that come and go are told behind a latch, and those that last told again."""

from __future__ import annotations

import numpy as np

import harness
import selfheal_edge as she

CALIBRATIONS = 4
INTERVAL = 100_000
WAVE = 48
"""Samples of a wave."""
WAVES = 8
CALM = 2000
"""Samples before a wave that is taken for a first one."""
STREAMS = 40
LASTING = 60_000


def calibrated() -> list[she.DriftDetector]:
    """Return detectors with a latch, each calibrated on 500 normal samples of its own."""
    rng = np.random.default_rng(0)
    return [
        she.DriftDetector(rng.normal(size=500), false_alarm_interval=INTERVAL, latch=True)
        for _ in range(CALIBRATIONS)
    ]


def told(
    detectors: list[she.DriftDetector], shift: float, calm: int, waves: int, streams: int
) -> float:
    """Return the share of waves that are told, but for the first of each stream.

    Waves of `WAVE` samples are parted by `calm` ones; shifts are in standard deviations.
    """
    heard = 0
    for n in range(streams):
        detector = detectors[n % len(detectors)].clone()
        rng = np.random.default_rng(n)
        detector.update_many(rng.normal(size=128))
        for wave in range(waves):
            alarms = detector.update_many(rng.normal(size=WAVE) + shift)
            heard += wave > 0 and len(alarms) > 0
            detector.update_many(rng.normal(size=calm))
    return heard / (streams * (waves - 1))


def told_again(
    detectors: list[she.DriftDetector], shift: float, samples: int, streams: int
) -> tuple[int, float]:
    """Return how often lasting shifts are told after the first time, and the share told at all."""
    again, first = 0, 0
    for n in range(streams):
        detector = detectors[n % len(detectors)].clone()
        rng = np.random.default_rng(100 + n)
        before = len(detector.update_many(rng.normal(size=60)))
        alarms = before + len(detector.update_many(rng.normal(size=samples) + shift))
        again += max(0, alarms - 1)
        first += alarms > 0
    return again, first / streams


def rows(streams: int) -> list[harness.Row]:
    """Return shares of waves by their shift and the calm between them, then what lasts."""
    detectors = calibrated()
    found: list[harness.Row] = []
    for shift in (0.7, 1.0, 1.5, 2.0, 3.0):
        case = f"waves of {WAVE} samples, {shift} sd"
        for calm in (64, 96, 128, 192, 256):
            share = told(detectors, shift, calm, WAVES, streams)
            found.append(harness.Row(f"{case}: told, {calm} apart", 100 * share, "%", None, True))
        share = told(detectors, shift, CALM, 2, streams)
        found.append(harness.Row(f"{case}: told, {CALM} apart", 100 * share, "%", None, True))
    count = max(1, streams // 5)
    for shift in (0.3, 0.5, 0.7, 1.0, 2.0):
        again, share = told_again(detectors, shift, LASTING, count)
        case = f"lasting, {shift} sd, {count} x {LASTING:,} samples"
        found.append(harness.Row(f"{case}: told", 100 * share, "%", None, True))
        found.append(harness.Row(f"{case}: told again", again, "alarms", None, False))
    return found
