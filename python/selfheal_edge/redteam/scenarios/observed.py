"""Serve a stream to a guarded model and write down what is said of it, and when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.model import SelfHealingModel
from selfheal_edge.redteam.scenarios.scenario import Scenario
from selfheal_edge.redteam.scenarios.streams import Stream

__all__ = ["HORIZONS", "JUDGED_AT", "Observed", "Verdict", "observe"]

HORIZONS: Final = (32, 128, 256)
"""Predictions after the onset at which is asked what stands."""
JUDGED_AT: Final = 128
"""The one that figures are about."""


class Verdict(NamedTuple):
    """What stands so many predictions after the onset."""

    is_alarmed: bool
    """Whether there was an alarm since the onset."""
    cause: Cause | None
    """Of the trouble that goes on; None where there is none, or none was named yet."""
    kind: str
    named: Cause | None = None
    """What was named last by then, whether or not that trouble has passed."""


class Observed(NamedTuple):
    """One stream as it was diagnosed."""

    scenario: Scenario
    strength: float
    share: float
    flipped: float | None
    is_early: bool
    """Whether something was said before the onset: a false alarm."""
    alarm_after: int | None
    """Predictions from the onset to the first alarm; None: none came."""
    named_after: int | None
    """Predictions from the onset to the first cause."""
    verdicts: dict[int, Verdict]
    """For each of the horizons."""
    diagnosis_seconds: float | None
    """What the call took in which the first cause was named."""


def _standing(model: SelfHealingModel) -> tuple[Cause | None, str]:
    """Return cause and kind of the trouble that goes on."""
    diagnosis = model.diagnosis
    return (None, "") if diagnosis is None else (diagnosis.cause, diagnosis.kind)


def observe(
    model: SelfHealingModel,
    heard: Sequence[Any],
    stream: Stream,
    horizons: Sequence[int] = HORIZONS,
) -> Observed:
    """Serve a stream, one prediction after the other.

    Parameters
    ----------
    model
        Opened for this stream alone.
    heard
        The list that its `on_event` appends to.
    stream
        What to serve.
    horizons
        See `HORIZONS`.
    """
    shape = model.inputs[0].shape
    verdicts: dict[int, Verdict] = {}
    alarm_after = named_after = took = named = None
    seen = len(heard)
    is_early = False
    for n, sample in enumerate(stream.inputs):
        begun = time.perf_counter()
        model.predict(np.ascontiguousarray(sample.reshape(shape)))
        seconds = time.perf_counter() - begun
        after = n + 1 - stream.onset
        for event in heard[seen:]:
            if event.kind not in ("alarm", "diagnosis"):
                continue
            if after <= 0:
                is_early = True
            else:
                alarm_after = alarm_after or after
                if event.kind != "diagnosis":
                    continue
                named = event.cause
                if named_after is None:
                    named_after, took = after, seconds
        seen = len(heard)
        if after in horizons:
            verdicts[after] = Verdict(alarm_after is not None, *_standing(model), named)
    return Observed(
        stream.scenario, stream.strength, stream.share, stream.flipped, is_early,
        alarm_after, named_after, verdicts, took,
    )  # fmt: skip
