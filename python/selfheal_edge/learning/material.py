"""What a strategy that learns is given, and what it leaves for the next one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.learning.alignment import carried, class_shares
from selfheal_edge.learning.bench import Bench, BenchAnswers
from selfheal_edge.learning.contents import leaders, nearest_others, reach_among
from selfheal_edge.learning.errors import units_of
from selfheal_edge.learning.guard import credibility
from selfheal_edge.learning.head import Head
from selfheal_edge.learning.patch import InputMap, Patch
from selfheal_edge.learning.pool import Labelled
from selfheal_edge.learning.reference import LearningReference
from selfheal_edge.tflite.input_table import MOST_FEATURES

__all__ = ["LEAST_WINDOW", "Material", "Note"]

LEAST_WINDOW: Final = 32
"""Inputs of the condition, below which nothing is learned of it."""

_FAR_MIX: Final = 0.3
"""Total variation between shares of answers and calibration's, beyond what chance does."""
_UNSURE: Final = 0.15
"""Of golden's mean confidence."""

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Changes = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Note:
    """What a strategy knows of a patch that it made, beside its bytes."""

    weights: Floats
    """Of the head, before they were rounded to the file's type: shape (rows, dimensions)."""
    bias: Floats
    """Likewise: shape (rows,)."""
    out_of_fold: npt.NDArray[Any] | None = None
    """What it answers to each labelled input when it has not learned that label, int64 of shape
    (k,), of a regressor float64 of shape (k, numbers); None where it has learned no label."""
    inner: tuple[tuple[int, bytes], ...] = ()
    """What it changes before the head, as in `Patch.changes`."""
    refit: Callable[[npt.NDArray[np.int64]], tuple[tuple[Floats, Floats], ...]] | None = None
    """Returns heads, as weights and biases, that have not learned the labels of each fold: of a
    fold of each label, from 0 on. None where no label was learned."""


