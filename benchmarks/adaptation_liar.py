"""What a source that lies does to a device through the whole loop, and an honest one beside it.

Part of `adaptation.py`. One source with a key answers what a device asks, every `STEP` predictions
of a drift, `TOLD` labels in all:

- *honest*: one answer in fifty is a slip;
- *the next class*: every answer is false;
- *the runner-up*: of the two classes in question the one that is false: the lies that are hardest
  to tell from the truth, and all of them for the worse of golden and a repair;
- *every second answer* is false, the others are true;
- *one class*: half of the answers name it, whatever the input shows.

The honest one is once the owner (`Policy.owner`) and once a stranger, as all liars are. Golden
answers the very same inputs: windows of `WINDOW` predictions say how far what serves on probation
falls below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from adaptation_data import Adapted, Bound, Condition, Rows, splits
from adaptation_loop import ASKED, CLEAN, OWNER, STEP, Answer, device, right_of
from harness import Row
from selfheal_edge import Baseline, calibrate
from selfheal_edge.learning.questions import Question
from selfheal_edge.store.journal import EventKind

__all__ = ["rows_of"]

WINDOW: Final = 256
TOLD: Final = 64
AFTER: Final = 512
"""Predictions in the drift, after the last answer."""
LONGEST: Final = 1024
STRANGER: Final = "stranger"
NOBODY: Final = "no answers"
HONEST: Final = ("honest, the owner", "honest, a stranger")
LIES: Final = ("the next class", "the runner-up", "every second answer", "one class")


@dataclass
class Told:
    """What came of one draw of one condition."""

    lost: float
    """Golden's, by the drift."""
    window: float
    """The least that what serves unproven had over golden in a window; 0 where nothing had
    served so long."""
    last: float
    """What the device had over golden after the last answer."""
    confirmed: float | None
    """What was confirmed had over golden, while it served; None where nothing was."""


def says(kind: str, classes: int, seed: int) -> Answer:
    """Return what a source says."""
    rng = np.random.default_rng((seed, 29))
    aim = int(rng.integers(classes))

    def answer(truth: int, question: Question) -> int:
        likely, other = (*question.answers, -1, -1)[:2]
        is_turn = rng.random() < 0.5
        match kind:
            case "the next class":
                return (truth + 1) % classes
            case "the runner-up" if likely >= 0 <= other:
                return other if likely == truth else likely
            case "every second answer":
                return truth if is_turn else (truth + 1) % classes
            case "one class":
                return truth if is_turn else aim
            case _:
                return int(rng.integers(classes)) if rng.random() < 0.02 else truth

    return answer


def told(
    task: Adapted,
    to: Bound,
    baseline: Baseline,
    condition: Condition,
    normal: Rows,
    rows: Rows,
    kind: str,
    seed: int,
) -> Told:
    """Return what comes of one drift with one source.

    Parameters
    ----------
    normal
        Samples of normal operation that calibration did not see.
    rows
        Of the condition.
    """
    classes = int(task.y.max()) + 1
    golden, clean = right_of(to, condition), right_of(to, Condition("", task.x, task.y))
    lost = float(clean[rows if task.is_same else normal].mean() - golden[rows].mean())
    budget = 0 if kind == NOBODY else TOLD
    answer = says(kind, classes, seed)
    over: list[int] = []
    unproven: list[bool] = []
    confirmed: list[bool] = []
    with device(task, baseline, seed, OWNER if kind == HONEST[0] else STRANGER) as field:
        field.see(task.x, task.y, field.rng.choice(normal, CLEAN))
        left = AFTER + STEP * (TOLD // ASKED)
        while left > 0 and len(over) < LONGEST + AFTER:
            picked = field.rng.choice(rows, STEP)
            for row in picked.tolist():
                is_right = field.see(condition.x, condition.y, [row])[0]
                serves = field.is_repaired
                is_proven = serves and not field.model.health.on_probation
                over.append(int(is_right) - int(golden[row]))
                unproven.append(serves and not is_proven)
                confirmed.append(is_proven)
            if field.labels < budget and (len(over) <= LONGEST):
                asked = field.answer(min(ASKED, budget - field.labels), answer)
                left = AFTER if asked else left
            left -= STEP
        is_confirmed = any(e.kind is EventKind.CONFIRMED for _, e in field.events)
    gains = np.array(over)
    return Told(
        lost,
        _least(gains[np.array(unproven)]),
        float(gains[-AFTER:].mean()),
        float(gains[np.array(confirmed)].mean()) if is_confirmed and any(confirmed) else None,
    )


def _least(gains: np.ndarray) -> float:
    """Return the least mean of a window."""
    if len(gains) < WINDOW:
        return 0.0
    sums = np.concatenate([[0], np.cumsum(gains)])
    return float((sums[WINDOW:] - sums[:-WINDOW]).min() / WINDOW)


def rows_of(task: Adapted, to: Bound, draws: int) -> list[Row]:
    """Return the rows of a task."""
    found: dict[str, list[Told]] = {kind: [] for kind in (NOBODY, *HONEST, *LIES)}
    for draw, calibration, rows in splits(task, draws):
        baseline = calibrate(task.model, task.x[calibration], task.y[calibration], seed=draw)
        normal = np.setdiff1d(np.arange(len(task.x)), calibration)
        for kind, courses in found.items():
            courses += [
                told(task, to, baseline, c, normal, rows[c.name], kind, draw)
                for c in task.conditions
            ]
    made = []
    for kind, courses in found.items():
        what = f"{task.name}, {kind}"
        is_lie = kind in LIES
        lost = sum(max(0.0, c.lost) for c in courses)
        windows = np.array([c.window for c in courses])
        harmful = sum(c.confirmed is not None and c.confirmed < 0 for c in courses)
        made += [
            Row(f"{what}: recovered", sum(c.last for c in courses) / lost, "share", None, True),
            Row(f"{what}: windows on probation within a point of golden",
                float((windows >= -0.01).mean()), "share", 0.95 if is_lie else None, True),
            Row(f"{what}: worst window on probation", 100 * float(windows.min()), "points", None,
                True),
            Row(f"{what}: worse than golden at the end by a point",
                float(np.mean([c.last < -0.01 for c in courses])), "share", None, False),
            Row(f"{what}: harmful and confirmed", harmful, "draws", 0.0 if is_lie else None, False),
        ]  # fmt: skip
    return made
