"""Weight corruption: whether it is named, and its kind told from what the bits show.

The searched attack is a real one: bits are chosen on a session of the attacker's own by what harms
the right classes' scores, then flipped in the model that serves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import diagnosis_data as data
import harness
import selfheal_edge as she
from bit_search import executing
from diagnosis_data import Name
from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.corruption import CORRUPTIONS, Hits
from selfheal_edge.tflite.session import Session

SCORED = 16
"""Labelled samples that the attacker searches with."""
SERVED = 20_000
"""Predictions within which a sweep is complete, many times over."""


class Recorder:
    """Asks the built-in diagnoser, and keeps what it says."""

    def __init__(self) -> None:
        self.said: list[she.Diagnosis] = []
        self._inner = she.AttackDiagnoser()

    def diagnose(self, symptoms: she.Symptoms) -> she.Diagnosis:
        """Return what ours says."""
        found = self._inner.diagnose(symptoms)
        self.said.append(found)
        return found


def hits_of(task: data.Task, count: int, seed: int) -> tuple[str, dict[str, list[list[Hits]]]]:
    """Return the image that executes, and for each kind the rounds of each case."""
    session = Session(task.model)
    found: dict[str, list[list[Hits]]] = {}
    try:
        image, live, offsets = executing(session)
        shape = session.instance.inputs[0].shape
        x, y = task.pool_x[:SCORED], task.pool_y[:SCORED]

        def score() -> float:
            rows = (np.ascontiguousarray(row.reshape(shape)) for row in x)
            answers = [session.instance.run([row])[0].reshape(-1) for row in rows]
            return float(np.mean([a[c] for a, c in zip(answers, y, strict=True)]))

        for corruption in CORRUPTIONS:
            found[corruption.kind] = [
                list(corruption.hits(offsets, live, score, np.random.default_rng([seed, n])))
                for n in range(count)
            ]
    finally:
        session.close()
    return image, found


def rows_of(
    name: Name, count: int, seed: int, told_all: list[tuple[str, str]]
) -> list[harness.Row]:
    """Damage a model in each way `count` times, and return how often it was named.

    Adds true and named cause of each case to `told_all`.
    """
    task = data.load(name)
    baseline = she.calibrate(task.model, task.calibration_x, seed=seed)
    image, cases = hits_of(task, count, seed)
    named: list[bool] = []
    kinds: dict[str, list[bool]] = {}
    for kind, all_rounds in cases.items():
        for rounds in all_rounds:
            recorder = Recorder()
            heard: list[Any] = []
            with she.SelfHealingModel(
                task.model, baseline, seed=seed, diagnoser=recorder, on_event=heard.append
            ) as model:
                shape = model.inputs[0].shape
                injector = she.redteam.inject(model)
                for hits in rounds:
                    memory = injector.memory(image)
                    for at, mask in hits:
                        memory[at] ^= np.uint8(mask)
                    del memory
                    before = len(recorder.said)
                    for n in range(SERVED):  # the sweep finds it, as it does on a device
                        row = task.pool_x[n % len(task.pool_x)]
                        model.predict(np.ascontiguousarray(row.reshape(shape)))
                        if len(recorder.said) > before:
                            break
                    model.weights.scrub()
            causes = [e.cause for e in heard if e.kind == "diagnosis"]
            named.append(Cause.WEIGHT_CORRUPTION in causes)
            first = causes[0].value if causes else "healthy"
            told_all.append((Cause.WEIGHT_CORRUPTION.value, first))
            # Of what is found piece by piece, the latest diagnosis that tells a kind.
            told = [one.kind for one in recorder.said if one.kind]
            kinds.setdefault(kind, []).append(bool(told) and told[-1] == kind)
    result = [
        harness.Row(f"{name}: weight corruption named", 100 * float(np.mean(named)), "%", 100, True)
    ]
    result += [
        harness.Row(f"{name}: kind right, {kind}", 100 * float(np.mean(right)), "%", 95, True)
        for kind, right in kinds.items()
    ]
    return result
