"""The sensor is broken: stuck, flat, saturated, clipped, values lost, one channel, two swapped."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import (
    MIN_SAMPLES,
    Diagnosis,
    Evidence,
    RuledOut,
    Symptoms,
    Verdict,
    sureness,
)
from selfheal_edge.diagnosis.window import Window

__all__ = ["sensor_fault"]

_FAULTY_SHARE: Final = 0.75
_FAR: Final = 4.0  # sd above the reference
_REPEATED: Final = 0.2
_STOPPED: Final = 0.35
_STILL: Final = 0.5
_ALL_STILL: Final = 0.98
_FLAT: Final = 0.1
_ALONE: Final = 0.9
_ALONE_UNDER_ATTACK: Final = 0.97
_CHANNEL: Final = 0.8
_PLAIN: Final = 1.5
_ENOUGH: Final = 80
_LOST: Final = 0.08
_BODY: Final = 0.8
"""Spreads by which values that were not lost may have moved: more is an offset, or other light."""
_EXTREME: Final = 0.6
_ROUGHENED: Final = 0.12
_SUDDEN: Final = 0.4


def sensor_fault(symptoms: Symptoms) -> Verdict:
    """Tell by the alarms that name a sensor, then by what sound sensors never show."""
    raised = {a.signal: a for a in symptoms.alarms}
    if "input_repeats" in raised:
        text = f"{symptoms.repeats + 1} inputs in a row are equal to the bit: stuck"
        return _found("stuck", "input_repeats", symptoms.repeats, text)
    if "input_nonfinite" in raised:
        value = raised["input_nonfinite"].statistic
        return _found(
            "not finite", "input_nonfinite", value, f"{value:.0f} input values are not finite"
        )
    if "input_flat" in raised:
        value = raised["input_flat"].statistic
        text = f"{value:.0f} inputs in a row have almost no spread: dead or covered"
        return _found("flat", "input_flat", value, text)
    if symptoms.window is None:
        return _saturated(symptoms)
    return _broken(symptoms.window)


def _found(kind: str, name: str, value: float, text: str, confidence: float = 1.0) -> Diagnosis:
    return Diagnosis(Cause.SENSOR_FAULT, confidence, (Evidence(name, value, text),), kind)


def _broken(window: Window) -> Verdict:  # noqa: PLR0911 — a fault each
    bound = window.profile.bounds
    if window.repeated > bound["repeated"] + _REPEATED:
        text = f"{window.repeated:.0%} of inputs equal the one before: the sensor stutters"
        return _found("stuck", "repeated", window.repeated, text)
    is_still = window.still_cells > _STILL or window.stopped < _STOPPED
    if is_still and (window.still_cells >= _ALL_STILL or not window.may_be_crafted):
        text = (
            f"{window.still_cells:.0%} of the input's elements have stopped to vary; the others "
            f"have {window.stopped:.0%} of their usual spread"
        )
        return _found("stuck", "stopped", window.stopped, text, 0.9)
    if window.flat_inputs > bound["flat"] + _FLAT:
        text = f"{window.flat_inputs:.0%} of inputs have almost no spread"
        return _found("flat", "flat", window.flat_inputs, text)
    is_alone = window.alone > _ALONE and window.moved_most > max(_CHANNEL, 2 * bound["channel"])
    # A small shift may be an attack's as well, on a channel that is nearly blank: then the model is
    # asked, once there is enough to ask about, and last, since that has a budget.
    is_plain = window.moved_most > _PLAIN and window.alone > _ALONE_UNDER_ATTACK
    is_plain = is_plain and not window.is_quiet
    # Two channels that show what the other showed explain themselves what becomes of the answers.
    is_explained = window.inferences >= _ENOUGH and (
        window.swapped is not None or not window.may_be_crafted
    )
    if is_alone and (is_plain or is_explained):
        return _one_channel(window)
    low, high = window.lost
    lost = max(low - bound["lost low"], high - bound["lost high"])
    if lost > _LOST and window.body < _BODY and not window.is_relabelled:
        kind = "dropped" if low - bound["lost low"] >= lost else "saturated"
        end = "least" if kind == "dropped" else "greatest"
        text = f"{lost:.0%} of values, which are seldom there, stand at their {end}"
        return _found(kind, "lost", lost, text, sureness(lost / _LOST))
    at_low, at_high = window.extremes
    extreme = max(at_low - bound["low"], at_high - bound["high"])
    is_settled = window.inferences >= _ENOUGH and window.sudden > _SUDDEN  # light fades slowly
    is_extreme = extreme > _EXTREME and window.roughened < _ROUGHENED
    if is_extreme and is_settled and not window.may_be_crafted:
        kind = "clipped" if window.body < 0.5 else "saturated"
        text = (
            f"{np.exp(max(at_low, at_high)):.1f} times as many values as usual stand at the "
            f"input's own extreme: {kind}"
        )
        return _found(kind, "extremes", extreme, text, sureness(1.1 * extreme / _EXTREME))
    return RuledOut(
        Cause.SENSOR_FAULT,
        f"inputs vary ({window.stopped:.0%} of the usual spread), none of their channels stands "
        f"alone, and no more values than usual stand at an extreme",
    )


def _one_channel(window: Window) -> Diagnosis:
    channel = int(window.by_channel.argmax())
    swapped = window.swapped
    if swapped is not None:
        first, second = swapped
        text = f"channels {first} and {second} show what the other showed: swapped"
        return _found("swapped", "channel", window.moved_most, text, 0.9)
    text = (
        f"channel {channel} has moved by {window.moved_most:.1f} spreads, "
        f"the median channel by {window.moved_median:.1f}: it alone is at fault"
    )
    return _found("one channel", "channel", window.moved_most, text, 0.95)


def _saturated(symptoms: Symptoms) -> Verdict:
    """Tell by the share of saturated values, where calibration learned no profile."""
    for column, name in enumerate(symptoms.signals):
        if not name.startswith("input_saturated"):
            continue
        scores = symptoms.since_onset(column)
        if scores.size < MIN_SAMPLES:
            continue
        share = float(np.mean(scores > _FAR))
        if share >= _FAULTY_SHARE:
            text = (
                f"{name} of {share:.0%} of the latest {scores.size} inputs lies more than "
                f"{_FAR:g} sd above the reference: saturated"
            )
            return _found("saturated", name, share, text, share)
    return None
