"""Whether a label is plausible: by its distance to the class, and by what others say nearby."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.monitoring.embedding import Embedding

__all__ = ["Admission", "ClassPlaces", "Neighbour"]

_NEIGHBOURS: Final = 6
_LEAST: Final = 3
_AGREED: Final = 0.5
_DOUBTED: Final = 0.25
_UNUSUAL: Final = 0.5
_FEWEST_CLASSES: Final = 2
_TINY: Final = 1e-12

Floats = npt.NDArray[np.float32]


class Neighbour(NamedTuple):
    """Labelled samples of other sources; of n of them arrays of shape (n, width) and (n,)."""

    embeddings: Floats
    labels: npt.NDArray[np.int64]


class Admission(NamedTuple):
    """What is made of a label."""

    weight: float
    """0: it is not to be learned from; at most 1."""
    reason: str = ""
    """Why its weight is below 1."""


class ClassPlaces:
    """Where the classes lie before the last layer, for judging labels by.

    Parameters
    ----------
    embedding
        From the baseline; None for models without one.
    classes
        Of the model.

    Notes
    -----
    A label is far from its class when its distance to it is more times that to the nearest class
    than an input of one class has to another one in the middle of all pairs: as a label is that
    was drawn at random. Drift brings all classes about as far away, so that a right label is the
    less likely to be called far the more inputs have drifted.
    """

    def __init__(self, embedding: Embedding | None, classes: int | None) -> None:
        self._table: Floats | None = None
        self._scales = np.ones(0, np.float32)
        self.limit = np.inf
        """Ratio of distances above which a label is far."""
        if embedding is None or classes is None or len(embedding.classes) < _FEWEST_CLASSES:
            return
        self._table = embedding.table(classes)
        self._scales = embedding.scale_table(classes)
        self._root = np.sqrt(embedding.precision / max(1, embedding.precision.size))
        known = embedding.centroids * self._root
        apart = np.square(known[:, None, :] - known[None, :, :]).sum(axis=2)
        pairs = apart[~np.eye(len(known), dtype=bool)]
        self.limit = float(np.sqrt(1.0 + np.median(pairs)))

    def ratio(self, embedding: Floats | None, label: int) -> float:
        """Return the distance to a label's class over that to the nearest class; NaN if unknown."""
        if self._table is None or embedding is None or embedding.size != self._table.shape[1]:
            return float("nan")
        if not 0 <= label < len(self._table):
            return float("nan")
        with np.errstate(over="ignore", invalid="ignore"):  # of a damaged model
            away = (self._table - embedding.reshape(1, -1)) * self._root
            distances = np.sqrt(np.square(away).sum(axis=1)) * self._scales
        found = distances[np.isfinite(distances)]  # a class may have no place
        if not len(found):
            return float("nan")
        return float(distances[label]) / max(float(found.min()), _TINY)

    def judge(
        self,
        embedding: Floats | None,
        label: int,
        others: Neighbour,
        *,
        is_authenticated: bool,
    ) -> Admission:
        """Return what a label weighs, and why not more.

        Parameters
        ----------
        embedding
            Of the input, dequantised; None without one.
        label
            Its class, as the source says.
        others
            Labelled samples of other sources.
        is_authenticated
            Whether the source is.
        """
        ratio = self.ratio(embedding, label)
        is_far = ratio > self.limit  # not where it is unknown, which is NaN
        agreed = self._agreement(embedding, label, others)
        said = f"{ratio:.1f} times as far from its class as from the nearest one"
        if agreed is None:
            if not is_far:
                return Admission(1.0)
            if is_authenticated:
                return Admission(_DOUBTED, said)
            return Admission(0.0, f"{said}, from an unauthenticated source")
        share = f"{agreed:.0%} of other sources' labels nearby agree"
        if agreed >= _AGREED:
            return Admission(1.0)
        if is_far:
            return Admission(0.0, f"{said}, and {share}")
        return Admission(_UNUSUAL if not agreed else 1.0, share if not agreed else "")

    def _agreement(self, embedding: Floats | None, label: int, others: Neighbour) -> float | None:
        """Return the share of labels nearby that agree; None where too few are near."""
        if self._table is None or embedding is None or len(others.labels) < _LEAST:
            return None
        if others.embeddings.shape[1] != embedding.size:
            return None
        if not np.isfinite(embedding).all():
            return None
        with np.errstate(over="ignore"):  # of a model that is damaged
            apart = (others.embeddings - embedding.reshape(1, -1)) * self._root
            away = np.square(apart).sum(axis=1)
            reach = self._reach(embedding)
        if not np.isfinite(reach):
            return None  # it is beyond all that was seen: nothing is near
        # Two inputs of a class lie some sqrt(2) spreads apart.
        near = np.flatnonzero(away <= reach)
        if len(near) < _LEAST:
            return None
        near = near[np.argsort(away[near], kind="stable")[:_NEIGHBOURS]]
        return float(np.mean(others.labels[near] == label))

    def _reach(self, embedding: Floats) -> float:
        assert self._table is not None
        away = np.square((self._table - embedding.reshape(1, -1)) * self._root).sum(axis=1)
        return 2.0 * max(1.0, float(np.nanmin(away)))
