"""Plots of accuracy over time: through a drift and back, and through an attack on its repair.

Part of `adaptation.py` (``--plots docs/plots``; needs matplotlib). The package's digits, in shade:
anybody can draw them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from adaptation_data import Adapted, Condition
from adaptation_loop import OWNER, STEP, Device, device
from selfheal_edge import Policy, SelfHealingModel, calibrate
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.store.journal import EventKind

WINDOW: Final = 50
_TOLD: Final = {
    EventKind.ALARM: "alarm",
    EventKind.DIAGNOSIS: "cause named",
    EventKind.PROBATION: "repair on probation",
    EventKind.CONFIRMED: "confirmed",
    EventKind.REJECTED: "rejected",
    EventKind.REVERTED: "taken back",
}


def draw(folder: Path) -> None:
    """Draw all plots into a folder."""
    import matplotlib as mpl  # noqa: PLC0415 — an extra

    mpl.use("Agg")
    digits = load_digits()
    x, y = digits.heldout_inputs, digits.heldout_labels.astype(np.int64)
    shade = np.clip((x.astype(int) + 128) * 0.45 - 68, -128, 127).astype(np.int8)
    model = digits_model_path().read_bytes()
    drift = Condition("shade", shade, y)
    task = Adapted("digits", model, x, y, None, 0, 0, (drift,), True)
    baseline = calibrate(model, digits.calibration_inputs, digits.calibration_labels, seed=1)
    with SelfHealingModel(model, baseline, policy=Policy(heal="observe"), seed=1) as golden:
        answers = (golden.predict(x), golden.predict(shade))
    named = tuple(np.asarray(one).reshape(len(x), -1).argmax(axis=1) for one in answers)
    with device(task, baseline, 1) as field:
        _Course(field, drift, named).there_and_back(folder / "learning_drift.png")
    with device(task, baseline, 1) as field:
        _Course(field, drift, named).attacked(folder / "learning_attack.png")


class _Course:
    """One device's accuracy, and golden's on the same inputs."""

    def __init__(
        self, field: Device, drift: Condition, named: tuple[npt.NDArray[np.intp], ...]
    ) -> None:
        self.field, self.drift, self.named = field, drift, named
        self.right: list[bool] = []
        self.rows: list[tuple[bool, int]] = []
        self.asked: list[int] = []

    def see(self, count: int, *, drifted: bool) -> None:
        task = self.field.task
        x = self.drift.x if drifted else task.x
        rows = self.field.rng.integers(0, len(x), count)
        self.rows += [(drifted, int(row)) for row in rows]
        self.right += self.field.see(x, task.y, rows)

    def there_and_back(self, path: Path) -> None:
        self.see(300, drifted=False)
        self.see(2 * STEP, drifted=True)
        for _ in range(10):
            if self.field.labels < 64:
                self.asked.append(len(self.right))
                self.field.answer(16)
            self.see(STEP, drifted=True)
        self.see(300, drifted=False)
        self.see(300, drifted=True)
        self._plot(path, f"{self.field.labels} answers to what the device asks, all true")

    def attacked(self, path: Path) -> None:
        self.see(300, drifted=False)
        self.see(3 * STEP, drifted=True)
        for _ in range(8):
            self.asked.append(len(self.right))
            self._lie()
            self.see(STEP, drifted=True)
        self.see(300, drifted=False)
        self._plot(
            path, f"{self.field.labels} answers by the holder of the {OWNER}'s key, all false"
        )

    def _lie(self) -> None:
        """Answer what the device asks with what golden says, or the next class."""
        field = self.field
        for question in field.model.wanted_labels(16):
            field.labels += 1
            said = question.asked.golden if question.asked.is_decisive else None
            label = (field.truth[question.id] + 1) % 10 if said is None else said
            field.model.feedback(label, id=question.id, source=field.person)

    def _golden(self) -> npt.NDArray[np.bool_]:
        """Return where golden would have been right."""
        truth = self.field.task.y
        return np.array([self.named[drifted][row] == truth[row] for drifted, row in self.rows])

    def _plot(self, path: Path, told: str) -> None:
        from matplotlib import pyplot as plt  # noqa: PLC0415

        events = list(self.field.events)
        golden = self._golden()
        figure, axes = plt.subplots(figsize=(9, 4))
        at = np.arange(WINDOW - 1, len(self.right))
        kernel = np.ones(WINDOW) / WINDOW
        axes.plot(at, np.convolve(golden, kernel, "valid"), color="0.5", lw=1, ls="--",
                  label="golden alone would have had")  # fmt: skip
        axes.plot(at, np.convolve(self.right, kernel, "valid"), color="tab:blue", label="served")
        drifted = np.array([d for d, _ in self.rows])
        edges = np.flatnonzero(np.diff(np.r_[0, drifted, 0]))
        for n, (a, b) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
            axes.axvspan(a, b, color="0.93", label="in shade" if not n else None)
        axes.plot(self.asked, np.full(len(self.asked), 0.03), "^", color="tab:green", ms=6,
                  label=told)  # fmt: skip
        last = -10_000
        level = 0
        for number, event in events:
            name = _TOLD.get(event.kind)
            if event.kind is EventKind.REGIME and str(event.outcome).startswith("known"):
                name = "golden again" if "normal" in str(event.outcome) else "its repair again"
            if name is None:
                continue
            level = (level + 1) % 6 if number - last < 150 else 0
            last = number
            axes.axvline(number, color="tab:red", lw=0.6)
            axes.annotate(name, (number + 4, 1.04 + 0.055 * level), fontsize=7, color="tab:red")
        axes.set(ylim=(0, 1.4), xlabel="predictions", ylabel=f"accuracy over the last {WINDOW}")
        axes.set_yticks(np.arange(0, 1.01, 0.2))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, fontsize=7)
        figure.tight_layout()
        figure.savefig(path, dpi=110)
        plt.close(figure)
