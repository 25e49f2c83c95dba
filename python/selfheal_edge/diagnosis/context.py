"""What the caller told of the predictions, where it changed together with the signals."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.diagnosis.symptoms import Evidence, Symptoms
from selfheal_edge.text import shown

__all__ = ["context_facts"]

_LEAST: Final = 8
_FAR: Final = 3.0  # spreads


def context_facts(symptoms: Symptoms) -> tuple[Evidence, ...]:
    """Return the numbers of the context that have moved since the onset."""
    onset = symptoms.onset
    if onset is None:
        return ()
    since = symptoms.count - onset
    facts = []
    for name, values in symptoms.context.items():
        if not 0 < since < len(values):
            continue
        before, after = values[:-since], values[-since:]
        before, after = before[np.isfinite(before)], after[np.isfinite(after)]
        if len(before) < _LEAST or len(after) < _LEAST:
            continue
        gap = float(after.mean() - before.mean())
        spread = max(float(before.std()), 1e-3 * abs(float(before.mean())), 1e-9)
        if abs(gap) >= _FAR * spread:
            was, now = float(np.median(before)), float(np.median(after))
            text = f"{shown(name)} went from {was:.4g} to {now:.4g} when it began"
            facts.append(Evidence(f"context {shown(name)}", gap / spread, text))
    return tuple(facts)
