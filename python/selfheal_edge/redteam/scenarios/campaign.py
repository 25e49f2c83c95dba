"""Run the scenarios on a model of the user's, with samples of the user's."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge import calibrate
from selfheal_edge.causes import Cause
from selfheal_edge.model import SelfHealingModel
from selfheal_edge.redteam.scenarios.domain import Domain, InputKind, Raw
from selfheal_edge.redteam.scenarios.observed import Observed, observe
from selfheal_edge.redteam.scenarios.registry import scenarios_for
from selfheal_edge.redteam.scenarios.scenario import Part, Scenario
from selfheal_edge.redteam.scenarios.score import hides
from selfheal_edge.redteam.scenarios.streams import Crafted, craft, stream
from selfheal_edge.redteam.scenarios.unguarded import Unguarded
from selfheal_edge.tflite.runtimes.select import RuntimeArgument
from selfheal_edge.tflite.session import ModelSource

__all__ = ["HIDDEN_PART", "LEAST_SAMPLES", "Campaign", "per_scenario", "run_scenarios"]

HIDDEN_PART: Final = 6
"""Each attack that hides gets one such part of the cases of a cause."""
LEAST_SAMPLES: Final = 128
_INTERVAL: Final = 100_000
_SHARES: Final = (1.0, 0.5)


class Campaign(NamedTuple):
    """What came of it."""

    domain: Domain
    calibrated_on: int
    """Samples."""
    pool: int
    """Samples that streams were drawn from."""
    seen: list[Observed]


def per_scenario(found: Sequence[Scenario], cases: int) -> Callable[[Scenario], int]:
    """Return how many streams of each scenario make `cases` of each cause.

    Attacks that hide come beside them, a sixth of `cases` of each.
    """

    def group(scenario: Scenario) -> tuple[Cause | None, bool]:
        return scenario.cause, hides(scenario)

    sizes = Counter(map(group, found))

    def count(scenario: Scenario) -> int:
        if hides(scenario):
            return max(1, cases // HIDDEN_PART)
        return max(1, -(-cases // sizes[group(scenario)]))

    return count


def _checked(x: Raw, y: npt.ArrayLike) -> npt.NDArray[np.int64]:
    labels = np.asarray(y)
    if labels.shape != (len(x),) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"y: expected {len(x)} integers, one per input, got shape {list(labels.shape)} and "
            f"dtype {labels.dtype.name}"
        )
    if len(x) < LEAST_SAMPLES:
        raise ValueError(f"x: expected {LEAST_SAMPLES} samples or more, got {len(x)}")
    if len(np.unique(labels)) < 2:
        raise ValueError("y: expected two classes or more, got one")
    return labels.astype(np.int64)


def run_scenarios(
    model: ModelSource,
    x: Raw,
    y: npt.ArrayLike,
    *,
    kind: InputKind | None = None,
    cases: int = 40,
    part: Part = "measured",
    scenarios: Sequence[Scenario] | None = None,
    runtime: RuntimeArgument = "auto",
    seed: int = 0,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> Campaign:
    """Calibrate on half of the samples, and serve streams of all scenarios drawn from the rest.

    Parameters
    ----------
    model
        A classifier with one input.
    x, y
        Labelled samples of normal operation, in any order: as the model takes them, or floats that
        are quantised for it. 128 or more; with fewer than 800, samples come again.
    kind
        Of input; None tells it by the shape.
    cases
        Streams of each cause, 1 or more.
    part
        Of the scenarios.
    scenarios
        These in place of those of the part; what does not apply to the inputs is left out.
    runtime
        As in `calibrate`.
    seed
        The same gives the same streams.
    progress
        Called before each stream with how many there were, how many there will be, and the
        scenario's name.

    Raises
    ------
    ValueError
        Where an argument does not fit.
    ModelFormatError, RuntimeUnavailableError, FileNotFoundError
        As `calibrate` says.

    Notes
    -----
    Attacks question the model up to 150 times a sample, once for all streams: with 400 samples and
    0.1 ms an inference, a minute in all.
    """
    if cases < 1:
        raise ValueError(f"cases: expected 1 or more, got {cases}")
    with Unguarded(model, runtime) as ask:
        raw = ask.raw(np.asarray(x))
        labels = _checked(raw, y)
        order = np.random.default_rng(seed).permutation(len(raw))
        half = len(raw) // 2
        known, pool, pool_labels = raw[order[:half]], raw[order[half:]], labels[order[half:]]
        domain = ask.domain(known, kind)
        baseline = calibrate(
            model, known, false_alarm_interval=_INTERVAL, runtime=runtime, seed=seed
        )
        found = (
            scenarios_for(domain, part)
            if scenarios is None
            else tuple(s for s in scenarios if s.fits(domain))
        )
        count = per_scenario(found, cases)
        total = sum(map(count, found))
        seen: list[Observed] = []
        for scenario in found:
            progress(len(seen), total, scenario.name)
            crafted: Crafted | None = None
            for n in range(count(scenario)):
                rng = np.random.default_rng([seed, zlib.crc32(scenario.name.encode()), n])
                if scenario.is_crafted and crafted is None:
                    crafted = craft(scenario, domain, pool, ask, rng)
                is_attack = scenario.cause == Cause.ADVERSARIAL_INPUT
                one = stream(
                    scenario, domain, pool, rng, labels=pool_labels, ask=ask, crafted=crafted,
                    share=_SHARES[n % len(_SHARES)] if is_attack else 1.0,
                )  # fmt: skip
                heard: list[Any] = []
                with SelfHealingModel(
                    model, baseline, runtime=runtime, seed=seed, on_event=heard.append
                ) as guarded:
                    seen.append(observe(guarded, heard, one))
                progress(len(seen), total, scenario.name)
    return Campaign(domain, half, len(pool), seen)
