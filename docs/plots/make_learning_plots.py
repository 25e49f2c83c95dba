"""Draw docs/learning.md's plot: ``python docs/plots/make_learning_plots.py`` (needs matplotlib)."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits

mpl.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).resolve().parent
CLEAN, DRIFTED, AFTER = 400, 700, 500
BRIGHTER = 55
WINDOW = 50


def through_a_drift() -> None:
    """Draw accuracy through a drift that nobody labels, its repair, and its end."""
    digits = load_digits()
    baseline = she.calibrate(
        digits_model_path(), digits.calibration_inputs, digits.calibration_labels, seed=1
    )
    x, y = digits.heldout_inputs, digits.heldout_labels
    brighter = np.clip(x.astype(np.int16) + BRIGHTER, -128, 127).astype(np.int8)
    rng = np.random.default_rng(0)
    right: list[bool] = []
    events: list[tuple[int, str]] = []
    names = {"alarm": "alarm", "diagnosis": "diagnosis", "repair": "repair", "regime": "condition"}

    def heard(event: she.Event) -> None:
        kind = str(event.kind.value)
        if kind in names and (not events or events[-1][1] != names[kind]):
            events.append((len(right), names[kind]))

    with she.SelfHealingModel(digits_model_path(), baseline, on_event=heard) as model:
        for inputs, count in ((x, CLEAN), (brighter, DRIFTED), (x, AFTER)):
            for row in rng.integers(0, len(x), count):
                found = model.infer(inputs[row : row + 1])
                right.append(bool(found.label == y[row]))
    figure, axes = plt.subplots(figsize=(8, 3.5))
    smooth = np.convolve(right, np.ones(WINDOW) / WINDOW, "valid")
    axes.plot(np.arange(len(smooth)) + WINDOW - 1, smooth, color="tab:blue")
    axes.axvspan(CLEAN, CLEAN + DRIFTED, color="0.92", label="brighter by a fifth of the range")
    for n, (at, name) in enumerate(events):
        axes.axvline(at, color="tab:red", lw=0.7)
        axes.annotate(name, (at, 0.52 + 0.05 * (n % 5)), fontsize=7, rotation=0)
    axes.set(ylim=(0.5, 1.02), xlabel="predictions", ylabel=f"accuracy over {WINDOW}")
    axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE / "learning_drift.png", dpi=110)


if __name__ == "__main__":
    through_a_drift()
