"""Where the classes lie in the space before the last layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from selfheal_edge.text import quoted
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec

__all__ = [
    "RUN",
    "Embedding",
    "find_embedding",
    "find_inner",
    "find_part",
    "fit_classes",
    "why_too_near",
]

_MEASURABLE: Final = frozenset({"int8", "uint8", "int16", "float32"})
_SHRINKAGE: Final = 0.01
_MOST_WHOLE_BYTES: Final = 4096
RUN: Final = 16
"""Elements that lie together, of the part of a wide embedding that is measured."""
_RUNS: Final = 64
_MOST_INNER: Final = 3
_MOST_INNER_BYTES: Final = 16 * 1024
_STAGES: Final = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD"})
"""Operators whose results stand for a stage."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """The tensor that is tapped, and what calibration knows of the classes in it."""

    tensor: int
    """Index in subgraph 0 of the user's file."""
    classes: npt.NDArray[np.int64]
    """Classes whose place is known, rising: those that at least two samples belong to."""
    centroids: npt.NDArray[np.float32]
    """Their mean embedding, dequantised: shape (known classes, dimensions). Of a wide tensor the
    dimensions are the part of it that `find_part` chose."""
    precision: npt.NDArray[np.float32]
    """One over the variance around the centroids, pooled over classes: shape (dimensions,)."""
    scales: npt.NDArray[np.float32]
    """What a distance to each class is multiplied by: 1 / sqrt(1 + 1 / n) for a class of which
    calibration saw n samples, for so much less well is the place of a rare one known."""

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        known = len(self.classes)
        if self.centroids.shape != (known, self.precision.size) or self.precision.ndim != 1:
            raise ValueError(
                f"embedding: expected {known} centroids of {self.precision.size} dimensions, "
                f"got shape {self.centroids.shape}"
            )
        if known and (self.classes[0] < 0 or (np.diff(self.classes) <= 0).any()):
            raise ValueError("embedding: expected classes that rise from 0 on")
        if self.scales.shape != (known,) or not ((self.scales > 0) & (self.scales <= 1)).all():
            raise ValueError(
                f"embedding: expected {known} scales, above 0 and at most 1, got {self.scales}"
            )
        if not (np.isfinite(self.centroids).all() and np.isfinite(self.precision).all()):
            raise ValueError("embedding: expected finite numbers")
        if (self.precision < 0).any():
            raise ValueError("embedding: expected precisions that are not negative")

    def without_classes(self) -> Embedding:
        """Return the same tensor, with no class's place known."""
        return _nothing(self.tensor, self.precision.size)

    def part(self, size: int) -> npt.NDArray[np.int64]:
        """Return the elements of a tensor of `size` elements that are the dimensions, rising."""
        width = self.precision.size
        return np.arange(size) if width == size else _spread(size, width // RUN)

    def distances(
        self, rows: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return how far samples lie from the classes that were named, as serving measures it.

        Parameters
        ----------
        rows
            Their embeddings, dequantised, what is measured of them: shape (n, dimensions).
        labels
            What the model named, shape (n,): NaN comes for a class without a place.
        """
        named = self.table(int(max(labels.max(initial=0), self.classes.max(initial=0))) + 1)
        squares = np.square(rows - named[labels]) @ self.precision.astype(np.float64)
        return np.asarray(np.sqrt(squares) * self.scale_table(len(named))[labels])

    def table(self, classes: int) -> npt.NDArray[np.float32]:
        """Return a row for each of `classes` classes; NaN where the place is not known."""
        if len(self.classes) and self.classes[-1] >= classes:
            raise ValueError(f"embedding: expected classes below {classes}, got {self.classes[-1]}")
        rows = np.full((classes, self.precision.size), np.nan, np.float32)
        rows[self.classes] = self.centroids
        return rows

    def scale_table(self, classes: int) -> npt.NDArray[np.float32]:
        """Return a scale for each of `classes` classes; 1 where the place is not known."""
        scales = np.ones(classes, np.float32)
        scales[self.classes] = self.scales
        return scales


def find_embedding(
    model: ModelFile, name: str | Literal[False] | None, *, is_regression: bool = False
) -> int | None:
    """Return the index of the tensor to tap, or None where a model has no embedding.

    Parameters
    ----------
    model
        The user's file.
    name
        A tensor of subgraph 0 that an operator computes; None for the input of a classifier's last
        layer, if it has one that can be measured; False for none.
    is_regression
        Whether its answers are numbers that have targets: then None is for the input of the last
        layer as well.

    Raises
    ------
    ValueError
        When the named tensor is missing, not unique, not computed, or of a dtype or shape that is
        not measured.
    """
    tensors = model.subgraphs[0].tensors
    computed = {i for operator in model.subgraphs[0].operators for i in operator.outputs}
    if name is None:
        head = model.head
        if head is None and is_regression and not isinstance(model.regression, str):
            head = model.regression
        if head is None:
            return None
        found = tensors[head.embedding]
        # One row a sample: with several, which of them the label belongs to cannot be said.
        fits = found.size == head.embedding_size and found.index in computed
        return found.index if fits and found.dtype in _MEASURABLE else None
    if name is False:
        return None
    if not isinstance(name, str):
        raise TypeError(
            f"embedding: expected a tensor's name, None or False, got {type(name).__name__}"
        )
    named = [tensor for tensor in tensors if tensor.name == name]
    if len(named) != 1:
        raise ValueError(
            "embedding: expected the name of one tensor of the model, "
            f"got {quoted(name)} ({len(named)})"
        )
    found = named[0]
    if found.index not in computed or found.is_variable:
        raise ValueError(
            f"embedding: expected a tensor that an operator computes, got {quoted(name)}"
        )
    if found.dtype not in _MEASURABLE or found.size < 1:
        raise ValueError(
            "embedding: expected int8, uint8, int16 or float32 with a known shape, "
            f"got {quoted(name)} of {found.dtype} {found.shape}"
        )
    return found.index


def find_part(spec: TensorSpec) -> npt.NDArray[np.int64]:
    """Return which elements of an embedding are measured, rising.

    All, of a tensor of at most 4 KiB; else 64 runs of 16, evenly spread. More would cost each
    inference its time, and tell no more: in very many dimensions a distance hardly varies, so that
    the samples that calibration learned from lie apart from all others.
    """
    size = int(np.prod(spec.shape, dtype=np.int64))
    is_wide = size * spec.dtype.itemsize > _MOST_WHOLE_BYTES
    return _spread(size, _RUNS) if is_wide else np.arange(size)


def _spread(size: int, runs: int) -> npt.NDArray[np.int64]:
    starts = np.arange(runs) * (size - RUN) // max(1, runs - 1)
    return (starts[:, None] + np.arange(RUN)).reshape(-1)


def find_inner(
    model: ModelFile, names: Literal["stages"] | Sequence[str], embedding: int | None
) -> tuple[int, ...]:
    """Return the indices of further tensors to tap.

    Parameters
    ----------
    model
        The user's file.
    names
        Tensors of subgraph 0 that an operator computes, at most three, each of at most 16 KiB; or
        ``"stages"``: of the results of convolutions, dense layers and additions that are no larger,
        the last one of each of the last three sizes (height and width, or width of a vector).
    embedding
        What is tapped already; without one nothing else is.

    Raises
    ------
    TypeError, ValueError
        Naming what was expected and what came; as `find_embedding` for each name.
    """
    if names == "stages":
        return () if embedding is None else _stages(model, embedding)
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(f"inner: expected 'stages' or a tuple of names, got {names!r}")
    if len(names) > _MOST_INNER:
        raise ValueError(f"inner: expected at most {_MOST_INNER} names, got {len(names)}")
    if names and embedding is None:
        raise ValueError("inner: expected none without an embedding, got some")
    found = []
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"inner: expected names of tensors, got {type(name).__name__}")
        index = find_embedding(model, name)
        assert index is not None, "a name is found or refused"
        if index == embedding or index in found or not _is_small(model, index):
            raise ValueError(
                "inner: expected different tensors beside the embedding, of at most "
                f"{_MOST_INNER_BYTES} bytes, got {quoted(name)}"
            )
        found.append(index)
    return tuple(found)


def _is_small(model: ModelFile, index: int) -> bool:
    tensor = model.subgraphs[0].tensors[index]
    return tensor.size * np.dtype(tensor.dtype).itemsize <= _MOST_INNER_BYTES


def _stages(model: ModelFile, embedding: int) -> tuple[int, ...]:
    graph = model.subgraphs[0]
    last: dict[tuple[int, ...], int] = {}
    for operator in graph.operators:
        if operator.name not in _STAGES:
            continue
        for index in operator.outputs:
            tensor = graph.tensors[index]
            if (
                tensor.dtype in _MEASURABLE
                and tensor.size > 1
                and index != embedding
                and index not in graph.outputs
                and (model.head is None or index != model.head.logits)
                and _is_small(model, index)
            ):
                size = tensor.shape[1:-1] if len(tensor.shape) == 4 else tensor.shape
                last[size] = index
    return tuple(sorted(last.values())[-_MOST_INNER:])


def fit_classes(
    tensor: int,
    spec: TensorSpec,
    raw: Array,
    members: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
) -> tuple[Embedding, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Learn where the classes lie, and how far from them samples are.

    Parameters
    ----------
    tensor, spec
        What is tapped.
    raw
        Embeddings of the calibration samples, what is measured of them: shape (n, dimensions).
    members
        The class that each sample belongs to; -1 for none.
    predicted
        The class that the model names; -1 for none.

    Returns
    -------
    Embedding, numpy.ndarray, numpy.ndarray
        And how far from the centroid of the class that the model names a *new* sample like this one
        would be, times the class's scale; NaN where that class has none: shape (n,). And how far
        the sample itself is, were it served again: nearer, since it had its part in the centroid.

    Notes
    -----
    Variances are pooled over classes with n - k degrees of freedom. To each are added the variance
    of a quantisation step and a hundredth of the mean variance, so that a dimension that
    calibration saw constant does not outweigh all others.

    A sample is measured with variances that leave it out. Its difference from a centroid that it is
    part of varies as 1 - 1 / n, that of a new one as 1 + 1 / n, with n the samples of the class;
    either is scaled to 1, so that rare classes are no farther away than others. In many dimensions
    a distance varies by a few percent only, and samples that had a part in what they are compared
    with would lie whole standard deviations nearer than new ones. Cost: float64 copies of one
    class's samples at a time.
    """
    known, counts = np.unique(members[members >= 0], return_counts=True)
    known, counts = known[counts >= 2], counts[counts >= 2]
    width = raw.shape[1]
    freedom = int(counts.sum()) - len(known)
    scale, zero_point = (spec.scale, spec.zero_point) if spec.quantized else (1.0, 0)
    distances = np.full(len(raw), np.nan)
    again = np.full(len(raw), np.nan)
    if freedom < 2:
        return _nothing(tensor, width), distances, distances
    step = scale * scale / 12.0 if spec.quantized else 0.0

    def real(rows: Array) -> npt.NDArray[np.float64]:
        return scale * (rows.astype(np.float64) - zero_point)

    def weights(squares: npt.NDArray[np.float64], free: int) -> npt.NDArray[np.float64]:
        pooled = squares / free
        variance = pooled + _SHRINKAGE * pooled.mean(axis=-1, keepdims=True) + step
        precision = np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0.0)
        return np.asarray(np.minimum(precision, np.finfo(np.float32).max))

    centroids = np.empty((len(known), width))
    squares = np.zeros(width)
    for row, label in enumerate(known):
        values = real(raw[members == label])
        centroids[row] = values.mean(axis=0)
        squares += np.square(values - centroids[row]).sum(axis=0)
    if not np.isfinite(centroids).all() or not np.isfinite(squares).all():
        return _nothing(tensor, width), distances, distances
    precision = weights(squares, freedom)
    scales = 1.0 / np.sqrt(1.0 + 1.0 / counts)
    rows_of = dict(zip(known.tolist(), range(len(known)), strict=True))
    for member in np.unique(members).tolist():
        chosen = np.flatnonzero(members == member)
        away = real(raw[chosen])
        own = precision
        count = 0
        if member in rows_of:
            count = len(chosen)
            mine = np.square(away - centroids[rows_of[member]]) * (count / (count - 1.0))
            own = weights(np.maximum(squares - mine, 0.0), freedom - 1)
        for named in np.intersect1d(predicted[chosen], known).tolist():
            which = predicted[chosen] == named
            squared = np.square(away[which] - centroids[rows_of[named]])
            if named == member:
                squared *= count / (count - 1.0)
            else:
                squared *= scales[rows_of[named]] ** 2
            per_sample = own[which] if own.ndim == 2 else own
            distances[chosen[which]] = np.sqrt((squared * per_sample).sum(axis=1))
    if np.isfinite(distances).sum() < 2:
        return _nothing(tensor, width), distances, distances
    found = Embedding(
        tensor,
        known.astype(np.int64),
        centroids.astype(np.float32),
        precision.astype(np.float32),
        scales.astype(np.float32),
    )
    for named in found.classes.tolist():
        chosen = np.flatnonzero(predicted == named)
        again[chosen] = found.distances(real(raw[chosen]), predicted[chosen])
    return found, distances, again


def why_too_near(
    new: npt.NDArray[np.float64], again: npt.NDArray[np.float64], interval: float
) -> str | None:
    """Return why calibration's own inputs, were they served again, would alarm; None: not so.

    Parameters
    ----------
    new, again
        As `fit_classes` returned them.
    interval
        Predictions between two false alarms.

    Notes
    -----
    Samples that lie d standard deviations nearer give a chart d^2 / 2 each of the logarithm of a
    likelihood ratio, which it compares with the logarithm of the interval.
    """
    known = np.isfinite(new) & np.isfinite(again)
    spread = new[known].std() if known.any() else 0.0
    if not spread > 0.0:
        return None
    nearer = float((new[known] - again[known]).mean() / spread)
    if nearer <= 0.0 or known.sum() * nearer**2 / 2.0 <= np.log(interval):
        return None
    return (
        f"calibration's own samples lie {nearer:.2f} standard deviations nearer to their classes "
        "than new ones; more samples a class bring them together"
    )


def _nothing(tensor: int, width: int) -> Embedding:
    return Embedding(
        tensor,
        np.empty(0, np.int64),
        np.empty((0, width), np.float32),
        np.zeros(width, np.float32),
        np.empty(0, np.float32),
    )
