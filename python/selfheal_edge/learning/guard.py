"""Keep a few bad labels from teaching much: which are dropped, and how much each may weigh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["LEAST_CHANCE", "Guarded", "capped_weights", "guarded"]

Floats = npt.NDArray[np.float64]

LEAST_CHANCE: Final = 0.03
"""A label that the model before any label finds less likely is dropped."""


@dataclass(frozen=True, slots=True, eq=False)
class Guarded:
    """Which labelled samples may teach."""

    kept: npt.NDArray[np.bool_]
    """Shape (k,)."""
    chances: Floats
    """How likely the model before any label finds each label, shape (k,)."""
    reasons: tuple[str, ...]
    """For each dropped one, in their order, in words."""


def guarded(
    probabilities: npt.NDArray[Any],
    labels: npt.NDArray[np.int64],
    least: float = LEAST_CHANCE,
) -> Guarded:
    """Drop labels that a model which no label has touched finds next to impossible.

    A model that has learned from the labels would find those likely that it has learned, the bad
    ones among them: the judge must be golden, or golden aligned without labels.

    Parameters
    ----------
    probabilities
        Of that model, shape (k, classes).
    labels
        Shape (k,).
    least
        The least chance that is kept, from 0 (nothing is dropped) to below 1.

    Raises
    ------
    ValueError
        When shapes do not fit, a label is out of range, or a probability is not one.
    """
    chances = np.asarray(probabilities, np.float64)
    labels = np.asarray(labels)
    if chances.ndim != 2 or labels.shape != chances.shape[:1]:
        raise ValueError(
            "probabilities, labels: expected shapes (k, classes) and (k,), got "
            f"{chances.shape} and {labels.shape}"
        )
    if labels.size and not (labels.min() >= 0 and labels.max() < chances.shape[1]):
        raise ValueError(f"labels: expected classes below {chances.shape[1]}, got others")
    if not ((chances >= 0) & (chances <= 1.001)).all():
        raise ValueError("probabilities: expected numbers from 0 to 1, got others")
    if not 0.0 <= least < 1.0:
        raise ValueError(f"least: expected from 0 to below 1, got {least}")
    own = chances[np.arange(len(labels)), labels]
    kept = own >= least
    reasons = tuple(
        f"label {labels[i]} where the model before any label gives it {own[i]:.2g} and "
        f"{int(chances[i].argmax())} {chances[i].max():.2g}"
        for i in np.flatnonzero(~kept)
    )
    return Guarded(np.asarray(kept), np.asarray(own), reasons)


def capped_weights(
    weights: npt.NDArray[Any],
    sources: npt.NDArray[Any] | None = None,
    *,
    most_of_all: float = 0.1,
    most_by_source: float = 1.0,
) -> Floats:
    """Return weights of which no sample, and no source, has more than its share.

    Parameters
    ----------
    weights
        Shape (k,), from 0 on.
    sources
        A number for who labelled each, shape (k,).
    most_of_all
        Of one sample, of all weight; where there are fewer samples than would fill it, they weigh
        the same.
    most_by_source
        Of one source; likewise.

    Raises
    ------
    ValueError
        When a weight is negative or not finite, or a share is not above 0 and at most 1.
    """
    given = np.array(weights, np.float64)
    if given.ndim != 1 or not (np.isfinite(given) & (given >= 0)).all():
        raise ValueError("weights: expected finite numbers from 0 on, got others")
    for name, share in (("most_of_all", most_of_all), ("most_by_source", most_by_source)):
        if not 0.0 < share <= 1.0:
            raise ValueError(f"{name}: expected above 0 and at most 1, got {share}")
    capped = given * _capped_shares(given, most_of_all)
    if sources is not None and most_by_source < 1.0:
        _, which = np.unique(np.asarray(sources), return_inverse=True)
        which = which.reshape(-1)
        total = np.asarray(np.bincount(which, capped), np.float64)
        capped *= _capped_shares(total, most_by_source)[which]
    return np.asarray(capped)


def _capped_shares(amounts: Floats, most: float) -> Floats:
    """Return factors, at most 1, that leave none of the amounts above `most` of their sum."""
    present = np.sort(amounts[amounts > 0.0])[::-1]
    if not present.size or present[0] <= most * present.sum():
        return np.ones_like(amounts)
    ceiling = float(present[-1])  # too few of them: then all weigh the same
    if most * present.size > 1.0:
        rest = present.sum() - np.cumsum(present)
        following = np.append(present[1:], 0.0)
        for m, (left, after) in enumerate(zip(rest, following, strict=True), start=1):
            # With the m largest cut to it, the ceiling is `most` of m ceilings and the rest.
            ceiling = float(most * left / (1.0 - most * m))
            if ceiling >= after:
                break
    return np.asarray(np.minimum(1.0, ceiling / np.maximum(amounts, 1e-300)))
