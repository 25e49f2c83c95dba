"""Two causes in one stream: an attack during a drift, and one cause after another."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

import diagnosis_data as data
import harness
import selfheal_edge as she
from diagnosis_data import Name
from selfheal_edge.redteam.scenarios.mixture import MIXTURES, Mixture
from selfheal_edge.redteam.scenarios.observed import Observed, observe
from selfheal_edge.redteam.scenarios.score import ADAPTS, MALICIOUS
from selfheal_edge.redteam.scenarios.streams import CHANGED, CLEAN, Stream
from selfheal_edge.redteam.scenarios.unguarded import Unguarded

HORIZONS: Final = (120, 248)
"""Shortly before the second cause begins, where it follows the first, and before it ends."""


def _stream(mixture: Mixture, task: data.Task, ask: Unguarded, rng: np.random.Generator) -> Stream:
    order = rng.permutation(len(task.pool_x))
    clean, rest = order[:CLEAN], order[CLEAN:]
    inputs = task.pool_x[np.concatenate([clean, np.resize(rest, CHANGED)])].copy()
    inputs[CLEAN:] = mixture.apply(
        inputs[CLEAN:], rng, domain=task.domain, ask=ask,
        pool=task.pool_x[rest], labels=task.pool_y[rest],
    )  # fmt: skip
    return Stream(mixture.first, inputs, CLEAN)


def _observed(
    mixture: Mixture, name: Name, baseline: she.Baseline, ask: Unguarded, count: int, seed: int
) -> list[Observed]:
    task = data.load(name)
    seen: list[Observed] = []
    for n in range(count):
        rng = np.random.default_rng(data.seed_of(name, mixture.name, n, seed))
        one = _stream(mixture, task, ask, rng)
        heard: list[Any] = []
        with she.SelfHealingModel(task.model, baseline, seed=seed, on_event=heard.append) as model:
            seen.append(observe(model, heard, one, HORIZONS))
    return seen


def rows_of(name: Name, count: int, interval: float, seed: int) -> list[harness.Row]:
    """Serve `count` streams of each mixture, and return what was named."""
    task = data.load(name)
    baseline = she.calibrate(
        task.model, task.calibration_x, seed=seed, false_alarm_interval=interval
    )
    rows: list[harness.Row] = []

    def row(what: str, right: list[bool], *, more: bool = True) -> None:
        if right:
            rows.append(
                harness.Row(f"{name}: {what}", 100 * float(np.mean(right)), "%", None, more)
            )

    with Unguarded(task.model) as ask:
        for mixture in (m for m in MIXTURES if m.fits(task.domain)):
            seen = _observed(mixture, name, baseline, ask, count, seed)
            seen = [o for o in seen if not o.is_early]
            for at in HORIZONS if mixture.order == "then" else HORIZONS[:1]:
                causes = mixture.causes(at / CHANGED)
                alarmed = [o.verdicts[at] for o in seen if o.verdicts[at].is_alarmed]
                row(f"{mixture.name}, right at {at}", [v.cause in causes for v in alarmed])
                if causes & MALICIOUS:
                    taken = [v.cause in ADAPTS for v in alarmed]
                    row(f"{mixture.name}, taken for what adapts at {at}", taken, more=False)
    return rows
