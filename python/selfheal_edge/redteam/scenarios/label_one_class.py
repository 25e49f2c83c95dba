"""Label shift: one class makes up most of the stream."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.label_draws import class_shares, drawn
from selfheal_edge.redteam.scenarios.scenario import Scenario, Setting

__all__ = ["LABEL_ONE_CLASS"]


def _one_class(real: Real, setting: Setting) -> Real:
    """Let `strength` of the samples be of one class, the rest as before."""
    assert setting.labels is not None
    classes, shares = class_shares(setting.labels)
    chosen = setting.rng.integers(len(classes))
    shares = shares.copy()
    shares[chosen] = 0.0
    if shares.sum() > 0:
        shares *= (1 - setting.strength) / shares.sum()
    shares[chosen] = 1 - shares.sum()
    return drawn(setting.rng.choice(classes, len(real), p=shares), setting)


LABEL_ONE_CLASS: Final = (
    Scenario(
        "labels, one class", Cause.LABEL_SHIFT, "one class", "labels, one class", "tuning",
        _one_class, (0.6, 0.9), needs_labels=True,
    ),
)  # fmt: skip
"""60 to 90 % of one class."""
