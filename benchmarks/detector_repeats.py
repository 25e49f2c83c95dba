"""Whether a sensor that repeats itself is quiet on more of the same, on sources unseen by any rule.

The sources are those of ``tests/monitoring/test_sensor_limits.py`` that no constant was chosen by:
runs whose lengths follow a power, a lognormal, two speeds. A limit is taken from a calibration, and
kept where the whole stream passes it no more often than asked.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import harness
from selfheal_edge.monitoring.sensor_limits import run_limit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.monitoring.test_sensor_limits import INTERVAL, UNSEEN, runs_drawn

SIZES = (200, 400, 1000, 3000, 10_000)
LENGTH = 3_000_000


def rows(calibrations: int) -> list[harness.Row]:
    """Return, by source and size, the share that keeps the interval, and how long a limit is."""
    found: list[harness.Row] = []
    rng = np.random.default_rng(100)
    for name, (share, draw) in UNSEEN.items():
        stream = runs_drawn(rng, LENGTH, share, draw)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], stream.astype(np.int8), [0]))))
        lengths = np.sort(edges[1::2] - edges[::2])
        for size in SIZES:
            starts = rng.integers(0, LENGTH - size, calibrations).tolist()
            limits = np.array([run_limit(stream[at : at + size], INTERVAL) for at in starts])
            told = limits[limits > 0]
            alarms = len(lengths) - np.searchsorted(lengths, told)
            kept = float(np.mean(alarms * INTERVAL <= LENGTH))
            cell = f"{name}, {size:,} samples"
            found += [
                harness.Row(f"{cell}: interval kept", kept, "share", 0.9, True),
                harness.Row(
                    f"{cell}: a limit is set", told.size / limits.size, "share", None, True
                ),
                harness.Row(
                    f"{cell}: median limit", float(np.median(told)), "samples", None, False
                ),
                harness.Row(f"{cell}: longest limit", float(told.max()), "samples", None, False),
            ]
    return found
