"""What the sweep of code takes: bytes, seconds of a round, and the share of a CPU meanwhile.

CPU time is the process's while it does nothing else: the sweep's thread and what wakes it.
"""

from __future__ import annotations

import time
from typing import Final

import harness
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits

BUDGETS: Final = (0.001, 0.01)
"""The default, and one at which several rounds are seen."""
WATCHED: Final = 20.0
"""Seconds."""


def rows_of(baseline: she.Baseline, budget: float, seconds: float) -> list[harness.Row]:
    """Let the sweep go on beside a model that is not asked anything."""
    policy = she.Policy(code_budget=budget)
    with she.SelfHealingModel(digits_model_path(), baseline, policy=policy) as model:
        while (first := model.health.code) is None or first.sweeps < 1:  # which reads files as well
            time.sleep(0.1)
        start, cpu = time.perf_counter(), time.process_time()
        time.sleep(seconds)
        while (code := model.health.code) is None or code.round_seconds is None:
            time.sleep(1.0)
        share = (time.process_time() - cpu) / (time.perf_counter() - start)
    assert not code.damage
    label = f"{100 * budget:g} % of a CPU"
    return [
        harness.Row(f"{label}: swept", first.nbytes / 1e6, "MB", None, True),
        harness.Row(f"{label}: a round", code.round_seconds, "s", None, False),
        harness.Row(f"{label}: share of a CPU", 100 * share, "%", None, False),
    ]


def main() -> None:
    """Run it."""
    options = harness.arguments(__doc__)
    digits = load_digits()
    baseline = she.calibrate(digits_model_path(), digits.calibration_inputs, seed=1)
    rows = [
        row
        for budget in BUDGETS
        for row in rows_of(baseline, budget, 2.0 if options.quick else WATCHED)
    ]
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
