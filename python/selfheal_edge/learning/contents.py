"""Which inputs are of one content: a near copy of an input says little that the input does not.

A head that has learned some inputs is right on copies of these, and that says nothing of others.
So what is learned and what judges are kept apart by content, and not by name: copies are held out
together (`learning.folds`), and no trial is decided by them (`learning.questions`). Two inputs are
of one content where golden's embeddings of them lie nearer to each other than calibration's inputs
usually lie to the next one, each in units of its own spread. A copy that is missed says much for
what has learned it, and comes again; a new input that is taken for one costs nothing but another
that is asked for in its place. So the reach is as wide as it may be: one new input in three may lie
within it, of as many as there are to lie near to.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["leaders", "nearest_others", "reach_among"]

Floats = npt.NDArray[np.float64]

_MOST_MISTAKEN: Final = 1 / 3
_CERTAIN: Final = 1 / 2
_MOST_SHARE: Final = 1 / 2  # of calibration's contents; beyond it what lies near is no copy
_LEAST_SPREAD: Final = 1e-3  # of the widest dimension: below, one says nothing


def nearest_others(rows: npt.NDArray[Any]) -> Floats:
    """Return how near each of calibration's contents lies to the next one, in units of its spread.

    Parameters
    ----------
    rows
        Embeddings of its inputs, shape (n, dimensions), n at least 2. Calibration may hold a copy
        of each, as by night: two are one content that lie nearer than half of how near the second
        next one usually lies.

    Returns
    -------
    ndarray
        Shape (m,), m from 2 to n.
    """
    first = rows[np.unique(leaders(rows, _CERTAIN * float(np.median(_to_next(rows, 1)))))]
    return _to_next(rows if len(first) < 2 else first, 0)


def _to_next(rows: npt.NDArray[Any], place: int) -> Floats:
    """Return how far the next of the others lies from each, or the one after it: shape (n,)."""
    units = rows / _spread(rows)
    squares = _squares(units, units)
    np.fill_diagonal(squares, np.inf)
    return np.asarray(np.sqrt(np.partition(squares, place, axis=1)[:, place]))


def reach_among(nearest: Floats, count: int) -> float:
    """Return how near two embeddings of one content lie to each other.

    Parameters
    ----------
    nearest
        From `nearest_others`.
    count
        Embeddings that one is compared with. Of as many that are new to it one lies within reach in
        a third of cases, or less; calibration's distances are to the next of m - 1.
    """
    share = 1.0 - (1.0 - _MOST_MISTAKEN) ** ((len(nearest) - 1) / max(1, count))
    return float(np.quantile(nearest, min(_MOST_SHARE, share)))


def leaders(
    rows: npt.NDArray[Any], reach: float, known: npt.NDArray[Any] | None = None
) -> npt.NDArray[np.int64]:
    """Return the first row of the same content as each.

    Parameters
    ----------
    rows
        Embeddings, shape (n, dimensions).
    reach
        From `reach_among`.
    known
        More of them, shape (m, dimensions), that come before.

    Returns
    -------
    ndarray
        Shape (n,): each row's own index where it is like none before, an earlier one's where it is
        like that, and -1 where it is like one of `known`. Rows are compared with the first one of a
        content alone: a chain of neighbours is no content.
    """
    found = np.arange(len(rows), dtype=np.int64)
    if not len(rows):
        return found
    both = rows if known is None or not len(known) else np.concatenate([known, rows])
    units = both / _spread(both)
    fresh, limit = units[len(both) - len(rows) :], reach**2
    if len(both) > len(rows):
        found[_squares(fresh, units[: len(both) - len(rows)]).min(axis=1) < limit] = -1
    near = _squares(fresh, fresh) < limit
    for row in range(len(rows)):
        if found[row] != row:
            continue
        later = np.flatnonzero(near[row, row + 1 :]) + row + 1
        found[later[found[later] == later]] = row
    return found


def _spread(rows: npt.NDArray[Any]) -> Floats:
    spread = rows.astype(np.float64).std(axis=0)
    return np.asarray(
        np.maximum(spread, _LEAST_SPREAD * max(float(spread.max(initial=0.0)), 1e-12))
    )


def _squares(a: Floats, b: Floats) -> Floats:
    """Return mean squared distances, shape (len(a), len(b))."""
    total = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2.0 * (a @ b.T)
    return np.asarray(np.maximum(total, 0.0) / max(1, a.shape[1]))
