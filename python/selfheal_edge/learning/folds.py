"""Which samples are held out together when a choice is made by cross-validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["folds_of", "groups_of"]

Integers = npt.NDArray[np.int64]


def groups_of(
    samples: npt.NDArray[Any],
    sources: npt.NDArray[Any] | None = None,
    seconds: npt.NDArray[Any] | None = None,
    together_s: float = 60.0,
    contents: Integers | None = None,
) -> Integers:
    """Return the group of each sample: those that say little more than one of them.

    A copy of a held-out sample in training, or the frame before it, makes any model look good.

    Parameters
    ----------
    samples
        Inputs or embeddings, one a row: equal ones belong together.
    sources, seconds
        A number for who labelled each, and when it came, if known: samples of one source in the
        same stretch of time belong together.
    together_s
        How long a stretch is.
    contents
        Which samples are of one content (`contents.leaders`), if known: these belong together.

    Returns
    -------
    numpy.ndarray
        int64, shape (k,): the least index of each sample's group.
    """
    k = len(samples)
    rows = np.ascontiguousarray(samples).reshape(k, -1) if k else np.empty((0, 0))
    keys = []
    if rows.size:
        keys.append(np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1))
    if contents is not None:
        keys.append(np.unique(contents, return_inverse=True)[1].reshape(-1))
    if seconds is not None:
        stretch = np.floor(np.asarray(seconds, np.float64) / together_s)
        who = np.zeros(k) if sources is None else np.asarray(sources, np.float64)
        both = np.stack([who, stretch], axis=1)
        keys.append(np.unique(both, axis=0, return_inverse=True)[1].reshape(-1))
    groups = np.arange(k, dtype=np.int64)
    while True:
        before = groups.copy()
        for key in keys:
            least = np.full(k, k, np.int64)
            np.minimum.at(least, key, groups)
            groups = least[key]
        if np.array_equal(groups, before):
            return groups


def folds_of(groups: Integers, labels: Integers, most: int = 8) -> Integers:
    """Deal groups out to folds of nearly the same size and mix of classes.

    Parameters
    ----------
    groups
        Shape (k,): a number for each group.
    labels
        Shape (k,): classes.
    most
        Folds at most; there are fewer where there are fewer groups.

    Returns
    -------
    numpy.ndarray
        int64, shape (k,): the fold of each sample.
    """
    names, which = np.unique(groups, return_inverse=True)
    count = max(1, min(most, len(names)))
    folds = np.zeros(len(groups), np.int64)
    sizes = np.bincount(which, minlength=len(names))
    held = np.zeros((count, int(labels.max(initial=0)) + 1), np.int64)
    first = np.zeros(len(names), np.int64)
    first[which[::-1]] = labels[::-1]
    # The largest first, then class by class: each goes where its class is rarest.
    for group in np.lexsort((names, first, -sizes)):
        members = which == group
        classes = np.bincount(labels[members], minlength=held.shape[1])
        crowded = held @ classes
        best = int(np.lexsort((np.arange(count), held.sum(axis=1), crowded))[0])
        folds[members] = best
        held[best] += classes
    return folds
