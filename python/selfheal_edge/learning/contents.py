"""Which inputs are of one content: a near copy of an input says little that the input does not.

A head that has learned some inputs is right on copies of these, and that says nothing of others.
So what is learned and what judges are kept apart by content, and not by name: copies are held out
together (`learning.folds`), and no trial is decided by them (`learning.questions`). Two inputs are
of one content where golden's embeddings of them lie nearer to each other than half of how near
calibration's inputs usually lie to the next one, each in units of its own spread.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["leaders", "usual_reach"]

Floats = npt.NDArray[np.float64]

_NEAR: Final = 0.5
_LEAST_SPREAD: Final = 1e-3  # of the widest dimension: below, one says nothing


def usual_reach(rows: npt.NDArray[Any]) -> float:
    """Return how near two embeddings of one content lie to each other, in units of their spread.

    Parameters
    ----------
    rows
        Embeddings of calibration's inputs, shape (n, dimensions), n at least 2.
    """
    units = rows / _spread(rows)
    squares = _squares(units, units)
    np.fill_diagonal(squares, np.inf)
    return _NEAR * float(np.sqrt(np.median(squares.min(axis=1))))


def leaders(
    rows: npt.NDArray[Any], reach: float, known: npt.NDArray[Any] | None = None
) -> npt.NDArray[np.int64]:
    """Return the first row of the same content as each.

    Parameters
    ----------
    rows
        Embeddings, shape (n, dimensions).
    reach
        From `usual_reach`.
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
