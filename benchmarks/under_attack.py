"""What answers from moved copies give back while an attack lasts, and what they cost.

Held-out samples are crafted by the square and the sign attack against the model alone, and by an
attacker who knows the vote and asks it (printed first). They are served, in a stream that is half
crafted, by a model with `Policy(under_attack="vote")` whose loop has named the attack by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import diagnosis_data
import harness
import selfheal_edge as she
from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.moved_copies import raw_copies
from selfheal_edge.diagnosis.profile import Profile
from selfheal_edge.model import parts_of
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.scenarios.registry import SCENARIOS
from selfheal_edge.redteam.scenarios.unguarded import Unguarded

ATTACKS: Final = ("square", "sign")
RECOVERED: Final = 0.40
CLEAN: Final = 0.01
SEED: Final = 5
MOST: Final = 300

Scores = npt.NDArray[Any]


def crafted(name: str, task: diagnosis_data.Task, x: Raw, ask: Callable[[Raw], Scores]) -> Raw:
    """Return samples as an attack that may ask this leaves them."""
    scenario = next(one for one in SCENARIOS if one.name == f"attack, {name}")
    return np.asarray(
        scenario.apply(
            x,
            np.random.default_rng(SEED),
            domain=task.domain,
            ask=ask,
            pool=task.calibration_x,
            labels=task.calibration_y,
        )
    )


def served(model: she.SelfHealingModel, x: Raw, y: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Serve samples one by one; return accuracy, and the share that was suspect."""
    right, suspect = 0, 0
    for row, label in zip(x, y, strict=True):
        found = model.infer(row.reshape(model.inputs[0].shape))
        assert isinstance(found, she.Prediction)
        right += found.label == label
        suspect += found.quarantined
    return right / len(x), suspect / len(x)


def measure(name: str, most: int) -> list[harness.Row]:
    """Rows of one model."""
    task = diagnosis_data.load(name)
    baseline = she.calibrate(task.model, task.calibration_x, task.calibration_y, seed=1)
    profile = Profile.found(baseline.profile)
    assert profile is not None
    x, y = task.pool_x[:most], task.pool_y[:most].astype(np.int64)
    rows: list[harness.Row] = []
    with Unguarded(task.model) as own:

        def vote(inputs: Raw) -> Scores:
            return np.asarray(np.mean([own(copy) for copy in raw_copies(profile, inputs)], axis=0))

        def accuracy(ask: Callable[[Raw], Scores], inputs: Raw) -> float:
            return float(np.mean(ask(inputs).argmax(axis=1) == y))

        clean = accuracy(own, x)
        knowing = {one: crafted(one, task, x, vote) for one in ATTACKS}
        for one, bad in knowing.items():
            lost = accuracy(vote, x) - accuracy(vote, bad)
            rows.append(
                harness.Row(
                    f"{name}: {one} by who knows the vote, lost", lost, "accuracy", None, False
                )
            )
        rows.append(
            harness.Row(
                f"{name}: clean, lost by votes",
                round(clean - accuracy(vote, x), 6),
                "accuracy",
                CLEAN,
                False,
            )
        )
        for one in ATTACKS:
            bad = crafted(one, task, x, own)
            lost = clean - accuracy(own, bad)
            back = accuracy(vote, bad) - accuracy(own, bad)
            rows += [
                harness.Row(f"{name}: {one}, lost", lost, "accuracy", None, False),
                harness.Row(
                    f"{name}: {one}, all voted, recovered", back / lost, "share", RECOVERED, True
                ),
                *on_the_device(name, one, task, baseline, x, y, bad, lost),
            ]
    return rows


def on_the_device(
    name: str,
    attack: str,
    task: diagnosis_data.Task,
    baseline: she.Baseline,
    x: Raw,
    y: npt.NDArray[np.int64],
    bad: Raw,
    lost: float,
) -> list[harness.Row]:
    """Rows of what a model serves that has named the attack."""
    rules = she.Policy(under_attack="vote", diagnosis_inferences_per_minute=1 << 20)
    rng = np.random.default_rng(SEED)
    with she.SelfHealingModel(task.model, baseline, policy=rules, seed=1) as model:
        shape = model.inputs[0].shape
        for _ in range(10):
            for at in rng.integers(0, len(x), 64):
                source = bad if rng.random() < 0.5 else x
                model.infer(source[at].reshape(shape))
            if model.diagnosis is not None and model.diagnosis.cause is Cause.ADVERSARIAL_INPUT:
                break
        label = f"{name}: {attack}, on the device"
        if model.diagnosis is None or model.diagnosis.cause is not Cause.ADVERSARIAL_INPUT:
            return [harness.Row(f"{label}, named", 0.0, "yes or no", 1.0, True)]
        examiner = parts_of(model).loop.examiner
        before = examiner.asked
        with Unguarded(task.model) as own:
            alone = float(np.mean(own(bad).argmax(axis=1) == y))
            usual = float(np.mean(own(x).argmax(axis=1) == y))
        right, suspect = served(model, bad, y)
        cost = (examiner.asked - before) / len(bad)
        fine, taken = served(model, x, y)
        return [
            harness.Row(f"{label}, recovered", (right - alone) / lost, "share", RECOVERED, True),
            harness.Row(f"{label}, suspect", suspect, "share", None, True),
            harness.Row(f"{label}, inferences for each", cost, "inferences", None, False),
            harness.Row(f"{label}, clean lost", usual - fine, "accuracy", CLEAN, False),
            harness.Row(f"{label}, clean suspect", taken, "share", None, False),
        ]


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--data", nargs="+", default=("digits", "kws"))
    options = parser.parse_args()
    rows: list[harness.Row] = []
    for name in diagnosis_data.available(options.data):
        rows += measure(name, 60 if options.quick else MOST)
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
