"""Keep a few bad labels from teaching much: how likely each is right, and how much it may weigh."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["capped_weights", "credibility"]

Floats = npt.NDArray[np.float64]

_BAD: Final = 0.15
"""Share of bad labels before anything is known of them."""
_SHARE_PULL: Final = 32.0
"""Labels that the share is pulled to that by."""
_FALLS_PULL: Final = 8.0
"""Bad labels that their distribution over classes is pulled to an even one by."""
_NEIGHBOURS: Final = 5
_ROUNDS: Final = 30


def credibility(
    chances: npt.NDArray[Any],
    labels: npt.NDArray[np.int64],
    embeddings: npt.NDArray[Any] | None = None,
) -> Floats:
    """Return how likely each label is right, by a model that no label has touched.

    A model that has learned from the labels would find those likely that it has learned, the bad
    ones among them: the judge must be golden, or golden aligned without labels.

    Parameters
    ----------
    chances
        Probabilities of classes by that model, shape (k, classes).
    labels
        Shape (k,).
    embeddings
        Shape (k, dimensions), in units in which distances mean the same along all of them. With
        them, what the nearest labelled samples are called counts as much as the model: under a
        drift it is unsure of right labels too, but samples of a class still lie together.

    Returns
    -------
    ndarray
        Shape (k,), from 0 to 1.

    Raises
    ------
    ValueError
        When shapes do not fit, a label is out of range, or a probability is not one.

    Notes
    -----
    Expectation maximisation of a mixture: a label is drawn from the judge's probabilities, or it
    is bad, and drawn from one distribution over classes, which is learned with the share of bad
    labels. So labels that are aimed at one class give each other away. Both are pulled to what is
    usual, by as many samples as the constants say. O(k^2 dimensions).
    """
    given = np.asarray(chances, np.float64)
    labels = np.asarray(labels)
    if given.ndim != 2 or labels.shape != given.shape[:1]:
        raise ValueError(
            "chances, labels: expected shapes (k, classes) and (k,), got "
            f"{given.shape} and {labels.shape}"
        )
    k, classes = given.shape
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"labels: expected classes below {classes}, got others")
    if not ((given >= 0) & (given <= 1.001)).all():
        raise ValueError("chances: expected numbers from 0 to 1, got others")
    right = given[np.arange(k), labels]
    if embeddings is not None and k > _NEIGHBOURS:
        right = (right + _agreement(np.asarray(embeddings, np.float64), labels)) / 2
    falls = np.full(classes, 1.0 / classes)
    share, bad = _BAD, np.zeros(k)
    for _ in range(_ROUNDS):
        guilty = share * falls[labels]
        bad = guilty / (guilty + (1.0 - share) * right)
        share = (_SHARE_PULL * _BAD + bad.sum()) / (_SHARE_PULL + k)
        falls = _FALLS_PULL / classes + np.bincount(labels, bad, classes)
        falls /= falls.sum()
    return np.asarray(1.0 - bad)


def _agreement(embeddings: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """Return the share of each sample's nearest neighbours that are called the same.

    Equal ones are one sample sent again, and no neighbours of each other.
    """
    squares = np.square(embeddings).sum(axis=1)
    away = squares[:, None] + squares - 2.0 * (embeddings @ embeddings.T)
    away[away <= 1e-9 * (squares[:, None] + squares)] = np.inf
    near = np.argsort(away, axis=1)[:, :_NEIGHBOURS]
    is_other = np.isfinite(np.take_along_axis(away, near, axis=1))
    return np.asarray(((labels[near] == labels[:, None]) & is_other).mean(axis=1))


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
