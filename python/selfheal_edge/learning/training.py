"""Train the last layer on few samples, and choose how strongly it is held by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core

__all__ = ["PULLS", "CrossValidation", "HeadTrainer", "TrainedHead", "log_softmax"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

PULLS: Final = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""How strongly a head may be held, beside entirely; see `HeadTrainer`."""
_COARSE: Final = 1e-2  # of a change while strengths are compared
_LEAST_TRIED: Final = 4  # infinity among them
_MOST_LOSS: Final = float(-np.log(0.01))
_LEAST_SPREAD: Final = 0.02  # of the widest dimension


def log_softmax(logits: npt.NDArray[Any]) -> Floats:
    """Return logarithms of probabilities, shape (n, classes).

    Logits of one column are a sigmoid's: of class 1 of two.
    """
    logits = np.asarray(logits, np.float64)
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    away = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(away - np.log(np.exp(away).sum(axis=1, keepdims=True)))


@dataclass(frozen=True, slots=True, eq=False)
class TrainedHead:
    """What a fit came to."""

    weights: Floats
    """Shape (rows, dimensions), in real units."""
    bias: Floats
    """Shape (rows,)."""
    is_converged: bool
    """False where the effort ran out: then it lies on the way from the start to the optimum."""
    products: int
    """Passes over the samples that it took."""
    loss: float
    """Weighted sum of cross-entropies; nats."""
    change: float
    """Distance from the start, in logits by units of the embedding's spread."""


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidation:
    """What heads of several strengths answer to samples that they did not learn from.

    Samples are those that were held out at some time; k is their number.
    """

    pulls: tuple[float, ...]
    """Those tried, falling; the first is infinite: the start, which has learned nothing."""
    samples: Integers
    """Indices of the samples, shape (k,)."""
    weights: Floats
    """Their weights, shape (k,)."""
    labels: Integers
    """Their most likely class, shape (k,)."""
    answers: Integers
    """Shape (pulls, k)."""
    losses: Floats
    """Cross-entropies in nats, at most those of a chance of 1 %: shape (pulls, k)."""
    products: int
    """Passes over the samples that it took."""

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether each answer is the label, shape (pulls, k)."""
        return np.asarray(self.answers == self.labels)

    @property
    def accuracy(self) -> Floats:
        """Weighted share of right answers, shape (pulls,)."""
        return np.asarray(self.right @ self._shares)

    @property
    def loss(self) -> Floats:
        """Weighted mean loss, shape (pulls,)."""
        return np.asarray(self.losses @ self._shares)

    @property
    def gained(self) -> Integers:
        """How many answers are right where the start's is wrong, shape (pulls,)."""
        return np.asarray((self.right & ~self.right[0]).sum(axis=1), np.int64)

    @property
    def lost(self) -> Integers:
        """How many are wrong where the start's is right, shape (pulls,)."""
        return np.asarray((~self.right & self.right[0]).sum(axis=1), np.int64)

    @property
    def _shares(self) -> Floats:
        return np.asarray(self.weights / max(float(self.weights.sum()), 1e-300))

    @property
    def best(self) -> int:
        """Index of the pull with the least loss."""
        return int(self.loss.argmin())

    @property
    def is_past(self) -> bool:
        """Whether the last two pulls lose by more than two standard errors: weaker ones would too.

        Those take longest.
        """
        means, best = self.loss, self.best
        return bool((means - means[best] > 2.0 * self._errors(best))[-2:].all())

    @property
    def chosen(self) -> int:
        """Index of the strongest pull whose loss is within one standard error of the least.

        The error is that of the difference between both, sample by sample. Safer than `best` where
        nothing else judges the head, at some of the gain: on a model of digits under four drifts,
        64 labels of each, it gained 0.3 points less on average.
        """
        means, best = self.loss, self.best
        return int(np.flatnonzero(means - means[best] <= self._errors(best))[0])

    def _errors(self, best: int) -> Floats:
        """Return the standard error of each loss's difference from the best one's."""
        apart = self.losses - self.losses[best]
        shares = self._shares
        centred = apart - (apart @ shares)[:, None]
        return np.asarray(np.sqrt(np.square(centred * shares).sum(axis=1)))


