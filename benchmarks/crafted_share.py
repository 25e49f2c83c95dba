"""How soon a few crafted samples in a hundred raise an alarm, without an extra inference.

A model is calibrated for a false alarm every 100,000 predictions; streams of held-out samples, of
which 5 in 100 were crafted (square and sign attacks, just over the decision boundary; their
confident kind; a walk along the boundary), are served until an alarm, for 1,000 predictions at
most. One alarm in ten may be by luck of what a stream drew; clean streams are counted as well.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

import diagnosis_data
import harness
import selfheal_edge as she
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.scenarios.registry import SCENARIOS
from selfheal_edge.redteam.scenarios.unguarded import Unguarded

INTERVAL: Final = 100_000
MOST: Final = 1_000
SHARES: Final = (0.05, 0.2)
SOUGHT: Final = ("attack, square", "attack, sign")
OTHERS: Final = ("attack, boundary", "attack, square, confident", "attack, sign, confident")
TARGET: Final = 0.9
SEED: Final = 5


def crafted(name: str, task: diagnosis_data.Task) -> Raw:
    """Return samples of the pool that an attack has changed to another answer."""
    scenario = next(one for one in SCENARIOS if one.name == name)
    with Unguarded(task.model) as unguarded:
        changed = scenario.apply(
            task.pool_x,
            np.random.default_rng(SEED),
            domain=task.domain,
            ask=unguarded,
            pool=task.calibration_x,
            labels=task.calibration_y,
        )
        before, after = (unguarded(x).argmax(1) for x in (task.pool_x, changed))
    return np.asarray(changed[before != after])


def first_alarm(
    model: she.SelfHealingModel,
    clean: Raw,
    bad: Raw | None,
    share: float,
    rng: np.random.Generator,
) -> tuple[int | None, str]:
    """Serve a stream; return the prediction with the first alarm, and the signal that raised it."""
    for n in range(MOST):
        is_bad = bad is not None and rng.random() < share
        source = bad if bad is not None and is_bad else clean
        at = rng.integers(len(source))
        found = model.infer(source[at : at + 1].reshape(model.inputs[0].shape))
        assert isinstance(found, she.Prediction)
        if found.alarms:
            return n, found.alarms[0].signal
    return None, ""


def measure(
    name: str, task: diagnosis_data.Task, baseline: she.Baseline, attack: str | None,
    share: float, runs: int,
) -> list[harness.Row]:  # fmt: skip
    """Rows of one attack on one model."""
    bad = None if attack is None else crafted(attack, task)
    rng = np.random.default_rng(SEED)
    after, by = [], Counter[str]()
    for _ in range(runs):
        with she.SelfHealingModel(task.model, baseline, seed=1) as model:
            n, signal = first_alarm(model, task.pool_x, bad, share, rng)
        if n is not None:
            after.append(n + 1)
            by[signal] += 1
    what = "clean" if attack is None else f"{share:.0%} {attack.removeprefix('attack, ')}"
    target = TARGET if attack in SOUGHT and share == SHARES[0] else None
    label = f"{name}: {what}"
    rows = [harness.Row(f"{label}, alarm", len(after) / runs, "share", target, attack is not None)]
    if after:
        median = float(np.median(after))
        loudest = by.most_common(1)[0][0]
        rows.append(harness.Row(f"{label}, after ({loudest})", median, "predictions", None, False))
    return rows


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--data", nargs="+", default=("digits", "kws", "gas"))
    parser.add_argument("--runs", type=int, default=40, help="streams of each kind")
    options = parser.parse_args()
    runs = 2 if options.quick else options.runs
    rows = []
    for name in diagnosis_data.available(options.data):
        task = diagnosis_data.load(name)
        baseline = she.calibrate(
            task.model,
            task.calibration_x,
            task.calibration_y,
            false_alarm_interval=INTERVAL,
            seed=1,
        )
        rows += measure(name, task, baseline, None, 0.0, runs)
        for share in SHARES:
            for attack in (*SOUGHT, *OTHERS):
                rows += measure(name, task, baseline, attack, share, runs)
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