@dataclass(frozen=True, eq=False)
class Material:
    """All that is known when a repair is proposed."""

    reference: LearningReference
    head: Head | None
    """Golden's last layer; None where none can be changed."""
    bench: Bench
    window: Array
    """Raw inputs of the condition, shape (n, ...), the oldest first."""
    labelled: Labelled
    """Samples of the trusted pool that belong to the condition."""
    mix_moved: bool
    """Whether the diagnosis says that the mix of classes moved."""
    cause: Cause
    kind: str
    """Within the cause: "gain", "offset", "channel" ...; empty where it is not told."""
    rng: np.random.Generator
    _notes: dict[int, tuple[Patch, Note]] = field(default_factory=dict, repr=False)
    _answers: dict[tuple[int, bytes, Changes], tuple[Array, BenchAnswers]] = field(
        default_factory=dict, repr=False
    )

    def __post_init__(self) -> None:
        """Refuse labels that are no classes, and weights that are no weights."""
        if len(self.labelled.inputs) != len(self.labelled.labels):
            raise ValueError(
                f"labelled: expected as many labels as inputs, got {len(self.labelled.labels)} "
                f"for {len(self.labelled.inputs)}"
            )
        weights = self.labelled.weights
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError("labelled: expected weights from 0 on, got others")
        labels, classes = self.labelled.labels, max(2, self.reference.classes)
        targets = self.reference.targets
        if targets is not None:
            if labels.shape[1:] != targets.shape[1:] or not np.isfinite(labels).all():
                raise ValueError(
                    f"labelled: expected finite targets of {targets.shape[1]} number(s), got "
                    f"shape {labels.shape} and dtype {labels.dtype}"
                )
        elif len(labels) and not (labels.min() >= 0 and labels.max() < classes):
            raise ValueError(
                f"labelled: expected classes 0 to {classes - 1}, "
                f"got {labels.min()} to {labels.max()}"
            )

    def of_sources(self, names: Collection[str]) -> Material:
        """Return it with the labels of these sources alone; answers that are known are shared."""
        return self.told(np.array([name in names for name in self.labelled.sources], bool))

    def told(self, those: npt.NDArray[np.bool_]) -> Material:
        """Return it with these labels alone: shape (k,)."""
        found = replace(self, labelled=self.labelled.only(those))
        for shared in ("golden", "carried"):  # they are the same without a label
            if shared in self.__dict__:
                found.__dict__[shared] = self.__dict__[shared]
        return found

    def note(self, patch: Patch, note: Note) -> Patch:
        """Remember what is known of a patch; returns it."""
        self._notes[id(patch)] = patch, note
        return patch

    def noted(self, patch: Patch) -> Note | None:
        """Return what is known of a patch; None where its head is not known.

        A patch that changes no weight has golden's head.
        """
        found = self._notes.get(id(patch))
        if found is not None:
            return found[1]
        if patch.changes or self.head is None:
            return None
        return Note(self.head.weights, self.head.bias)

    def golden_on(
        self, inputs: Array, correction: InputMap | None = None, inner: Changes = ()
    ) -> BenchAnswers:
        """Return what golden answers to inputs that were corrected, asked once for each array.

        Its embeddings are those of every patch with the same correction and inner layers: the head
        comes after them.
        """
        key = id(inputs), b"" if correction is None else correction.to_bytes(), inner
        found = self._answers.get(key)
        if found is None:  # inputs are kept, so that nothing else gets their id
            patch = Patch(inner, correction) if inner or correction is not None else None
            found = inputs, self.bench.answers(inputs, patch)
            self._answers[key] = found
        return found[1]

    @cached_property
    def can_correct_inputs(self) -> bool:
        """Whether the hot path can correct this model's inputs, and may.

        A recurrent model's state goes on from inputs as they came: it learns by its last layer.
        """
        shape, dtype = self.reference.inputs.shape[1:], self.reference.inputs.dtype
        return (
            not self.bench.is_recurrent
            and dtype.name in ("int8", "uint8", "float32")
            and shape[self.reference.axis] <= MOST_FEATURES
        )

    def embeddings(
        self, inputs: Array, correction: InputMap | None = None, inner: Changes = ()
    ) -> Floats | None:
        """Return embeddings in real units, shape (n, dimensions); None where there are none."""
        found = self.golden_on(inputs, correction, inner).embeddings
        return None if found is None else found.astype(np.float64)

    @cached_property
    def units(self) -> Floats:
        """What a regressor's errors are counted in: `learning.errors.units_of`."""
        targets, values = self.reference.targets, self.golden_on(self.reference.inputs).values
        assert targets is not None, "it is a regressor"
        assert values is not None, "it has no classes"
        return units_of(values, targets)

    def told_values(self, patch: Patch) -> Floats | None:
        """Return what a regressor's patch answers to labelled inputs that it has not learned.

        Shape (k, numbers); None where its last layer is not known.
        """
        note = self.noted(patch)
        if note is None or not len(self.labelled):
            return None if note is None else np.empty((0, len(note.bias)))
        if note.out_of_fold is not None:
            return np.asarray(note.out_of_fold, np.float64)
        inside = self.embeddings(self.labelled.inputs, patch.inputs, note.inner)
        return None if inside is None else np.asarray(inside @ note.weights.T + note.bias)

    @property
    def reconstructs(self) -> bool:
        """Whether the model is an autoencoder: labels are 0 for normal, and 1 for abnormal."""
        return self.bench.threshold is not None

    @cached_property
    def golden(self) -> Patch:
        """The patch that changes nothing."""
        return Patch()

    @cached_property
    def shares(self) -> Floats:
        """The condition's mix of classes, shape (classes,), as far as labels tell it."""
        weights = self.labelled.weights.astype(np.float64) * self.credible
        return class_shares(self.reference, self.labelled.labels, weights)

    @cached_property
    def credible(self) -> Floats:
        """How likely each label is right, before anything was learned from them: shape (k,)."""
        labels = self.labelled.labels
        is_judged = len(labels) > 0 and self.reference.targets is None
        seen = self.golden_on(self.labelled.inputs) if is_judged else None
        if seen is None or seen.scores.shape[1] <= labels.max():
            return np.ones(len(labels))
        inside, moments, places = seen.embeddings, self.reference.embeddings, None
        if inside is not None and moments is not None:
            places = inside / np.sqrt(moments.variance_within)
        return credibility(np.nan_to_num(seen.scores), labels, places)

    @cached_property
    def contents(self) -> npt.NDArray[np.int64]:
        """Which labelled samples are of one content, by golden's embeddings: shape (k,)."""
        rows = self.embeddings(self.labelled.inputs) if len(self.labelled) else None
        known = None if rows is None else self.embeddings(self.reference.inputs)
        if rows is None or known is None:
            return np.arange(len(self.labelled), dtype=np.int64)
        return leaders(rows, reach_among(nearest_others(known), len(rows)))

    @property
    def knows_mix(self) -> bool:
        """Whether labels say that the mix is another than calibration's."""
        return self.shares is not self.reference.priors

    @cached_property
    def is_mix_in_doubt(self) -> bool:
        """Whether the mix of classes moved, or looks so, and labels do not tell how.

        Golden's answers gather on few classes under a strong drift as well, but it is unsure then.
        """
        return not self.knows_mix and (self.mix_moved or self.looks_skewed())

    def looks_skewed(self, correction: InputMap | None = None) -> bool:
        """Whether golden's answers gather on few classes, and it is sure of them.

        Parameters
        ----------
        correction
            Of the inputs: a fault that is corrected gathers no answers any more.
        """
        priors, count = self.reference.priors, len(self.window)
        if len(priors) < 2 or not count:
            return False
        seen = self.golden_on(self.window, correction)
        if seen.scores.shape[1] != len(priors) or not np.isfinite(seen.scores).all():
            return False
        named = np.bincount(seen.labels, minlength=len(priors)) / count
        away = 0.5 * float(np.abs(named - priors).sum())
        by_chance = float(np.sqrt(len(priors) / (2.0 * np.pi * count)))
        usual = float(self.golden_on(self.reference.inputs).scores.max(axis=1).mean())
        is_sure = float(seen.scores.max(axis=1).mean()) > usual - _UNSURE
        return away > _FAR_MIX + by_chance and is_sure

    @cached_property
    def carried(self) -> Array | None:
        """Golden's held inputs, carried into the condition; None where that cannot be done."""
        if len(self.window) < LEAST_WINDOW:
            return None
        return carried(self.reference, self.window)
