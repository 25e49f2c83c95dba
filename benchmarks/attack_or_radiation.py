"""A searched attack told from radiation, over many cases of each: the confusion.

The attacker is a real one (`redteam.bit_search`): on a session of his own he flips, one after the
other, the five bits of the executing weights that harm the right classes' scores most. Radiation
flips one to eight bits of them, drawn evenly. Each case is of a model that was opened for it, and
is found by the sweep while the model serves; the first diagnosis counts.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import harness
from bit_search import executing

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.redteam.scenarios.corruption import CORRUPTIONS, Hits
from selfheal_edge.tflite.session import Session

CASES: Final = 1000
SCORED: Final = 16
"""Labelled samples that the attacker searches with."""
SERVED: Final = 2000
"""Predictions until a case is found at last; the rest is looked for at once."""
KINDS: Final = ("searched", "scattered", "one bit", "run", "failing cell", "none")
SEED: Final = 77_000

Inputs = npt.NDArray[np.int8]


class Recorder:
    """Asks the built-in diagnoser, and keeps what it says."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self._inner = she.AttackDiagnoser()

    def diagnose(self, symptoms: she.Symptoms) -> she.Diagnosis:
        """Return what ours says."""
        found = self._inner.diagnose(symptoms)
        if found.kind:
            self.kinds.append(found.kind)
        return found


def searched(count: int) -> tuple[str, list[Hits], npt.NDArray[np.int64]]:
    """Return the image that executes, the bits that attackers choose, and where weights are."""
    digits = load_digits()
    session = Session(digits_model_path())
    try:
        image, live, offsets = executing(session)
        search = next(one for one in CORRUPTIONS if one.kind == "searched")
        found: list[Hits] = []
        for n in range(count):
            rng = np.random.default_rng([SEED, n])
            chosen = rng.choice(len(digits.calibration_inputs), SCORED, replace=False)
            rows = [np.ascontiguousarray(digits.calibration_inputs[i : i + 1]) for i in chosen]
            right = digits.calibration_labels[chosen]

            def score(rows: list[Inputs] = rows, right: Any = right) -> float:
                answers = [session.instance.run([row])[0].reshape(-1) for row in rows]
                return float(np.mean([a[c] for a, c in zip(answers, right, strict=True)]))

            found += search.hits(offsets, live, score, rng)
    finally:
        session.close()
    return image, found, offsets


def radiation(count: int, offsets: npt.NDArray[np.int64]) -> list[Hits]:
    """Return bits that chance flips."""
    found: list[Hits] = []
    for n in range(count):
        rng = np.random.default_rng([SEED + 1, n])
        places = rng.choice(offsets, int(rng.integers(1, 9)), replace=False)
        found.append(tuple((int(at), 1 << int(rng.integers(8))) for at in places))
    return found


def told(baseline: she.Baseline, image: str, hits: Hits, inputs: Inputs) -> str:
    """Return the kind that is named of a damage."""
    recorder = Recorder()
    with she.SelfHealingModel(digits_model_path(), baseline, seed=1, diagnoser=recorder) as model:
        memory = she.redteam.inject(model).memory(image)
        for at, mask in hits:
            memory[at] ^= np.uint8(mask)
        del memory
        for n in range(SERVED):
            model.predict(inputs[n % len(inputs)][None])
            if recorder.kinds:
                break
        model.weights.scrub()
        for row in inputs[:3]:  # what was found is diagnosed with what is served next
            model.predict(row[None])
    return recorder.kinds[0] if recorder.kinds else "none"


def main() -> None:
    """Run it."""
    parser = harness.parser(__doc__)
    parser.add_argument("--cases", type=int, default=CASES, help="of each")
    options = parser.parse_args()
    count = 10 if options.quick else options.cases
    digits = load_digits()
    baseline = she.calibrate(
        digits_model_path(), digits.calibration_inputs, digits.calibration_labels, seed=1
    )
    image, attacks, offsets = searched(count)
    rows = []
    for what, cases in (("searched attack", attacks), ("radiation", radiation(count, offsets))):
        named = Counter(told(baseline, image, hits, digits.heldout_inputs) for hits in cases)
        for kind in KINDS:
            share = 100 * named[kind] / len(cases)
            target = None
            if kind == "searched":
                target = 95.0 if what == "searched attack" else 5.0
            rows.append(
                harness.Row(
                    f"{what}, {len(cases)} cases: named {kind}",
                    share,
                    "%",
                    target,
                    higher_is_better=what == "searched attack",
                )
            )
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
