"""Healing as the target: troubles that come back as soon as they are over, and those that do not.

The attacker breaks the input until a cause is named, lets it be until the model trusts its signals
again, and strikes once more. A world that changes by itself does the same, and takes its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

import diagnosis_data as data
import harness
import selfheal_edge as she
from diagnosis_data import Name
from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios import SCENARIOS
from selfheal_edge.redteam.scenarios.domain import Raw

TROUBLES: Final = 9
SOON: Final = (8, 120)
SELDOM: Final = (1200, 2400)
"""Predictions between the end of a trouble and the next."""
PATIENCE: Final = 700
"""Predictions that a trouble is kept up for, or waited out, at most."""
BREAKS: Final = "sensor, noisy"


def _names(
    task: data.Task, baseline: she.Baseline, gaps: tuple[int, int], rng: np.random.Generator
) -> list[Cause]:
    """Return the causes that were named, in order."""
    scenario = next(s for s in SCENARIOS if s.name == BREAKS)
    heard: list[Any] = []
    with she.SelfHealingModel(task.model, baseline, seed=0, on_event=heard.append) as model:
        shape = model.inputs[0].shape

        def natural() -> Iterator[Raw]:
            while True:
                for row in rng.permutation(len(task.pool_x)):
                    yield task.pool_x[row]

        samples = natural()

        def serve(count: int, *, broken: bool, until_named: bool | None = None) -> None:
            for _ in range(count):
                sample = next(samples)[None]
                if broken:
                    sample = scenario.apply(
                        sample, rng, domain=task.domain, strength=scenario.strengths[1]
                    )
                model.predict(np.ascontiguousarray(sample.reshape(shape)))
                if until_named is not None and (model.diagnosis is not None) == until_named:
                    return

        serve(128, broken=False)
        for _ in range(TROUBLES):
            serve(PATIENCE, broken=True, until_named=True)
            serve(PATIENCE, broken=False, until_named=False)
            serve(int(rng.integers(*gaps)), broken=False)
    return [event.cause for event in heard if event.kind == "diagnosis"]


def rows_of(
    name: Name, count: int, interval: float, seed: int, told_all: list[tuple[str, str]]
) -> list[harness.Row]:
    """Let `count` attackers and as many changing worlds go on for some troubles each.

    Adds true and named cause of each attacker to `told_all`: another than his where he has none.
    """
    task = data.load(name)
    baseline = she.calibrate(
        task.model, task.calibration_x, seed=seed, false_alarm_interval=interval
    )
    rows = []
    for what, gaps, more in (("at once", SOON, True), ("seldom", SELDOM, False)):
        found = [
            Cause.RESOURCE_ATTACK
            in _names(task, baseline, gaps, np.random.default_rng([seed, n, gaps[0]]))
            for n in range(count)
        ]
        if more:
            attack = Cause.RESOURCE_ATTACK.value
            told_all += [(attack, attack if one else Cause.UNKNOWN.value) for one in found]
        rows.append(
            harness.Row(
                f"{name}: troubles come back {what}: named resource attack",
                100 * float(np.mean(found)), "%", 90 if more else 3, more,
            )
        )  # fmt: skip
    return rows