class HeadTrainer:
    """Fits last layers to one set of samples after the other; memory is fixed.

    Parameters
    ----------
    rows, dimensions
        Shape of the head's weights.
    capacity
        Samples at most.
    max_bytes
        What the solver may take; more is refused.

    Raises
    ------
    ValueError
        When a size is out of range, or too large for `max_bytes`.

    Notes
    -----
    The `pull` of a fit is that of a normal prior: the change of a logit by a dimension's spread has
    the variance 1 / pull, whatever the number of samples. `_core.SoftmaxHead` says what is
    minimised.
    """

    def __init__(
        self, rows: int, dimensions: int, capacity: int, *, max_bytes: int = 64 << 20
    ) -> None:
        if rows < 1:
            raise ValueError(f"rows: expected 1 or more, got {rows}")
        self._rows = rows
        self._solver = _core.SoftmaxHead(max(2, rows), dimensions, capacity, max_bytes=max_bytes)
        self._start: tuple[Floats, Floats] | None = None

    @property
    def memory_bytes(self) -> int:
        """Bytes that the solver holds."""
        return self._solver.memory_bytes()

    def load(
        self,
        embeddings: npt.NDArray[Any],
        weights: npt.NDArray[Any],
        bias: npt.NDArray[Any],
        mean: npt.NDArray[Any] | None = None,
        spread: npt.NDArray[Any] | None = None,
    ) -> None:
        """Take samples, and the head that fits begin from.

        Parameters
        ----------
        embeddings
            Shape (n, dimensions), in real units.
        weights, bias
            The start: shapes (rows, dimensions) and (rows,), in real units.
        mean, spread
            Of the embedding by dimension, where the head is to serve; None: those of the samples.
            A spread counts as at least a fiftieth of the widest.

        Raises
        ------
        ValueError
            When a shape is wrong, or a number is not finite.
        """
        solver = self._solver
        x = np.ascontiguousarray(embeddings, np.float32)
        weights, bias = np.array(weights, np.float64), np.array(bias, np.float64)
        expected = (self._rows, solver.dimensions)
        if weights.shape != expected or bias.shape != expected[:1]:
            raise ValueError(
                f"weights, bias: expected shapes {expected} and {expected[:1]}, got "
                f"{weights.shape} and {bias.shape}"
            )
        if x.ndim != 2 or x.shape[1] != solver.dimensions:
            raise ValueError(f"embeddings: expected shape (n, {solver.dimensions}), got {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError("embeddings: expected finite numbers of 32 bits, got others")
        wide = x.astype(np.float64)
        if mean is None:
            mean = wide.mean(axis=0) if len(wide) else np.zeros(solver.dimensions)
        if spread is None:
            spread = wide.std(axis=0) if len(wide) > 1 else np.ones(solver.dimensions)
        spread = np.array(spread, np.float64)
        if spread.shape != expected[1:] or not (np.isfinite(spread) & (spread >= 0)).all():
            raise ValueError(f"spread: expected {expected[1]} finite numbers from 0 on, got others")
        spread = np.maximum(spread, _LEAST_SPREAD * spread.max()) if spread.any() else spread + 1
        logits = wide @ weights.T + bias
        if self._rows == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        self._start = None
        solver.load(x, np.array(mean, np.float64), spread, logits)
        self._start = weights, bias

    def fit(
        self,
        targets: npt.NDArray[Any],
        sample_weights: npt.NDArray[Any],
        pull: float,
        *,
        products: int = 400,
        tolerance: float = 1e-4,
        reach: float = 2.0,
    ) -> TrainedHead:
        """Return the head that fits the loaded samples best, for how strongly it is held.

        Parameters
        ----------
        targets
            Classes, int64, shape (n,); or distributions over classes, shape (n, classes).
        sample_weights
            Shape (n,), from 0 to 1e6; 0: not there.
        pull
            More than 0; infinite: the start.
        products
            Passes over the samples at most.
        tolerance
            Of the change from the start, relative.
        reach
            How long an embedding may be, in times the usual, before its weight is cut.

        Raises
        ------
        ValueError
            When a shape is wrong or a number out of its range.
        """
        self._aim(targets, sample_weights, reach)
        outcome = self._fit(pull, products, tolerance)
        assert self._start is not None
        change, offset = self._solver.change()
        if self._rows == 1:
            change, offset = change[1:] - change[:1], offset[1:] - offset[:1]
        weights, bias = self._start
        return TrainedHead(
            weights + change,
            bias + offset,
            outcome.is_converged,
            outcome.products,
            outcome.loss,
            outcome.change,
        )

    def cross_validate(
        self,
        targets: npt.NDArray[Any],
        sample_weights: npt.NDArray[Any],
        folds: Integers,
        pulls: Sequence[float] = PULLS,
        *,
        products: int = 100,
        reach: float = 2.0,
    ) -> CrossValidation:
        """Return what heads of several strengths make of samples that they did not learn from.

        Parameters
        ----------
        targets, sample_weights, products, reach
            As for `fit`, of each fit. Samples of weight 0 are judged by none.
        folds
            Shape (n,): which samples are held out together (`learning.folds`); below 0: never, as
            rehearsal samples are.
        pulls
            Strengths to compare, beside infinity; from strong to weak until two in a row lose by
            more than two standard errors.

        Raises
        ------
        ValueError
            As `fit`.
        """
        folds = np.asarray(folds, np.int64)
        weights = np.array(sample_weights, np.float64)
        ordered = (np.inf, *sorted({float(p) for p in pulls} - {np.inf}, reverse=True))
        self._aim(targets, weights, reach)
        if folds.shape != weights.shape:
            raise ValueError(f"folds: expected shape {weights.shape}, got {folds.shape}")
        targets = np.asarray(targets)
        labels = targets if targets.ndim == 1 else targets.argmax(axis=1)
        held = np.flatnonzero((folds >= 0) & (weights > 0))
        answers = np.zeros((len(ordered), len(held)), np.int64)
        losses = np.zeros((len(ordered), len(held)))
        taken = tried = 0
        for i, pull in enumerate(ordered):
            for fold in np.unique(folds[held]):  # each fit from the one before on
                out = folds[held] == fold
                self._aim(targets, np.where(folds == fold, 0.0, weights), reach)
                taken += self._fit(pull, products, _COARSE, warm=i > 0).products
                logs = log_softmax(self._solver.logits()[held[out]])
                answers[i, out] = logs.argmax(axis=1)
                if targets.ndim == 1:
                    losses[i, out] = -logs[np.arange(len(logs)), labels[held[out]]]
                else:
                    losses[i, out] = -(logs * targets[held[out]]).sum(axis=1)
            losses[i] = np.minimum(losses[i], _MOST_LOSS)
            tried = i + 1
            found = CrossValidation(
                ordered[:tried],
                held,
                weights[held],
                np.asarray(labels[held], np.int64),
                answers[:tried],
                losses[:tried],
                taken,
            )
            if tried >= _LEAST_TRIED and found.is_past:
                break
        return found

    def _aim(self, targets: Any, sample_weights: Any, reach: float) -> None:
        if self._start is None:
            raise ValueError("embeddings: expected samples (load), got none")
        targets = np.asarray(targets)
        dtype = np.int64 if targets.ndim == 1 else np.float64
        if dtype is np.int64 and targets.dtype.kind not in "iu" and targets.size:
            raise ValueError(f"targets: expected classes, got {targets.dtype}")
        self._solver.aim(
            np.ascontiguousarray(targets, dtype),
            np.ascontiguousarray(sample_weights, np.float64),
            reach,
        )

    def _fit(
        self, pull: float, products: int, tolerance: float, *, warm: bool = False
    ) -> _core.SoftmaxHead.Outcome:
        # Two rows that part have half the prior of one that moves alone.
        held = 2.0 * pull if self._rows == 1 else pull
        return self._solver.fit(held, products=products, tolerance=tolerance, warm=warm)
