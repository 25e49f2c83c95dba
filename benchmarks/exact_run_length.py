"""Run lengths of a calibrated bank on a known source, by Markov chains and not by simulation.

A source has levels and the probabilities to go from one to the next. A chart on the scores of its
values is a Markov chain on (level of the source, sum of the chart); the sum lives on a lattice so
fine that its rounding counts for nothing. The rate of a bank is at most the sum of its charts'
rates: what is returned is that bound, never too favourable to the bank.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix, identity
from scipy.sparse.linalg import splu

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class Source(NamedTuple):
    """Values that come with `shares`, independently or by the probabilities in `moves`."""

    values: Array
    shares: Array
    moves: Array | None = None

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """Draw a stream."""
        if self.moves is None:
            return rng.choice(self.values, count, p=self.shares)
        edges = np.cumsum(self.moves, axis=1)
        edges[:, -1] = 1.0
        at = int(rng.choice(len(self.values), p=self.shares))
        out = np.empty(count)
        for i, u in enumerate(rng.random(count).tolist()):
            out[i] = self.values[at]
            at = int(np.searchsorted(edges[at], u, side="right"))
        return out


def bank_rate(monitor: Any, reference: Any, source: Source) -> float:
    """Return an upper bound of the false alarms a sample of a bank of one signal on `source`."""
    z = np.clip(reference.score_many(source.values), -reference.limit, reference.limit)
    if source.moves is None and reference.phi == 0:
        shares = source.shares[None, :]
        y = ((z - reference.offset) * reference.scale)[None, :]
        moves = shares
    elif source.moves is None:
        # Whitening looks at the value before, of independent values as well: few classes of those.
        classes, shares, z = _classes(z, source.shares, 24)
        moves = np.repeat(shares[None, :], classes, axis=0)
        y = (z[None, :] - reference.phi * z[:, None] - reference.offset) * reference.scale
    else:
        moves = source.moves
        y = (z[None, :] - reference.phi * z[:, None] - reference.offset) * reference.scale
    held = monitor.thresholds
    rate = 0.0
    for side, name in enumerate(("upper", "lower")):
        sign = 1.0 - 2.0 * side
        for k, h in zip(held["k"], held[name], strict=True):
            if np.isfinite(h):
                rate += _rate(moves, sign * y - k, h, h / lattice_points(h, len(moves)))
        cut, rise, limit = (held[f"tail_{part}"][side] for part in ("cut", "rise", "limit"))
        if np.isfinite(cut):
            steps = np.where(sign * y > cut, float(rise), -1.0)
            rate += _rate(moves, steps, limit + 0.5, 1.0)
    return rate


def lattice_points(h: float, sources: int) -> int:
    """Return how many points a sum of up to `h` gets: sixteen a standard deviation, if it can."""
    return int(np.clip(16 * h, 80, 640 if sources == 1 else 120))


def _classes(z: Array, shares: Array, count: int) -> tuple[int, Array, Array]:
    order = np.argsort(z, kind="stable")
    values, first = np.unique(z[order], return_index=True)
    mass = np.add.reduceat(shares[order], first)
    while len(values) > count:
        # The two neighbours whose merging moves least.
        cost = mass[:-1] * mass[1:] / (mass[:-1] + mass[1:]) * np.diff(values) ** 2
        i = int(np.argmin(cost))
        both = mass[i] + mass[i + 1]
        values[i] = (values[i] * mass[i] + values[i + 1] * mass[i + 1]) / both
        mass[i] = both
        values, mass = np.delete(values, i + 1), np.delete(mass, i + 1)
    return len(values), mass, values


def _rate(moves: Array, steps: Array, h: float, spacing: float) -> float:
    """Return 1 / mean time to alarm of max(0, sum + step), alarm above `h`.

    steps[i, j] is what the chart adds when the source goes from level i to j.
    """
    sources = moves.shape[0]
    points = int(np.floor(h / spacing + 1e-9)) + 1
    at = np.arange(points)
    floor = np.floor(steps / spacing)
    rest = steps / spacing - floor
    rows: list[Indices] = []
    columns: list[Indices] = []
    weights: list[Array] = []
    for i in range(sources):
        next_level = np.zeros(steps.shape[1], np.int64) if sources == 1 else np.arange(sources)
        for by, part in ((floor[i], moves[i] * (1 - rest[i])), (floor[i] + 1, moves[i] * rest[i])):
            kept = part > 0
            to = np.maximum(at[:, None] + np.clip(by[kept], -1e6, 1e6).astype(np.int64), 0)
            inside = to < points
            rows.append(np.broadcast_to(at[:, None] * sources + i, to.shape)[inside])
            columns.append((to * sources + next_level[kept])[inside])
            weights.append(np.broadcast_to(part[kept], to.shape)[inside])
    size = sources * points
    places = np.concatenate(rows), np.concatenate(columns)
    chain = coo_matrix((np.concatenate(weights), places), (size, size)).tocsc()
    left = identity(size, format="csc") - chain
    try:
        if chain.nnz > 0.15 * size * size:
            times = np.linalg.solve(left.toarray(), np.ones(size))
        else:
            times = splu(left, permc_spec="NATURAL").solve(np.ones(size))
    except (RuntimeError, np.linalg.LinAlgError):  # it cannot be left, to the digits of a double
        return 0.0
    # Where doubles give out the run is longer than any promise.
    return max(0.0, float(1.0 / times[:sources].mean()))
