"""How well a model's accuracy is told: without labels, and with 32, against what is true.

    python benchmarks/performance.py --json docs/benchmarks/performance.json

Models are calibrated with labels; then windows of 256 samples that neither training nor calibration
saw are served: as they are; after drifts of the measured part of the scenarios, whose families
calibration makes no change of, at three strengths, for all of the window or half of it; with a
class three times as often; and, of KWS and gas, after real drifts. Each window is judged from its
answers alone, and with the truth of 32 of them, drawn at random. "mean confidence" is what the
answers say of themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import selfheal_edge as she
from diagnosis_data import NAMES, Labels, Name, Task, available, load, real_drifts, seed_of
from harness import Row, arguments, report
from selfheal_edge.causes import Cause
from selfheal_edge.monitoring.correctness import Answers, read_answers
from selfheal_edge.monitoring.labelled import LabelledAnswers, accuracy_with_labels
from selfheal_edge.redteam import scenarios
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.session import Session

WINDOW = 256
LABELS = 32
STRENGTHS = (0.0, 0.5, 1.0)
SHARES = (1.0, 0.5)


class Window(NamedTuple):
    """What is served, and what it truly is."""

    group: str
    x: Raw
    y: Labels


def windows(name: Name, task: Task, draws: int) -> Iterator[Window]:
    """Yield windows of a task; the same ones always."""
    pool_x, pool_y = task.pool_x, task.pool_y
    size = min(WINDOW, len(pool_x))

    def drawn(rng: np.random.Generator, chances: npt.NDArray[np.float64] | None = None) -> Labels:
        return rng.choice(len(pool_x), size, replace=chances is not None, p=chances)

    for n in range(4 * draws):
        rows = drawn(np.random.default_rng(seed_of(name, "clean", n)))
        yield Window("clean", pool_x[rows], pool_y[rows])
    for label in np.unique(pool_y):
        for n in range(draws):
            chances = np.where(pool_y == label, 3.0, 1.0)
            rng = np.random.default_rng(seed_of(name, "label", int(label), n))
            rows = drawn(rng, chances / chances.sum())
            yield Window("label shift", pool_x[rows], pool_y[rows])
    for scenario in scenarios.scenarios_for(task.domain, "measured"):
        if scenario.cause is not Cause.COVARIATE_DRIFT or scenario.pace != "sudden":
            continue
        for n in range(draws):
            for part in STRENGTHS:
                for share in SHARES:
                    rng = np.random.default_rng(seed_of(name, scenario.name, n, part, share))
                    rows = drawn(rng)
                    least, most = scenario.strengths
                    changed = scenario.apply(
                        pool_x[rows],
                        rng,
                        domain=task.domain,
                        strength=least + part * (most - least),
                        share=share,
                    )
                    yield Window("drift", changed, pool_y[rows])
    for drift in real_drifts(name):
        for n in range(8 * draws):
            rng = np.random.default_rng(seed_of(name, drift.name, n))
            rows = rng.permutation(len(drift.x))[:WINDOW]
            yield Window("real drift", drift.x[rows], drift.y[rows])


class Answering:
    """A model that answers, with what calibration learned of it."""

    def __init__(self, task: Task) -> None:
        self.baseline = she.calibrate(task.model, task.calibration_x, task.calibration_y, seed=0)
        self._session = Session(
            ModelFile.of(task.model), "auto", "auto", 1, self.baseline.taps, self.baseline.made
        )

    def __call__(self, x: Raw) -> Answers:
        """Return the answers to raw samples, shape (n, *sample)."""
        instance, kind = self._session.instance, self.baseline.output_kind
        assert kind is not None
        outputs, inside = [], []
        for sample in x:
            answer = instance.run([sample.reshape(instance.inputs[0].shape)])
            outputs.append(answer[0].reshape(-1).copy())
            inside.append(instance.tapped()[0].reshape(-1).copy())
        return read_answers(
            np.stack(outputs),
            instance.outputs[0],
            kind,
            np.stack(inside),
            instance.taps[0],
            self.baseline.embedding,
        )

    def close(self) -> None:
        """End the session."""
        self._session.close()


class Judged(NamedTuple):
    """One window: errors of what was told, and whether the intervals held the truth."""

    group: str
    confidence: float
    alone: float
    is_held: bool
    width: float
    labelled: float
    is_held_labelled: bool


def judge(answering: Answering, window: Window, seed: int) -> Judged:
    """Judge a window, without labels and with 32 of them."""
    model = answering.baseline.correctness
    assert model is not None
    answers = answering(window.x)
    right = answers.labels == window.y
    truth = float(right.mean())
    guess = model.guess(answers)
    asked = np.random.default_rng(seed).permutation(len(right))[:LABELS]
    told = accuracy_with_labels(LabelledAnswers(right[asked], guess.chances[asked]), guess)
    assert told.estimate is not None
    assert told.low is not None
    assert told.high is not None
    confidence = float((1.0 / (1.0 + np.exp(-answers.log_odds))).mean())
    return Judged(
        window.group,
        abs(confidence - truth),
        abs(guess.accuracy - truth),
        guess.low <= truth <= guess.high,
        guess.high - guess.low,
        abs(told.estimate - truth),
        told.low <= truth <= told.high,
    )


def rows_of(name: str, judged: list[Judged]) -> list[Row]:
    """Return the figures of one group of windows."""

    def mean(field: str) -> float:
        return 100.0 * float(np.mean([getattr(one, field) for one in judged]))

    return [
        Row(f"{name}: windows", len(judged), "", None, True),
        Row(f"{name}: mean confidence, mean error", mean("confidence"), "points", None, False),
        Row(f"{name}: without labels, mean error", mean("alone"), "points", None, False),
        Row(f"{name}: without labels, interval holds the truth", mean("is_held"), "%", 90.0, True),
        Row(f"{name}: without labels, width of the interval", mean("width"), "points", None, False),
        Row(f"{name}: with 32 labels, mean error", mean("labelled"), "points", 5.0, False),
        Row(
            f"{name}: with 32 labels, interval holds the truth",
            mean("is_held_labelled"),
            "%",
            None,
            True,
        ),
    ]


def main() -> None:
    """Print the figures by task and group, and of all drifting windows of a task."""
    options = arguments(__doc__)
    rows: list[Row] = []
    for name in available(NAMES):
        task = load(name)
        answering = Answering(task)
        judged = [
            judge(answering, window, n)
            for n, window in enumerate(windows(name, task, 1 if options.quick else 4))
        ]
        answering.close()
        for group in dict.fromkeys(one.group for one in judged):
            rows += rows_of(f"{name}, {group}", [one for one in judged if one.group == group])
        rows += rows_of(f"{name}, all but clean", [one for one in judged if one.group != "clean"])
    report(rows, options.json)


if __name__ == "__main__":
    main()
