"""Draw the plots of docs/detectors.md: ``python docs/plots/make_plots.py`` (needs matplotlib)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

import selfheal_edge as she

mpl.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).resolve().parent


def watch(detector: Any, samples: Any) -> tuple[list[float], int]:
    """Return the statistic after every sample, and the index of the first alarm."""
    history = []
    for i, x in enumerate(samples.tolist()):
        alarm = detector.update(x)
        history.append(detector.statistic)
        if alarm:
            return history, i
    return history, -1


def shift_and_onset() -> None:
    """Draw a half-sigma shift: the signal, the statistic, the alarm, the onset and its bound."""
    rng = np.random.default_rng(7)
    samples = rng.standard_normal(700)
    start = 400
    samples[start:] += 0.5
    detector = she.DriftDetector(rng.standard_normal(10_000), false_alarm_interval=100_000)
    history, alarm = watch(detector, samples)
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4), sharex=True)
    top.plot(samples, ".", ms=2, color="0.5")
    top.axvline(start, color="black", lw=1)
    top.set_ylabel("signal, sd")
    bottom.plot(history, color="C0")
    bottom.axhline(1, color="C3", lw=1, ls="--", label="alarm above this")
    bottom.axvline(start, color="black", lw=1, label="true start")
    if detector.onset is not None and detector.onset_earliest is not None:
        bottom.axvline(detector.onset, color="C2", ls=":", label="onset")
        bottom.axvspan(
            detector.onset_earliest, detector.onset, color="C2", alpha=0.2, label="95 % bound"
        )
    bottom.axvline(alarm, color="C3", lw=1, label="alarm")
    bottom.set_ylabel("statistic / threshold")
    bottom.set_xlabel("sample")
    bottom.legend(fontsize=7, loc="upper left")
    figure.tight_layout()
    figure.savefig(HERE / "shift_and_onset.png", dpi=80)
    plt.close(figure)


def delay_of_single_charts() -> None:
    """Draw delay against shift for single CUSUMs: why the default is a bank."""
    shifts = np.linspace(0.2, 3, 40)
    figure, axes = plt.subplots(figsize=(7, 3.2))
    for k in (0.125, 0.5, 1.5):
        h = she.cusum_threshold(1e6, k)
        axes.semilogy(
            shifts,
            [she.average_run_length(h, k, float(s)) for s in shifts],
            label=f"CUSUM k = {k}",
        )
    best = [
        she.average_run_length(she.cusum_threshold(1e6, float(s) / 2), float(s) / 2, float(s))
        for s in shifts
    ]
    axes.semilogy(shifts, best, "k--", lw=1, label="best k for each shift")
    axes.set_ylim(1, 20_000)
    axes.set_xlabel("shift, sd")
    axes.set_ylabel("mean delay, samples")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE / "delay_of_single_charts.png", dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    shift_and_onset()
    delay_of_single_charts()
