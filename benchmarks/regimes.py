"""Whether a second night is news, and whether another drift is taken for a known regime.

    python benchmarks/regimes.py --json docs/benchmarks/regimes.json

A condition is a drift: of the measured part of the scenarios, at two strengths, and of KWS and gas
the real ones. Only those count that a model's monitor alarms on. From a first night of 128 samples
a regime is learned; windows of a second night, of other samples, and of every other condition
follow normal operation, and the table says which regime they come from: with 64 samples since the
onset, and as the loop asks: with 32, and again with 64 where that is unclear. Two strengths of one
drift count as two conditions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

import selfheal_edge as she
from diagnosis_data import NAMES, Name, Task, available, load, real_drifts, seed_of
from harness import Row, arguments, report
from selfheal_edge.causes import Cause
from selfheal_edge.monitoring.monitor import PerformanceMonitor
from selfheal_edge.monitoring.regimes import RegimeTable
from selfheal_edge.redteam import scenarios
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.session import Session

FIRST_NIGHT = 128
FIRST_ASKED = 32
WINDOW = 64
STRENGTHS = (0.5, 1.0)
Scores = npt.NDArray[np.float64]


def conditions(name: Name, task: Task) -> Iterator[tuple[str, Raw]]:
    """Yield conditions of a task by name, each with samples in random order."""
    for scenario in scenarios.scenarios_for(task.domain, "measured"):
        if scenario.cause is not Cause.COVARIATE_DRIFT or scenario.pace != "sudden":
            continue
        for part in STRENGTHS:
            rng = np.random.default_rng(seed_of(name, scenario.name, part))
            rows = rng.permutation(len(task.pool_x))
            least, most = scenario.strengths
            strength = least + part * (most - least)
            yield (
                f"{scenario.name}, {part:g}",
                scenario.apply(task.pool_x[rows], rng, domain=task.domain, strength=strength),
            )
    for drift in real_drifts(name):
        order = np.random.default_rng(seed_of(name, drift.name)).permutation(len(drift.x))
        yield drift.name, drift.x[order]


class Watching:
    """A model and what measures it: normal scores of samples, and whether they alarm."""

    def __init__(self, task: Task) -> None:
        self.baseline = she.calibrate(task.model, task.calibration_x, task.calibration_y, seed=0)
        self._session = Session(
            ModelFile.of(task.model), "auto", "auto", 1, self.baseline.taps, self.baseline.made
        )
        self._extractor = self.baseline.extractor(self._session.instance)

    def __call__(self, x: Raw) -> tuple[Scores, bool]:
        """Return normal scores of samples, shape (n, signals), and whether charts alarm on them."""
        instance, monitor = self._session.instance, PerformanceMonitor(self.baseline)
        self._extractor.forget()
        scores, is_alarmed = [], False
        for sample in x:
            row = [sample.reshape(instance.inputs[0].shape)]
            measured = self._extractor.measure(row, instance.run(row), instance.tapped())
            is_alarmed = bool(monitor.update(measured)) or is_alarmed
            scores.append(monitor.window[-1])
        return np.stack(scores), is_alarmed

    def close(self) -> None:
        """End the session."""
        self._session.close()


def visits(scores: Scores) -> Iterator[Scores]:
    """Yield windows of a second night: none of their samples was in the first one."""
    for start in range(FIRST_NIGHT, len(scores) - WINDOW + 1, WINDOW):
        yield scores[start : start + WINDOW]


def at_once(table: RegimeTable, window: Scores) -> int | None:
    """Return the regime that a whole window comes from."""
    return table.changed_to(window)


def as_the_loop_asks(table: RegimeTable, window: Scores) -> int | None:
    """Return the regime that half a window comes from, or the whole where that is unclear."""
    early = window[:FIRST_ASKED]
    found = table.changed_to(early)
    if found is None and table.changed_to(early, is_provisional=True) is not None:
        return table.changed_to(window)
    return found


def rows_of(name: Name, nights: dict[str, Scores], table: RegimeTable) -> list[Row]:
    """Return the figures of a task."""
    rows = [
        Row(f"{name}: conditions that alarm", len(nights), "", None, True),
        Row(f"{name}: limit from calibration", table.limit, "", None, False),
    ]
    known = {
        condition: table.learned(scores[:FIRST_NIGHT], 0, "night").entered(0, 0)
        for condition, scores in nights.items()
    }
    for how, ask in (("with 64 samples", at_once), ("as the loop asks", as_the_loop_asks)):
        same = [
            ask(known[condition], window)
            for condition, scores in nights.items()
            for window in visits(scores)
        ]
        others = [
            ask(known[learned], window)
            for learned, visited in itertools.permutations(nights, 2)
            for window in visits(nights[visited])
        ]
        for what, found, target in (
            ("second night is news", [n != 1 for n in same], 5.0),
            ("another drift is taken for the night", [n == 1 for n in others], 10.0),
            ("a drift is taken for normal operation", [n == 0 for n in same], None),
        ):
            share = 100.0 * float(np.mean(found)) if found else float("nan")
            rows.append(Row(f"{name}: {what}, {how}", share, "%", target, False))
    return rows


def main() -> None:
    """Print the figures by task."""
    options = arguments(__doc__)
    rows: list[Row] = []
    for name in available(NAMES[:2] if options.quick else NAMES):
        task = load(name)
        watching = Watching(task)
        nights: dict[str, Scores] = {}
        for condition, x in conditions(name, task):
            scores, is_alarmed = watching(x[:512])
            if is_alarmed:
                nights[condition] = scores
        watching.close()
        rows += rows_of(name, nights, PerformanceMonitor(watching.baseline).regimes)
    report(rows, options.json)


if __name__ == "__main__":
    main()
