"""A float twin of a model, learnt from its answers alone: one hidden layer, in NumPy."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.redteam.scenarios.domain import Real

__all__ = ["Twin"]

_HIDDEN: Final = 32
_STEPS: Final = 600
_BATCH: Final = 64
_RATE: Final = 3e-3
_DECAY1: Final = 0.9
_DECAY2: Final = 0.99


class Twin:
    """Imitates answers, and knows its own gradients.

    Parameters
    ----------
    inputs
        Standardised, float64, shape (n, features).
    answers
        Probabilities, shape (n, classes).
    rng
        First weights and order.
    """

    def __init__(self, inputs: Real, answers: Real, rng: np.random.Generator) -> None:
        features, classes = inputs.shape[1], answers.shape[1]
        self._weights = [
            rng.normal(size=(features, _HIDDEN)) / np.sqrt(features),
            np.zeros(_HIDDEN),
            rng.normal(size=(_HIDDEN, classes)) / np.sqrt(_HIDDEN),
            np.zeros(classes),
        ]
        means = [np.zeros_like(w) for w in self._weights]
        squares = [np.zeros_like(w) for w in self._weights]
        for step in range(1, _STEPS + 1):
            rows = rng.integers(len(inputs), size=_BATCH)
            x, y = inputs[rows], answers[rows]
            hidden, p = self._forward(x)
            error = (p - y) / len(rows)
            back = (error @ self._weights[2].T) * (hidden > 0)
            slopes = [x.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]
            for n, slope in enumerate(slopes):
                means[n] += (1 - _DECAY1) * (slope - means[n])
                squares[n] += (1 - _DECAY2) * (slope * slope - squares[n])
                size = np.sqrt(squares[n] / (1 - _DECAY2**step)) + 1e-8
                self._weights[n] -= _RATE * means[n] / (1 - _DECAY1**step) / size

    def _forward(self, x: Real) -> tuple[Real, Real]:
        w1, b1, w2, b2 = self._weights
        hidden = np.maximum(x @ w1 + b1, 0.0)
        logits = hidden @ w2 + b2
        logits -= logits.max(1, keepdims=True)
        p = np.exp(logits)
        return hidden, p / p.sum(1, keepdims=True)

    def uphill(self, x: Real, label: np.ndarray) -> Real:
        """Return the gradient of the loss of `label` by the inputs, shape of `x`."""
        hidden, p = self._forward(x)
        p[np.arange(len(label)), label] -= 1.0
        return np.asarray(((p @ self._weights[2].T) * (hidden > 0)) @ self._weights[0].T)
