"""Fit a regressor's last layer to few targets: ridge regression towards the layer it begins from.

Each number has a column of its own; how strongly they are held is one choice for all. In
standardised embedding space, z = (embedding - mean) / spread, the change of the layer minimises

    sum_i w_i |residual_i - change . (z_i, 1)|^2 + pull |change|^2

(Hoerl and Kennard, 1970, towards the start and not towards zero), in closed form. A target that is
false would pull it along: residuals beyond 4.685 of their spread, as a median tells it, weigh
nothing, and those below it the less the farther away they are (Beaton and Tukey's biweight, 1974),
found out in a few rounds that begin at the residuals of the start, which no target has touched.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.learning.errors import error_of, saved

__all__ = ["PULLS", "Ridge", "Samples", "chosen_pull", "fit_ridge"]

Floats = npt.NDArray[np.float64]

PULLS: Final = (np.inf, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
"""How strongly a layer may be held, the strongest first; infinity is the start."""
_OFFSET: Final = 0.1
"""Of the pull, on what is added to every answer: that is what moves first."""
_ROUNDS: Final = 4
_REACH: Final = 4.685
_PER_SPREAD: Final = 1.4826  # of a normal distribution, from its median absolute value
_LEAST_SPREAD: Final = 0.02  # of the widest dimension


class Samples(NamedTuple):
    """What a layer is fitted to: n samples, the last k of them labelled."""

    inside: Floats
    """Embeddings, shape (n, dimensions)."""
    targets: Floats
    """Shape (n, numbers)."""
    weights: Floats
    """Shape (n,)."""
    labelled: int
    """k."""


class Ridge(NamedTuple):
    """A layer that was fitted."""

    weights: Floats
    """Shape (numbers, dimensions), real units."""
    bias: Floats
    """Shape (numbers,)."""
    trust: Floats
    """How much each sample counts beside its weight, 0 to 1: shape (n,)."""

    def __call__(self, inside: Floats) -> Floats:
        """Return what it answers, shape (m, numbers)."""
        return np.asarray(inside @ self.weights.T + self.bias)


def fit_ridge(
    samples: Samples,
    start: tuple[Floats, Floats],
    pull: float,
    units: Floats,
    where: tuple[Floats, Floats] | None = None,
) -> Ridge:
    """Return the layer that fits samples best, for how strongly it is held.

    Parameters
    ----------
    samples
        Those of weight 0 are not there.
    start
        Weights, shape (numbers, dimensions), and biases that it is held to.
    pull
        Above 0; infinite: the start.
    units
        The mean error of each number in calibration, shape (numbers,): residuals are counted in it,
        and never taken to spread less.
    where
        Mean and spread of the embedding by dimension where it is to serve; None: those of the
        samples.

    Notes
    -----
    A system of as many equations as there are dimensions is solved a few times, in float64.
    """
    inside, targets, given = samples.inside, samples.targets, samples.weights
    weights, bias = start
    residuals = targets - (inside @ weights.T + bias)
    trust = _trusted(residuals - _median(residuals, given), given, units)
    if not np.isfinite(pull) or not (given > 0).any():
        return Ridge(weights, bias, trust)
    mean, spread = (inside.mean(axis=0), inside.std(axis=0)) if where is None else where
    spread = np.maximum(spread, _LEAST_SPREAD * spread.max()) if spread.any() else spread + 1.0
    rows = np.column_stack([(inside - mean) / spread, np.ones(len(inside))])
    held = np.full(rows.shape[1], pull)
    held[-1] *= _OFFSET
    change = np.zeros((rows.shape[1], targets.shape[1]))
    for _ in range(_ROUNDS):
        both = given * trust
        normal = (rows * both[:, None]).T @ rows + np.diag(held)
        change = np.linalg.solve(normal, (rows * both[:, None]).T @ residuals)
        trust = _trusted(residuals - rows @ change, given, units)
    slope = change[:-1].T / spread
    return Ridge(weights + slope, bias + change[-1] - slope @ mean, trust)


def chosen_pull(
    samples: Samples,
    start: tuple[Floats, Floats],
    folds: npt.NDArray[np.int64],
    units: Floats,
    where: tuple[Floats, Floats] | None = None,
    least: float = np.inf,
) -> tuple[float, Floats]:
    """Return the pull that does best on targets that were held out, and the answers to those.

    Parameters
    ----------
    samples, start, units, where
        As for `fit_ridge`.
    folds
        Of the labelled samples, which are held out together: shape (k,).
    least
        The strongest pull that may be chosen.

    Returns
    -------
    float, ndarray
        The strongest pull within one standard error of the best, and its answers, shape
        (k, numbers).
    """
    k = samples.labelled
    told = slice(len(samples.inside) - k, None)
    targets, weights = samples.targets[told], samples.weights[told]
    pulls = [pull for pull in PULLS if pull <= least]
    answers = np.zeros((len(pulls), *targets.shape))
    for n, pull in enumerate(pulls):
        for fold in np.unique(folds):
            left = samples.weights.copy()
            left[told][folds == fold] = 0.0
            found = fit_ridge(samples._replace(weights=left), start, pull, units, where)
            answers[n, folds == fold] = found(samples.inside[told][folds == fold])
    before = error_of(samples.inside[told] @ start[0].T + start[1], targets, units)
    gains = np.stack([saved(before, error_of(one, targets, units)) for one in answers])
    shares = weights / max(float(weights.sum()), 1e-300)
    means = gains @ shares
    apart = gains - gains[int(means.argmax())]
    errors = np.sqrt(np.square((apart - (apart @ shares)[:, None]) * shares).sum(axis=1))
    best = int(np.flatnonzero(means.max() - means <= errors)[0])
    return pulls[best], answers[best]


def _median(residuals: Floats, weights: npt.NDArray[Any]) -> Floats:
    there = residuals[weights > 0]
    return np.median(there, axis=0) if len(there) else np.zeros(residuals.shape[1])


def _trusted(residuals: Floats, weights: Floats, units: Floats) -> Floats:
    """Return how much each sample counts, by how far it lies from what is fitted."""
    size = (np.abs(residuals) / units).mean(axis=1)
    there = size[weights > 0]
    spread = max(_PER_SPREAD * float(np.median(there)) if len(there) else 0.0, 1.0)
    return np.asarray(np.square(np.maximum(1.0 - np.square(size / (_REACH * spread)), 0.0)))
