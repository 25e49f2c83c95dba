"""Fit a softmax layer to few samples, pulled to the layer that it begins from."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["fit_head", "log_probabilities"]

Floats = npt.NDArray[np.float64]

_ITERATIONS: Final = 120
_TINY: Final = 1e-5


def log_probabilities(logits: Floats) -> Floats:
    """Return log softmax, shape (n, classes), of logits; one column is a sigmoid's, of class 1."""
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    logits = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def fit_head(
    x: Floats, targets: Floats, importance: Floats, weights: Floats, bias: Floats, pull: float
) -> tuple[Floats, Floats]:
    """Minimise cross-entropy plus pull / 2 times the squared distance to the layer given."""
    is_single = len(weights) == 1
    start = np.concatenate([weights, bias[:, None]], axis=1)
    rows = np.concatenate([np.zeros_like(start), start]) if is_single else start
    z = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    weighted = z * importance[:, None]
    curvature = 0.5 * float(np.linalg.norm(z.T @ weighted, 2)) + pull
    now = ahead = rows.copy()
    pace = 1.0
    for _ in range(_ITERATIONS):
        chances = np.exp(log_probabilities(z @ ahead.T))
        slope = (chances - targets).T @ weighted + pull * (ahead - rows)
        if is_single:
            slope[0] = 0.0
        new = ahead - slope / curvature
        if float((slope * (new - now)).sum()) > 0.0:  # the momentum leads uphill: begin anew
            pace = 1.0
        faster = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * pace * pace))
        ahead = new + (pace - 1.0) / faster * (new - now)
        moved = float(np.abs(new - now).max())
        now, pace = new, faster
        if moved < _TINY:
            break
    found = now[1:] if is_single else now
    return found[:, :-1], found[:, -1]
