"""Recorded feedback: whether honest feedback, poisoning and concept drift are told apart."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt

import diagnosis_data as data
import harness
import selfheal_edge as she
from diagnosis_data import Name
from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.concept_drift import concept_drift
from selfheal_edge.diagnosis.feedback import Feedback
from selfheal_edge.diagnosis.poisoning import poisoning
from selfheal_edge.diagnosis.profile import Profile
from selfheal_edge.diagnosis.window import Window
from selfheal_edge.redteam.scenarios.feedback import FEEDBACK, FeedbackScenario
from selfheal_edge.tflite.session import Session

HONEST: Final = "honest"
ITEMS: Final = 128
LATEST: Final = 256
EVERY: Final = 16
"""As a model looks at its labels."""


def answered(task: data.Task) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return what the model answers to the pool, and where its inputs lie in the embedding."""
    session = Session(
        task.model, taps=lambda model: () if model.head is None else (model.head.embedding,)
    )
    try:
        shape = session.instance.inputs[0].shape
        labels, places = [], []
        for row in task.pool_x:
            output = session.instance.run([np.ascontiguousarray(row.reshape(shape))])[0]
            labels.append(int(output.reshape(-1).argmax()))
            places.append(session.instance.tapped()[0].reshape(-1).astype(np.float32))
    finally:
        session.close()
    return np.asarray(labels, np.int64), np.stack(places)


def named(
    scenario: FeedbackScenario,
    task: data.Task,
    answers: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]],
    window: Window,
    rng: np.random.Generator,
) -> Cause | None:
    """Return what is named of one record; None where nothing is."""
    predicted, places = answers
    said = scenario.apply(task.pool_y, predicted, rng, count=ITEMS)
    feedback = tuple(
        Feedback.of_label(s.source, s.predicted, s.label, places[s.row])
        if s.label is not None
        else Feedback(s.source, s.predicted, None, False, places[s.row])
        for s in said
    )
    symptoms = she.Symptoms(feedback=feedback, window=window)
    for question in (poisoning, concept_drift):
        verdict = question(symptoms)
        if isinstance(verdict, she.Diagnosis):
            is_sure = verdict.confidence >= she.AttackDiagnoser().min_confidence
            return verdict.cause if is_sure else Cause.UNKNOWN
    return None


def rows_of(
    name: Name, count: int, seed: int, told_all: list[tuple[str, str]]
) -> list[harness.Row]:
    """Judge `count` records of each scenario of the measured part.

    Adds true and named cause of each record that can be told to `told_all`.
    """
    task = data.load(name)
    answers = answered(task)
    baseline = she.calibrate(task.model, task.calibration_x, task.calibration_y, seed=seed)
    profile = Profile.from_arrays(baseline.profile)
    natural = task.pool_x[:ITEMS].reshape(-1, *profile.inputs.shape[1:])
    window = Window(profile, natural, None, np.empty((0, 0)))
    right: dict[str, list[bool]] = {}
    rows: list[harness.Row] = []
    for scenario in (s for s in FEEDBACK if s.part == "measured"):
        causes = [
            named(
                scenario,
                task,
                answers,
                window,
                np.random.default_rng([seed, n, len(scenario.name)]),
            )
            for n in range(count)
        ]
        good = [cause == scenario.cause for cause in causes]
        what = f"{name}: {scenario.name}"
        rows.append(harness.Row(f"{what}, right", 100 * float(np.mean(good)), "%", None, True))
        unknown = 100 * float(np.mean([cause is Cause.UNKNOWN for cause in causes]))
        rows.append(harness.Row(f"{what}, unknown", unknown, "%", None, False))
        # These look like something else, and nothing tells them apart: printed, without a target.
        if scenario.kind not in ("errors alone", "collusion", "rare"):
            group = HONEST if scenario.cause is None else scenario.cause.value
            right.setdefault(group, []).extend(good)
            if scenario.cause is not None:
                truth = scenario.cause.value
                told_all += [(truth, "healthy" if c is None else c.value) for c in causes]
    for group, good in right.items():
        rows.append(
            harness.Row(f"{name}: feedback, {group}", 100 * float(np.mean(good)), "%", 90, True)
        )
    return rows


def falsely_named(sources: int, count: int, seed: int) -> list[harness.Row]:
    """Give honest labels that contradict answers as often as a calibration explains, at most.

    Counts how often poisoning or concept drift is named of them, surely.
    """
    # Without a profile 5 % of answers are wrong; a quarter of these in doubt, and 6 % of slips.
    rate = 1.25 * 0.05 + 0.06
    rng = np.random.default_rng([seed, sources])
    latest: deque[Feedback] = deque(maxlen=LATEST)
    found = 0
    for number in range(1, count + 1):
        source = f"source {rng.integers(sources)}"
        latest.append(Feedback(source, 0, None, bool(rng.random() >= rate)))
        if number % EVERY:
            continue
        symptoms = she.Symptoms(feedback=tuple(latest))
        verdicts = (question(symptoms) for question in (poisoning, concept_drift))
        least = she.AttackDiagnoser().min_confidence
        if any(isinstance(v, she.Diagnosis) and v.confidence >= least for v in verdicts):
            found += 1
            latest.clear()
    what = f"honest labels of {sources} source{'s' * (sources > 1)}, named falsely, in 10,000"
    return [harness.Row(what, 1e4 * found / count, "times", 1.0, False)]


def main() -> None:
    parser = harness.parser("How often labels of honest people are taken for something else.")
    parser.add_argument("--labels", type=int, default=200_000, metavar="N", help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    count = 1000 if options.quick else options.labels
    rows = [row for n in (1, 2, 4, 8) for row in falsely_named(n, count, options.seed)]
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
